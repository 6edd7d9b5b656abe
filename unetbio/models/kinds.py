"""Kinds of images: what a shipped model is for, and how to train a model for those that none is for."""

from typing import NamedTuple

__all__ = ["SHIPPED_FOR", "UNSHIPPED", "Unshipped"]

SHIPPED_FOR = {
    "nuclei": "nuclei in fluorescence",
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
        "nuclei in stained tissue (H&E)",
        "BBBC038; Naylor et al. 2018, doi 10.5281/zenodo.1175282",
        "unetbio train IMAGES MASKS -o histology.safetensors",
    ),
    Unshipped(
        "whole cells in phase contrast",
        "Usiigaci 2019, doi 10.1016/j.softx.2019.02.007",
        "unetbio train IMAGES MASKS -o phase.safetensors",
    ),
    Unshipped(
        "nuclei in stacks",
        "BBBC050; Go-Nuclear (S-BIAD1026)",
        "unetbio train STACKS MASKS --axes ZYX --pixel-size 2,0.5 -o nuclei-3d.safetensors",
    ),
    Unshipped(
        "membranes in electron microscopy",
        "ISBI 2012, doi 10.3389/fnana.2015.00142",
        "unetbio train IMAGES MASKS --target classes --class-values 0,255 -o membranes.safetensors",
    ),
)
