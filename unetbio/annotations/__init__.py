"""Outlines and masks that were drawn in other programs, as label images."""
