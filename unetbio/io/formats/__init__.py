"""File formats, one module each or a few modules a format."""
