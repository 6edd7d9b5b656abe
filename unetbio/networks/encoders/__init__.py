"""Encoders that several families share."""
