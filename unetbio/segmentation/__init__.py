"""Segment one image into a label image or class mask, in steps that a batch runs in parallel."""

from unetbio.segmentation.image import ModelName, Segmentation, segment, stack_frames
from unetbio.segmentation.segmenter import DecidedFrame, FrameResult, Segmenter

__all__ = ["DecidedFrame", "FrameResult", "ModelName", "Segmentation", "Segmenter", "segment", "stack_frames"]
