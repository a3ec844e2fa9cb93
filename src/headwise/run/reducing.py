"""What methods before the language model make of a window's images: the rows of each question under each cell.

The tower's signals are computed once per image for all methods; what reads no question, once for all of an image's
questions, and the language model then has one prefix for them (`engine.Question.rows`).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from headwise.engine import ImageRows
from headwise.errors import DataError
from headwise.methods import Reduced, Vision
from headwise.methods._tiles import Tiles, reduce_tiled
from headwise.methods.stages import before_method, for_image, image_decides, require_clip
from headwise.models.checkpoint import Vlm
from headwise.models.clip_text import ClipText
from headwise.models.contract import pixel_inputs
from headwise.models.llava_next import tile_layout
from headwise.models.tower import Tower
from headwise.models.vision import small_pixels, tower_of, word_embeddings
from headwise.study.budget import token_count
from headwise.study.cells import Cell, Geometry

# Signals that no tower of a LLaVA checkpoint gives.
TEXT = ("text_ME", "words_mD", "visual_projection_EC")


@dataclass(frozen=True, eq=False)
class Pixels:
    """A prepared image as its family prepares it, and the same at the smaller sides that some cells ask for.

    `size`: width and height in pixels.
    """

    whole: Any
    small: dict[int, Tensor] = field(default_factory=dict)
    size: tuple[int, int] = (1, 1)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rows for the language model, whether their choice was partly arbitrary, and where merged ones come from.

    `area`: for each patch the merged row that it weighs most in, counted from 1 (0: none), packed by `packed_area`;
    empty where no row is merged.
    """

    rows: ImageRows
    degenerate: bool
    area: str = ""


class Reducer:
    """Runs the methods before the language model on one loaded checkpoint; CLIP text towers are kept by name."""

    def __init__(self, vlm: Vlm, allow_pickle: bool = False) -> None:
        """`allow_pickle`: whether CLIP text towers in pickle files are loaded. Towers are built on first use."""
        self.vlm, self.allow_pickle = vlm, allow_pickle
        self.geometry: Geometry = vlm.checkpoint.geometry
        self._tower: Tower | None = None
        self._clips: dict[str, ClipText] = {}

    @property
    def tower(self) -> Tower:
        """The checkpoint's vision tower with its intermediate signals. ModelError where methods cannot read it."""
        self._tower = self._tower or tower_of(self.vlm)
        return self._tower

    def prepare(self, image: Image.Image, cells: Sequence[Cell]) -> Pixels:
        """The image's pixel values at every side that the cells' towers see it at.

        DataError for a picture that the family's processor does not take.
        """
        if reason := self.vlm.family.refuses(image.size):
            raise DataError(f"{self.vlm.family.title} takes no such image: {reason}")
        sides = {side for cell in cells if (side := self.side(cell)) is not None}
        small = {side: small_pixels(self.vlm, image, side) for side in sides}
        return Pixels(self.vlm.prepare(image), small, image.size)

    def window(self, cells: Sequence[Cell], pixels: Sequence[Pixels]) -> Reductions:
        """What the cells' methods make of these images, question by question."""
        needs: dict[int | None, set[str]] = {}
        for cell in cells:
            if (method := before_method(cell.strategy)) is not None:
                needs.setdefault(self.side(cell), set()).update(method.needs)
        return Reductions(self, cells, {side: self._signals(pixels, side, names) for side, names in needs.items()})

    def text(self, cell: Cell, prompt: str) -> dict[str, Tensor]:
        """The signals that a cell's method reads of a question."""
        method = before_method(cell.strategy)
        if method is None or not method.text_encoder:
            return {}
        if method.text_encoder == "embeddings":
            return {"words_mD": word_embeddings(self.vlm, method.text(prompt))}
        clip = self._clip(require_clip(cell.strategy, cell.clip))
        return {
            "text_ME": clip.embed(method.text(prompt), method.text_encoder),
            "visual_projection_EC": clip.visual_projection_EC,
        }

    def project(self, rows_TC: Tensor) -> Tensor:
        """Rows [T, C] through the projector, in the model's precision."""
        return self.tower.project(rows_TC.to(self.vlm.device, self.vlm.dtype))

    def _signals(self, pixels: Sequence[Pixels], side: int | None, needs: set[str]) -> list[Vision | Tiles]:
        if self.geometry.visual is None:
            return [self._tiles(image.whole, needs.difference(TEXT)) for image in pixels]
        each = [image.whole if side is None else image.small[side] for image in pixels]
        stacked = torch.stack(each).to(self.vlm.device, self.vlm.dtype)
        return list(self.tower.signals(stacked, needs.difference(TEXT)))

    def _tiles(self, pixels: Mapping[str, Any], needs: set[str]) -> Tiles:
        """The signals of an image's tiles, and how they lie."""
        given = pixel_inputs(self.vlm.model, pixels, ("pixel_values",))["pixel_values"]
        visions = self.tower.signals(given.flatten(0, -4), needs)
        patch_V, raster_P = self.layout(pixels)
        every_PD = torch.cat([vision.projected_VD for vision in visions])
        newline_1D = self.vlm.model.model.image_newline.to(every_PD)[None]
        patch_V = patch_V.to(every_PD.device)
        return Tiles(visions, patch_V, raster_P.to(every_PD.device), torch.cat([every_PD, newline_1D])[patch_V])

    def layout(self, pixels: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Which patch stands at each place of a tiled image, and its patches row by row (`tile_layout`)."""
        vision = self.vlm.model.config.vision_config
        per_tile = (vision.image_size // vision.patch_size) ** 2
        tiles = len(pixels["pixel_values"].flatten(0, -4))
        return tile_layout(self.vlm.model, pixels["image_sizes"], tiles, per_tile)

    def visual(self, pixels: Pixels) -> int:
        """V of an image for methods before the language model."""
        return self.geometry.visual or len(self.layout(pixels.whole)[0])

    def side(self, cell: Cell) -> int | None:
        """The side at which the cell's tower sees the image; None for the checkpoint's own."""
        method = before_method(cell.strategy)
        if method is None or self.geometry.visual is None:
            return None
        patch: int = self.vlm.model.config.vision_config.patch_size
        return method.image_side(self.tokens(cell, self.geometry.visual), patch)

    def tokens(self, cell: Cell, visual: int) -> int:
        """The cell's budget in tokens of an image of V = `visual`."""
        return token_count(cell.tokens if self.geometry.visual else for_image(cell, visual).tokens, visual)

    def _clip(self, name: str) -> ClipText:
        if name not in self._clips:
            width: int = self.vlm.model.config.vision_config.hidden_size
            self._clips[name] = ClipText(name, width, self.vlm.device, self.allow_pickle)
        return self._clips[name]


class Reductions:
    """The choices of one window; each is made when it is asked for, once for all that share it."""

    def __init__(
        self, reducer: Reducer, cells: Sequence[Cell], visions: dict[int | None, list[Vision | Tiles]]
    ) -> None:
        """`visions`: signals of the window's images by the side in pixels at which they were seen (None: the usual)."""
        self.reducer, self.cells, self.visions = reducer, cells, visions
        self._chosen: dict[object, Chosen] = {}
        self._text: dict[object, dict[str, Tensor]] = {}

    @property
    def projected_IVD(self) -> list[Tensor] | None:
        """All patches of each image as projected; None where no cell's tower saw the whole images."""
        if None not in self.visions:
            return None
        return [each.packed_VD if isinstance(each, Tiles) else each.projected_VD for each in self.visions[None]]

    def again(self, column: int, image: int, prompt: str) -> Callable[[], ImageRows] | None:
        """A cell's choice done anew at each call, to be timed: from the tower's signals to rows, text included."""
        cell = self.cells[column]
        if before_method(cell.strategy) is None:
            return None
        vision = self.visions[self.reducer.side(cell)][image]
        return lambda: choose(self.reducer, cell, vision, self.reducer.text(cell, prompt)).rows

    @torch.inference_mode()
    def of(self, image: int, prompt: str) -> tuple[Chosen | None, ...]:
        """Per cell what it makes of the image for a question; None where it does not choose here."""
        return tuple(self._of(cell, image, prompt) for cell in self.cells)

    def _of(self, cell: Cell, image: int, prompt: str) -> Chosen | None:
        method = before_method(cell.strategy)
        if method is None:
            return None
        given = self.visions[self.reducer.side(cell)][image]
        visual = len(given.patch_V) if isinstance(given, Tiles) else self.reducer.geometry.visual
        tokens = None if image_decides(cell, self.reducer.geometry) else self.reducer.tokens(cell, visual)
        text = method.text(prompt) if method.question_dependent else None
        key = cell.strategy, cell.options, tokens, image, text
        if key not in self._chosen:
            chosen = self._choose(cell, image, prompt)
            # Patches alone are the same rows whoever chose them, and so one prefix; those in padding have no place.
            places = (image, self.reducer.side(cell), chosen.degenerate, tuple(chosen.rows.places_T.tolist()))
            unlike = chosen.area or (isinstance(given, Tiles) and -1 in places[-1])
            self._chosen[key] = chosen if unlike else self._chosen.setdefault(places, chosen)
        return self._chosen[key]

    def _choose(self, cell: Cell, image: int, prompt: str) -> Chosen:
        vision = self.visions[self.reducer.side(cell)][image]
        return choose(self.reducer, cell, vision, self._text_of(cell, prompt))

    def _text_of(self, cell: Cell, prompt: str) -> dict[str, Tensor]:
        method = before_method(cell.strategy)
        if method is None or not method.text_encoder:
            return {}
        key = method.text_encoder, cell.clip, method.text(prompt)
        if key not in self._text:
            self._text[key] = self.reducer.text(cell, prompt)
        return self._text[key]


@torch.inference_mode()
def choose(reducer: Reducer, cell: Cell, vision: Vision | Tiles, text: dict[str, Tensor]) -> Chosen:
    """One cell's choice for one image and the question's signals."""
    method = before_method(cell.strategy)
    assert method is not None
    options = method.options(**dict(cell.options))
    if isinstance(vision, Tiles):
        tokens = reducer.tokens(cell, len(vision.patch_V))
        joined = reduce_tiled(method, vision.with_text(text), tokens, options, reducer.project)
        rows = ImageRows(joined.rows_TD.to(reducer.vlm.device), joined.places_T.to(reducer.vlm.device))
        packed = "" if joined.area_V is None else pack_area(joined.area_V.cpu().numpy())
        return Chosen(rows, joined.degenerate, packed)
    reduced = method.reduce(replace(vision, **text), reducer.tokens(cell, reducer.geometry.visual), options)
    rows_TD = reduced.embeddings(vision.projected_VD, reducer.project)
    places_T, area = reduced.kept.to(reducer.vlm.device), packed_area(reduced)
    if reducer.side(cell) is not None:  # patches of a smaller image are no places of this one, but areas of it
        area = pack_area(smaller_grid(reducer.geometry.visual, len(places_T)))
        places_T = torch.full_like(places_T, -1)
    return Chosen(ImageRows(rows_TD.to(reducer.vlm.device), places_T), reduced.degenerate, area)


def packed_area(reduced: Reduced) -> str:
    """For each patch the merged row (−1 in `kept`) that it weighs most in, from 1; 0 where none has any of it.

    Unsigned 16-bit numbers, zlib, base64. Where no row is made, the empty text.
    """
    if reduced.weights_TN is None:
        return ""
    merged = (reduced.kept < 0).nonzero().flatten().to(reduced.weights_TN.device)
    if not len(merged):
        return "-"
    weight_MV = reduced.weights_TN[merged, 1:].abs()
    most_V = weight_MV.max(0)
    area_V = torch.where(most_V.values > 0, most_V.indices + 1, 0)
    return pack_area(area_V.cpu().numpy())


def smaller_grid(visual: int, made: int) -> np.ndarray:
    """The area [V] of the patches of a smaller square image: which of its `made` patches covers each of ours most."""
    side, small = isqrt(visual), isqrt(made)
    line = (2 * np.arange(side) + 1) * small // (2 * side)
    return (line[:, None] * small + line + 1).ravel()


def pack_area(area_V: np.ndarray) -> str:
    """For each patch its merged row, from 1 (0: none), as text: unsigned 16-bit numbers, zlib, base64."""
    return base64.b64encode(zlib.compress(area_V.astype("<u2").tobytes())).decode()


def unpacked_area(text: str) -> np.ndarray:
    """The area [V] that `packed_area` packed; empty where no row is merged."""
    if text in ("", "-"):
        return np.zeros(0, dtype=np.uint16)
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u2").astype(np.uint16)
