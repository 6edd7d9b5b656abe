"""What a model learns and what its answer means."""
