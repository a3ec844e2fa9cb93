"""LLaVA-NeXT (v1.6): tiles of an image, cropped to its shape, each row of them ended by a newline embedding.

The newlines stand at placeholders and are visual tokens like any other: what is pruned is the whole image range.
"""

from __future__ import annotations

import inspect
from math import ceil
from typing import TYPE_CHECKING, Any

from headwise.models.contract import Family, Features, Pixels, pixel_inputs
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
    sees = "unpadded tiles"
    views = "tiles"

    def template(self, config: Any) -> str:
        """The prompt of the checkpoint's decoder: Mistral's, else Vicuna's."""
        return self.mistral_prompt if config.text_config.model_type == "mistral" else self.prompt

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Tokens of the base image, then of the tiles without padding, a newline token behind each row: [V, D]."""
        return tiled_features(model, pixels)

    def grids(self, model: Any, pixels: Pixels, visual: int) -> tuple[Grid, ...]:
        """The whole picture, then what is left of the tiles without padding, a newline behind each row."""
        return unpadded_grids(model, pixels)


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


def one(per_image: Any) -> Any:
    """The only image's tokens, where there is one; all rows together otherwise (their number is then refused)."""
    import torch

    return torch.cat(list(per_image))


def unpadded_grids(model: Any, pixels: Pixels) -> tuple[Grid, ...]:
    """The view of the whole, and the tiles: what transformers' own packing does to patches that hold their places.

    Unpadding, shrinking and newlines are then never a formula of ours. The picture lies centred on the tiles.
    """
    import torch

    vision, tiles = model.config.vision_config, pixels["pixel_values"].shape[-4]
    side = vision.image_size // vision.patch_size
    whole = Grid(side, side)
    if tiles == 1:
        return whole, Grid(1, 0, newline=True)
    height, width = (int(each) for each in pixels["image_sizes"][0])
    rows, columns = _tiles_of(model, height, width)
    y, x = torch.meshgrid(*(torch.arange(count * side) + 0.5 for count in (rows, columns)), indexing="ij")
    places = torch.stack([x, y], -1).unflatten(0, (rows, side)).unflatten(2, (columns, side))
    tiles_TP2 = torch.cat([torch.zeros(1, side * side, 2), places.transpose(1, 2).reshape(-1, side * side, 2)])
    packed_V2 = _packed(model, tiles_TP2, pixels["image_sizes"])[side * side :]
    lines = int(packed_V2[:, 0].isnan().sum())
    if len(packed_V2) == lines:  # of a picture so narrow that no patch is left without padding
        return whole, Grid(lines, 0, newline=True)
    found_RC2 = packed_V2.unflatten(0, (lines, -1))[:, :-1]
    canvas = columns * vision.image_size, rows * vision.image_size
    scale = min(canvas[0] / width, canvas[1] / height)
    left, right = _span(found_RC2[0, :, 0].tolist(), vision.patch_size, canvas[0], width * scale)
    top, bottom = _span(found_RC2[:, 0, 1].tolist(), vision.patch_size, canvas[1], height * scale)
    return whole, Grid(lines, found_RC2.shape[1], left, top, right, bottom, newline=True)


def _span(middles: list[float], patch: int, canvas: int, length: float) -> tuple[float, float]:
    """From the first box's start to the last one's end, in fractions of the picture along one axis.

    `middles` of the boxes in patches of the canvas, on which the picture of `length` pixels is centred.
    """
    half = (middles[-1] - middles[0]) / (len(middles) - 1) / 2 if len(middles) > 1 else 0.5
    pixels = min(ceil(length - 1e-9), canvas)
    start, stop = (place * patch - (canvas - pixels) // 2 for place in (middles[0] - half, middles[-1] + half))
    return start / pixels, stop / pixels


def _tiles_of(model: Any, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape

    return get_anyres_image_grid_shape(
        (height, width), model.config.image_grid_pinpoints, model.config.vision_config.image_size
    )


def _packed(model: Any, tiles_TPd: Tensor, image_sizes: Tensor) -> Tensor:
    """[V, d] of [tiles, patches, d] of one image by the model's own packing; NaN for newlines."""
    pack = model.model.pack_image_features
    more = {
        "vision_feature_select_strategy": model.config.vision_feature_select_strategy,
        "vision_aspect_ratio": getattr(model.config, "vision_aspect_ratio", None),
    }
    known = {name: value for name, value in more.items() if name in inspect.signature(pack).parameters}
    newline_d = tiles_TPd.new_full(tiles_TPd.shape[-1:], float("nan"))
    features, _ = pack([tiles_TPd], image_sizes, image_newline=newline_d, **known)
    return one(features)
