"""DeepLab v3."""
