"""The sliding window: a patch classifier."""
