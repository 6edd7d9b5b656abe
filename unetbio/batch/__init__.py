"""Many images: plan, journal, resume, tables."""
