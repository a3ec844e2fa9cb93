"""Qwen3-VL: as Qwen2.5-VL, and features of three tower blocks are added behind decoder layers 1, 2, 3 (deepstack).

Feature i is added to the hidden states of visual tokens after layer i + 1, which is what "the output of layer K" is
counted with. Tokens that a stage drops below layer 3 never get the rest; kept ones do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from headwise.models.contract import Family, Features, ImageOptions, Pixels, Size, pixel_inputs
from headwise.models.llava_next import one
from headwise.models.qwen2_5_vl import rope_index, too_thin
from headwise.study.grids import Grid

if TYPE_CHECKING:
    from torch import Tensor

# lmms-eval's limits.
MIN_PIXELS, MAX_PIXELS = 256 * 28 * 28, 2048 * 28 * 28


class Qwen3Vl(Family):
    """Qwen3-VL, dense."""

    name = "qwen3_vl"
    title = "Qwen3-VL"
    model_types = ("qwen3_vl",)
    text_types = ("qwen3_vl_text",)
    prompt = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|>{image}<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
    )
    prompt_version = "qwen3-vl/1"
    no_views = "its tower has no [CLS], and compacted positions would lose the rows and columns of its tokens"
    box_space = "thousandths"
    options: ClassVar[Mapping[str, int]] = {"min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS}
    float16 = False

    def refuses(self, size: Size) -> str:
        """The processor takes no picture that is 200 times as long as wide, or more."""
        return too_thin(size)

    def processor_options(self, options: ImageOptions) -> dict[str, Any]:
        """The image's least and largest area in pixels, by the names of the image processor."""
        limits = self.limits(options)
        return {"size": {"shortest_edge": limits["min_pixels"], "longest_edge": limits["max_pixels"]}}

    def grids(self, config: Any, processor: Any, pixels: Pixels, images: ImageOptions, size: Size) -> list[Grid]:
        """One grid over the whole picture; a token is a square of merged patches."""
        _, rows, columns = pixels["image_grid_thw"][0].tolist()
        merged = config.vision_config.spatial_merge_size
        return [Grid(rows // merged, columns // merged)]

    def features(self, model: Any, pixels: Pixels) -> Features:
        """A deepstack feature is one tensor, or one per image: transformers has had both."""
        from torch import Tensor

        given = pixel_inputs(model, pixels, ("pixel_values", "image_grid_thw"))
        found = model.get_image_features(**given, return_dict=True)
        deep = tuple(each if isinstance(each, Tensor) else one(each) for each in found.deepstack_features)
        return Features(one(found.pooler_output), deep)

    def positions(self, model: Any, ids_S: Tensor, pixels: Pixels) -> Tensor | None:
        """Temporal, height and width position of each token, by the model's own rule: [S, 3]."""
        return rope_index(model, ids_S, pixels, self.image_token(model.config))
