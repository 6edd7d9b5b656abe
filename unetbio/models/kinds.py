"""Kinds of images: what a shipped model is for, and how to train a model for those that none is for."""

from typing import NamedTuple

__all__ = ["SHIPPED_FOR", "UNSHIPPED", "Unshipped"]

SHIPPED_FOR = {
    "cells-phase": "whole cells of one line (T98G) in phase contrast",
    "nuclei": "nuclei in fluorescence",
    "nuclei-3d": "nuclei of mouse embryos in stacks, in three dimensions",
    "nuclei-histology": "nuclei in stained tissue (H&E)",
}
"""Objects that each shipped model finds, by the model's name."""


class Unshipped(NamedTuple):
    """A kind of image that no shipped model is for.

    Parameters
    ----------
    objects : str
        What a model would find.
    data : str
        Public collections with masks.
    command : str
        Trains a model from images and masks; words in capitals stand for folders.
    """

    objects: str
    data: str
    command: str


UNSHIPPED = (
    Unshipped(
        "whole cells of other lines in phase contrast",
        "LIVECell, doi 10.1038/s41592-021-01249-6",
        "unetbio train IMAGES MASKS --start cells-phase -o mine.safetensors",
    ),
    Unshipped(
        "membranes in electron microscopy",
        "ISBI 2012, doi 10.3389/fnana.2015.00142",
        "unetbio train IMAGES MASKS --target classes --class-values 0,255 -o membranes.safetensors",
    ),
)
