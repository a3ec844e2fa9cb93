"""LLaVA-NeXT (v1.6): tiles of an image, cropped to its shape, each row of them ended by a newline embedding.

The newlines stand at placeholders and are visual tokens like any other: what is pruned is the whole image range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headwise.models.contract import Family, Features, ImageOptions, Pixels, Size, pixel_inputs
from headwise.study.grids import Grid

if TYPE_CHECKING:
    from torch import Tensor


class LlavaNext(Family):
    """LLaVA-1.6 with Vicuna or Mistral.

    Vicuna's prompt is that of LLaVA's evaluation and of lmms-eval's llava_hf where a folder has no chat template;
    Mistral's is the checkpoint's own instruction format, whose beginning of sequence the tokenizer adds.
    """

    name = "llava_next"
    title = "LLaVA-NeXT"
    model_types = ("llava_next",)
    text_types = ("llama", "mistral")
    prompt = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
        "USER: {image}\n{question} ASSISTANT:"
    )
    mistral_prompt = "[INST] {image}\n{question} [/INST]"
    prompt_version = "llava-next/1"
    views = "tiles"

    def template(self, config: Any) -> str:
        """The prompt of the checkpoint's decoder: Mistral's, else Vicuna's."""
        return self.mistral_prompt if config.text_config.model_type == "mistral" else self.prompt

    def grids(self, config: Any, processor: Any, pixels: Pixels, images: ImageOptions, size: Size) -> list[Grid]:
        """The whole picture, then the tiles' mosaic without padding, a newline at the end of each row."""
        return tile_grids(config, pixels)

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Tokens of the base image, then of the tiles without padding, a newline token behind each row: [V, D]."""
        return tiled_features(model, pixels)


def tiled_features(model: Any, pixels: Pixels) -> Features:
    """Tiles of one image through tower and projector, unpadded, newlines added, all by transformers' own code."""
    given = pixel_inputs(model, pixels, ("pixel_values", "image_sizes"))
    tokens_VD = model.get_image_features(**given, return_dict=True).pooler_output
    return Features(one(tokens_VD))


def tile_layout(model: Any, image_sizes: Any, tiles: int, per_tile: int) -> tuple[Tensor, Tensor]:
    """Where the patches of an image's tiles go, by transformers' own packing of their numbers (tile by tile).

    Returns the patch at each of V places (-1: a newline), and all patches in the order base tile, mosaic row by row.
    """
    import torch
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape

    config = model.config
    sizes = image_sizes.cpu()
    number_GP1 = torch.arange(tiles * per_tile, dtype=torch.float64).view(tiles, per_tile, 1)
    packed, _ = model.model.pack_image_features([number_GP1], sizes, "default", image_newline=-torch.ones(1).double())
    pinpoints, size = config.image_grid_pinpoints, config.vision_config.image_size
    rows, columns = get_anyres_image_grid_shape(sizes[0], pinpoints, size)
    side = size // config.vision_config.patch_size
    mosaic = number_GP1[1:].view(rows, columns, side, side).transpose(1, 2).flatten()
    return packed[0][:, 0].long(), torch.cat([number_GP1[0, :, 0], mosaic]).long()


def tile_grids(config: Any, pixels: Pixels, most: int | None = None) -> list[Grid]:
    """A base tile over the whole picture and the unpadded mosaic; `most`: tiles beyond which the mosaic is shrunk."""
    import torch
    from transformers.image_processing_utils import select_best_resolution
    from transformers.models.llava_next.modeling_llava_next import unpad_image

    height, width = pixels["image_sizes"][0].tolist()
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    base = Grid(side, side)
    if len(pixels["pixel_values"].flatten(0, -4)) == 1:
        return [Grid(side, side), Grid(1, 0, newline=1)]
    whole = select_best_resolution([height, width], config.image_grid_pinpoints)
    rows, columns = (length // vision.patch_size for length in whole)
    numbered_2hw = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    seen_2hw = unpad_image(numbered_2hw, (height, width))
    top, bottom = _part(seen_2hw[0], height, whole, (height, width), vision.patch_size, 0)
    left, right = _part(seen_2hw[1], width, whole, (height, width), vision.patch_size, 1)
    rows, columns = seen_2hw.shape[1:]
    ratio = 0.0 if most is None else math.sqrt(rows * columns / (most * side**2))
    if ratio > 1.1:
        rows, columns = int(rows // ratio), int(columns // ratio)
    return [base, Grid(rows, columns, left, top, right, bottom, newline=1)]


def _part(
    seen: Tensor, length: int, whole: Sequence[int], size: tuple[int, int], patch: int, axis: int
) -> tuple[float, float]:
    """Start and end of the patches seen along an axis, in fractions of the picture, which is centred in padding."""
    if not seen.numel():  # so thin that no patch is seen: newlines alone are left
        return 0.0, 0.0
    scale = min(whole[0] / size[0], whole[1] / size[1])
    scaled = min(math.ceil(length * scale), whole[axis])
    start = (whole[axis] - scaled) // 2
    ends = int(seen.min()) * patch, (int(seen.max()) + 1) * patch
    return (ends[0] - start) / scaled, (ends[1] - start) / scaled


def one(per_image: Any) -> Any:
    """The only image's tokens, where there is one; all rows together otherwise (their number is then refused)."""
    import torch

    return torch.cat(list(per_image))
