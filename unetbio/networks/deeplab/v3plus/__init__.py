"""DeepLab v3+."""
