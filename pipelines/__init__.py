"""Snakemake rules."""
