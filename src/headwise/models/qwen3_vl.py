"""Qwen3-VL: as Qwen2.5-VL, and features of three tower blocks are added behind decoder layers 1, 2, 3 (deepstack).

Feature i is added to the hidden states of visual tokens after layer i + 1, which is what "the output of layer K" is
counted with. Tokens that a stage drops below layer 3 never get the rest; kept ones do.
"""

from __future__ import annotations

from typing import Any

from headwise.models.contract import Features, Pixels, pixel_inputs
from headwise.models.llava_next import one
from headwise.models.qwen2_5_vl import Qwen25Vl


class Qwen3Vl(Qwen25Vl):
    """Qwen3-VL, dense. Prompt, limits of image size and positions are Qwen2.5-VL's."""

    name = "qwen3_vl"
    title = "Qwen3-VL"
    model_types = ("qwen3_vl",)
    text_types = ("qwen3_vl_text",)
    prompt_version = "qwen3-vl/1"
    box_space = "thousandths"

    def features(self, model: Any, pixels: Pixels) -> Features:
        """A deepstack feature is one tensor, or one per image: transformers has had both."""
        from torch import Tensor

        given = pixel_inputs(model, pixels, ("pixel_values", "image_grid_thw"))
        found = model.get_image_features(**given, return_dict=True)
        deep = tuple(each if isinstance(each, Tensor) else one(each) for each in found.deepstack_features)
        return Features(one(found.pooler_output), deep)
