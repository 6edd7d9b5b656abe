"""Snakemake rules; ``python -m unetbio.pipelines`` prints where the workflow lies, for ``snakemake --snakefile``."""

from pathlib import Path

__all__ = ["SNAKEFILE"]

SNAKEFILE = Path(__file__).with_name("workflow.smk")
"""The workflow, to run as it is or to use as a Snakemake module."""
