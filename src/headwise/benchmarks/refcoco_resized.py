"""RefCOCO as Qwen2.5-VL answers it: pixels of the image as its processor resizes it."""

from __future__ import annotations

import math
from typing import ClassVar

from headwise.benchmarks.boxes import Box
from headwise.benchmarks.refcoco import RefCOCOAny, Region

# Sides become multiples of 28 (two patches of 14 pixels) between these numbers of pixels: lmms-eval's limits.
SIDE, MIN_PIXELS, MAX_PIXELS = 28, 256 * 28 * 28, 2048 * 28 * 28


class RefCOCOResized(RefCOCOAny):
    """Pixels of the image as Qwen2.5-VL's processor resizes it, scaled back; then as VLMEvalKit compares."""

    name = "refcoco.qwen2_5_vl-v1"
    title = "RefCOCO/+/g (pixels of the resized image)"
    rule = "refcoco.qwen2_5_vl-v1"
    source = "VLMEvalKit RefCOCO; sizes as in Qwen2.5-VL's image processor (smart_resize)"
    convention = "mean over the splits there are; pixels of the resized image, scaled back and clipped"
    box_space = "resized"
    image_limits: ClassVar[dict[str, int]] = {"min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS}

    def scales(self, box: Box, region: Region) -> tuple[float, float]:
        """Pixels of the image per pixel of the resized one, across and down."""
        width, height = resized(region.width, region.height)
        return region.width / width, region.height / height


def resized(width: float, height: float) -> tuple[int, int]:
    """Width and height in pixels that Qwen2.5-VL's image processor gives an image of this size."""
    sides = [max(SIDE, round(side / SIDE) * SIDE) for side in (width, height)]
    if sides[0] * sides[1] > MAX_PIXELS:
        shrink = math.sqrt(width * height / MAX_PIXELS)
        sides = [max(SIDE, math.floor(side / shrink / SIDE) * SIDE) for side in (width, height)]
    elif sides[0] * sides[1] < MIN_PIXELS:
        grow = math.sqrt(MIN_PIXELS / (width * height))
        sides = [math.ceil(side * grow / SIDE) * SIDE for side in (width, height)]
    return sides[0], sides[1]
