"""Boxes in images: overlap of two boxes, and the square that LLaVA-1.5 pads an image to."""

from __future__ import annotations

import math
from collections.abc import Sequence

# x1, y1, x2, y2 of the upper left and lower right corner.
Box = tuple[float, float, float, float]


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes, their areas as they are given (a box turned round has a negative one).

    0 where a number of an answer is so long that the area is not finite.
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    inter = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(areas) - inter
    return inter / union if union and math.isfinite(union) else 0.0


def padded(width: float, height: float) -> tuple[float, float, float]:
    """Side of the square that an image of this size is padded to, and the x and y at which it lies in the square."""
    side = max(width, height)
    return side, (side - width) // 2, (side - height) // 2


def into_square(box: Box, width: float, height: float) -> Box:
    """From pixels of an image of this size to fractions of its padded square."""
    side, x, y = padded(width, height)
    x1, y1, x2, y2 = box
    return (x1 + x) / side, (y1 + y) / side, (x2 + x) / side, (y2 + y) / side


def out_of_square(box: Box, width: float, height: float) -> Box:
    """From fractions of the padded square to pixels of the image."""
    side, x, y = padded(width, height)
    x1, y1, x2, y2 = box
    return x1 * side - x, y1 * side - y, x2 * side - x, y2 * side - y
