"""Checks of annotated images before the first step of a training: masks that cannot be right, and duplicates."""
