"""Scores of label images and of class masks."""
