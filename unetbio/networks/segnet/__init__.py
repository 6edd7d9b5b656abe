"""SegNet."""
