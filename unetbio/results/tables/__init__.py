"""The tables of an output folder: a row an image or frame, a row a cell."""
