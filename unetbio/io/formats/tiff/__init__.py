"""TIFF in all its dialects."""
