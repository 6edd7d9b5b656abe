"""Lessons: variants that show the effect of one trick of the lecture."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LESSONS", "Lesson"]


@dataclass(frozen=True)
class Lesson:
    """One trick of the lecture, and the variants that show its effect.

    Parameters
    ----------
    title : str
        Heading.
    question : str
        Question that the comparison answers.
    names : tuple of str
        Variants, in the order of the argument.
    """

    title: str
    question: str
    names: tuple[str, ...]


LESSONS: Mapping[str, Lesson] = {
    "upsampling": Lesson(
        "Upsampling",
        "Without skip connections all detail has to come back by upsampling: which way restores it?",
        (
            "unet:skip=none:upsampling=nearest",
            "unet:skip=none:upsampling=bed_of_nails",
            "unet:skip=none:upsampling=bilinear",
            "unet:skip=none:upsampling=max_unpooling",
            "unet:skip=none",
        ),
    ),
    "skips": Lesson(
        "Skip connections",
        "How much detail do skips bring back, and does it matter whether they are summed or concatenated?",
        ("fcn32s", "fcn16s", "fcn8s", "unet:skip=none", "unet:skip=sum", "unet"),
    ),
    "dilation": Lesson(
        "Dilated convolution",
        "What does seeing further cost, and bring, when no resolution is given up for it?",
        ("deeplab_v1:dilation=1", "deeplab_v1", "dilated_context"),
    ),
    "scale": Lesson(
        "Multi-scale context",
        "Do networks that look at several scales at once find small and large cells alike?",
        ("dilated_context:context=none", "dilated_context", "deeplab_v3", "pspnet"),
    ),
    "crf": Lesson(
        "Fully connected CRF",
        "Does the image itself sharpen what a coarse network answers, and what does it do to a fine one?",
        ("fcn32s", "fcn32s+crf", "deeplab_v1", "deeplab_v1+crf", "unet", "unet+crf"),
    ),
    "weights": Lesson(
        "Weights of the loss",
        "Do touching cells stay apart because the loss asks for it?",
        ("unet:loss=dice", "unet:border_weight=0", "unet"),
    ),
}
