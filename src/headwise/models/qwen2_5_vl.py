"""Qwen2.5-VL: an image at its own resolution, positions on three axes (time, row, column)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from headwise.models.contract import Family, Features, ImageOptions, Pixels, pixel_inputs
from headwise.models.llava_next import one
from headwise.study.grids import Grid

if TYPE_CHECKING:
    from torch import Tensor

# lmms-eval's limits (200,704 and 1,605,632); the checkpoints' own allow up to 16,384 tokens per image.
MIN_PIXELS, MAX_PIXELS = 256 * 28 * 28, 2048 * 28 * 28

# transformers' resizing of Qwen images raises an error beyond it.
MOST_THIN = 200


class Qwen25Vl(Family):
    """Qwen2.5-VL. Text behind an image of r x c tokens goes on at M + max(r, c), not at M + V."""

    name = "qwen2_5_vl"
    title = "Qwen2.5-VL"
    model_types = ("qwen2_5_vl",)
    text_types = ("qwen2_5_vl_text",)
    prompt = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|>{image}<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
    )
    prompt_version = "qwen2.5-vl/1"
    box_space = "resized"
    sees = "one view at its own resolution"
    no_views = (
        "its tower has no [CLS], and compacted positions would lose the rows and columns of its tokens; a smaller "
        "image is another study, with max_pixels"
    )
    axes = 3
    no_compacting = "its visual tokens have rows and columns"
    options: ClassVar[Mapping[str, int]] = {"min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS}
    float16 = False

    def refuses(self, size: tuple[int, int]) -> str:
        """The processor refuses a picture that is more than 200 times as long as wide."""
        if max(size) <= MOST_THIN * min(size):
            return ""
        return f"a picture of {size[0]} x {size[1]} pixels is more than {MOST_THIN} times as long as wide"

    def processor_options(self, options: ImageOptions) -> dict[str, Any]:
        """The image's least and largest area in pixels, by the names of the image processor."""
        limits = self.limits(options)
        return {"size": {"shortest_edge": limits["min_pixels"], "longest_edge": limits["max_pixels"]}}

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Merged patches of one image: [V, D]."""
        given = pixel_inputs(model, pixels, ("pixel_values", "image_grid_thw"))
        return Features(one(model.get_image_features(**given, return_dict=True).pooler_output))

    def positions(self, model: Any, ids_S: Tensor, pixels: Pixels) -> Tensor | None:
        """Temporal, height and width position of each token, by the model's own rule: [S, 3]."""
        return rope_index(model, ids_S, pixels, self.image_token(model.config))

    def grids(self, model: Any, pixels: Pixels, visual: int) -> tuple[Grid, ...]:
        """One grid over the whole picture, resized without padding; a token is `spatial_merge_size`² patches."""
        _, rows, columns = pixels["image_grid_thw"][0].tolist()
        merged = model.config.vision_config.spatial_merge_size
        return (Grid(rows // merged, columns // merged),)


def rope_index(model: Any, ids_S: Tensor, pixels: Pixels, image_token: int) -> Tensor:
    """The model's own position ids of a prompt, [S, 3]."""
    kinds_1S = (ids_S == image_token).int()[None]  # 0 text, 1 image
    grid = pixels["image_grid_thw"].to(ids_S.device)
    positions_31S, _ = model.model.get_rope_index(ids_S[None], mm_token_type_ids=kinds_1S, image_grid_thw=grid)
    return positions_31S[:, 0].T
