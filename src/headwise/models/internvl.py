"""InternVL3 and InternVL3.5: tiles of 448 pixels, 256 tokens each; where there are several, the whole image last."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import TYPE_CHECKING, Any, ClassVar

from headwise.models.contract import Family, Features, ImageOptions, Pixels, pixel_inputs
from headwise.study.grids import Grid, tiled

if TYPE_CHECKING:
    from PIL import Image

MAX_TILES = 12


class InternVl(Family):
    """InternVL3 (Qwen2) and InternVL3.5 (Qwen3) in transformers' own class."""

    name = "internvl"
    title = "InternVL3, InternVL3.5"
    model_types = ("internvl",)
    text_types = ("qwen2", "qwen3", "llama")
    prompt = "<|im_start|>user\n<img>{image}</img>\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt_version = "internvl/1"
    box_space = "thousandths"
    sees = "square tiles, the whole image last"
    no_views = "its tokens are made of four patches each, of which the methods' originals know nothing"
    options: ClassVar[Mapping[str, int]] = {"max_tiles": MAX_TILES}
    float16 = False

    def prepare(self, processor: Any, image: Image.Image, options: ImageOptions) -> Pixels:
        """Tiles, and in how many rows and columns the processor cut them, which it does not say itself."""
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        size, most = (image.height, image.width), self.limits(options)["max_tiles"]
        tile = processor.size["height"], processor.size["width"]
        columns, rows = get_optimal_tiled_canvas(size, tile, processor.min_patches, most)
        return {**super().prepare(processor, image, options), "rows": [[rows]], "cols": [[columns]]}

    def grids(self, model: Any, pixels: Pixels, visual: int) -> tuple[Grid, ...]:
        """A grid per tile, and one of the whole picture."""
        return cut_grids(pixels, visual)

    def processor_options(self, options: ImageOptions) -> dict[str, Any]:
        """Tiles are what the full Processor asks for; the image processor alone would make one."""
        return {"crop_to_patches": True, "max_patches": self.limits(options)["max_tiles"]}

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Projected tokens of all tiles of one image, in tile order: [V, D]."""
        given = pixel_inputs(model, pixels, ("pixel_values",))
        tiles_TKD = model.get_image_features(**given, return_dict=True).pooler_output
        return Features(tiles_TKD.flatten(0, 1))


def cut_grids(pixels: Pixels, visual: int) -> tuple[Grid, ...]:
    """The grids of V = `visual` tokens of an image that was cut to `rows` x `cols` square tiles."""
    rows, columns = int(pixels["rows"][0][0]), int(pixels["cols"][0][0])
    tiles = rows * columns
    return tiled(rows, columns, isqrt(visual // (tiles if tiles == 1 else tiles + 1)))
