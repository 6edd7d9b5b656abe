"""Measure cells and frames for the tables."""
