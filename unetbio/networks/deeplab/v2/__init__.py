"""DeepLab v2."""
