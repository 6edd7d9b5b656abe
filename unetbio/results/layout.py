"""Names of the files that an output folder has once, for whoever looks for one without reading it."""

__all__ = ["CELLS", "CELLS_TEXT", "CLASSES", "PAGE", "SUMMARY"]

SUMMARY = "summary.csv"
CELLS = "cells.parquet"
CELLS_TEXT = "cells.csv"
CLASSES = "classes.csv"
PAGE = "index.html"
