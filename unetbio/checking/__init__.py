"""Before a run: what the files hold, which cannot be used, and which are unlike the others or the model's images."""
