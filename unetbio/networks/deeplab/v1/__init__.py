"""DeepLab v1."""
