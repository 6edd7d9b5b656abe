"""Annotated images: find, read and check them, and draw patches."""
