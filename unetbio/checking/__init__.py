"""Checks before a run: damaged files, files that do not fit the model, duplicates and outliers."""
