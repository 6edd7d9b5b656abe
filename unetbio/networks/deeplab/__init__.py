"""DeepLab v1 to v3+."""
