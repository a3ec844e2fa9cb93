"""InternVL3 and InternVL3.5: tiles of 448 pixels, 256 tokens each; where there are several, the whole image last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from headwise.models.contract import Family, Features, ImageOptions, Pixels, Size, pixel_inputs
from headwise.study.grids import Grid, tiles

MAX_TILES = 12


class InternVl(Family):
    """InternVL3 (Qwen2) and InternVL3.5 (Qwen3) in transformers' own class."""

    name = "internvl"
    title = "InternVL3, InternVL3.5"
    model_types = ("internvl",)
    text_types = ("qwen2", "qwen3", "llama")
    prompt = "<|im_start|>user\n<img>{image}</img>\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt_version = "internvl/1"
    no_views = "its tokens are made of four patches each, of which the methods' originals know nothing"
    box_space = "thousandths"
    options: ClassVar[Mapping[str, int]] = {"max_tiles": MAX_TILES}
    float16 = False

    def processor_options(self, options: ImageOptions) -> dict[str, Any]:
        """Tiles are what the full Processor asks for; the image processor alone would make one."""
        return {"crop_to_patches": True, "max_patches": self.limits(options)["max_tiles"]}

    def grids(self, config: Any, processor: Any, pixels: Pixels, images: ImageOptions, size: Size) -> list[Grid]:
        """Tiles row by row, by the processor's own choice of rows and columns; where there are several, the whole."""
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        vision, tile = config.vision_config, processor.size
        length = vision.image_size[0] if isinstance(vision.image_size, list | tuple) else vision.image_size
        patch = vision.patch_size[0] if isinstance(vision.patch_size, list | tuple) else vision.patch_size
        side = round(length // patch * config.downsample_ratio)
        if len(pixels["pixel_values"]) == 1:
            return [Grid(side, side)]
        columns, rows = get_optimal_tiled_canvas(
            (size[1], size[0]), (tile["height"], tile["width"]), processor.min_patches, self.limits(images)["max_tiles"]
        )
        return [*tiles(rows, columns, side), Grid(side, side)]

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Projected tokens of all tiles of one image, in tile order: [V, D]."""
        given = pixel_inputs(model, pixels, ("pixel_values",))
        tiles_TKD = model.get_image_features(**given, return_dict=True).pooler_output
        return Features(tiles_TKD.flatten(0, 1))
