"""Find the scale of an image by itself, where neither its pixel size nor the diameter of its cells is known."""
