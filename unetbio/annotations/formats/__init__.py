"""Formats of annotations, one file each."""
