"""Run a network over an image: exact tiles, decisions in float64 near a threshold, sliding windows."""
