"""Pages that work offline, and pictures."""
