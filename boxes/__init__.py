"""Boxes of many images as columns, their arithmetic, whole files, and the error users read."""

from smallobj.boxes.atomic import check_writable, whole_file, write_bytes, write_text
from smallobj.boxes.errors import InputError
from smallobj.boxes.geometry import (
    Array,
    box_area,
    clip_boxes,
    cxcywh_norm_to_xyxy,
    iou_matrix,
    xywh_to_xyxy,
    xyxy_to_cxcywh_norm,
    xyxy_to_xywh,
)
from smallobj.boxes.table import BoxTable, Classes, Images, Source, concatenate
from smallobj.boxes.toml_file import read_toml

__all__ = [
    "Array",
    "BoxTable",
    "Classes",
    "Images",
    "InputError",
    "Source",
    "box_area",
    "check_writable",
    "clip_boxes",
    "concatenate",
    "cxcywh_norm_to_xyxy",
    "iou_matrix",
    "read_toml",
    "whole_file",
    "write_bytes",
    "write_text",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh_norm",
    "xyxy_to_xywh",
]
