"""What methods before the language model keep of an image in several tiles (LLaVA-NeXT), joined to one sequence.

Axes as in contract.py, for one tile, and G tiles, the base tile first; V places of the image as the language model
would see it unpruned: base tile, then the tiles' unpadded mosaic with a newline at the end of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headwise.methods.contract import BeforeMethod, Reduced, Vision

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Tiles:
    """One image's tiles and how they lie.

    Attributes:
        visions: the signals of each tile [G].
        patch_V: for each place which patch of all tiles (tile by tile) it is; -1 for a newline.
        raster_P: the patches of all tiles in the order in which kept ones go on: the base tile's, then the mosaic's
            row by row.
        packed_VD: the places' embeddings, newlines included.
    """

    visions: Sequence[Vision]
    patch_V: Tensor
    raster_P: Tensor
    packed_VD: Tensor

    def with_text(self, text: dict[str, Tensor]) -> Tiles:
        """The same with a question's signals."""
        return replace(self, visions=[replace(vision, **text) for vision in self.visions])

    @property
    def per_tile(self) -> int:
        return len(self.raster_P) // len(self.visions)

    def places_of(self, patches: Tensor) -> Tensor:
        """The places of patches, -1 for those in the padding, which has none; -1 stays."""
        place_P = patches.new_full((len(self.raster_P) + 1,), -1)
        seen_V = (self.patch_V >= 0).nonzero()[:, 0]
        place_P[self.patch_V[seen_V]] = seen_V
        return place_P[patches]  # the last entry is that of -1


@dataclass(frozen=True, eq=False)
class Joined:
    """The rows of one image: [T, D], the place of each (-1: none), and for each place the row made of it, from 1."""

    rows_TD: Tensor
    places_T: Tensor
    degenerate: bool
    area_V: Tensor | None = None


def tile_budget(method: BeforeMethod, tokens: int, tiles: int, per_tile: int, options: Any) -> int:
    """T of one tile: what T tokens of the image leave for each, at least what is feasible, at most all patches."""
    return min(per_tile, max(method.least(per_tile, options), tokens // tiles))


def reduce_tiled(method: BeforeMethod, tiles: Tiles, tokens: int, options: Any, project: Any) -> Joined:
    """What the method hands over of the whole image for T = `tokens`, by its own rule for tiles."""
    if method.tiled == "packed":
        return _packed(method, tiles, tokens, options)
    if method.tiled == "joined":
        return _joined(method, tiles, tokens, options)
    count = tile_budget(method, tokens, len(tiles.visions), tiles.per_tile, options)
    reduced = method.reduce_tiles(tiles.visions, count, options)
    return _in_order(tiles, reduced, project)


def _packed(method: BeforeMethod, tiles: Tiles, tokens: int, options: Any) -> Joined:
    reduced = method.reduce(Vision(projected_VD=tiles.packed_VD), tokens, options)
    kept = reduced.kept.to(tiles.packed_VD.device)
    return Joined(tiles.packed_VD[kept], kept, reduced.degenerate)


def _joined(method: BeforeMethod, tiles: Tiles, tokens: int, options: Any) -> Joined:
    """One choice over all patches, tile by tile; no more than there are."""
    import torch

    parts = {name: [getattr(vision, name) for vision in tiles.visions] for name in method.needs}
    whole = Vision(**{name: torch.cat(each, -1 if name == "attention_HV" else 0) for name, each in parts.items()})
    reduced = method.reduce(whole, min(tokens, len(tiles.raster_P)), options)
    rows_TD = reduced.embeddings(whole.projected_VD, lambda rows: rows)
    return Joined(rows_TD, tiles.places_of(reduced.kept.to(tiles.patch_V.device)), reduced.degenerate)


def _in_order(tiles: Tiles, reduced: Sequence[Reduced], project: Any) -> Joined:
    """Base tile as it is; then kept patches of the others in the mosaic's order, then made rows.

    Made rows that stand before a tile's patches (VisionZip's [CLS]) come first, for all tiles, then those behind.
    """
    import torch

    rank_P = torch.empty_like(tiles.raster_P)
    rank_P[tiles.raster_P] = torch.arange(len(rank_P), device=rank_P.device)
    rows, patches, keys = [], [], []
    for number, (vision, each) in enumerate(zip(tiles.visions, reduced, strict=True)):
        kept_T = each.kept.to(rank_P.device)
        patch_T = torch.where(kept_T >= 0, kept_T + number * tiles.per_tile, -1)
        rows.append(each.embeddings(vision.projected_VD, project))
        patches.append(patch_T)
        keys += _keys(number, kept_T.tolist(), rank_P[patch_T.clamp(min=0)].tolist())
    order = torch.tensor(sorted(range(len(keys)), key=keys.__getitem__), device=rank_P.device)
    places_T = tiles.places_of(torch.cat(patches)[order])
    area_V = None if reduced[0].weights_TN is None else _areas(tiles, reduced, order, places_T < 0)
    return Joined(torch.cat(rows)[order], places_T, any(each.degenerate for each in reduced), area_V)


def _keys(number: int, kept: list[int], ranks: list[int]) -> list[tuple[int, int, int]]:
    """Where each row of a tile goes: (part, tile or rank, row)."""
    if number == 0:
        return [(0, 0, row) for row in range(len(kept))]
    first = next((row for row, patch in enumerate(kept) if patch >= 0), len(kept))
    return [
        (1, ranks[row], 0) if patch >= 0 else (2 if row < first else 3, number, row) for row, patch in enumerate(kept)
    ]


def _areas(tiles: Tiles, reduced: Sequence[Reduced], order: Tensor, placeless_T: Tensor) -> Tensor:
    """For each place the made row that it weighs most in, counted from 1 among those without a place; 0: none."""
    import torch

    number_T = torch.empty_like(order)
    number_T[order] = placeless_T.cumsum(0)
    areas, start = [], 0
    for each in reduced:
        assert each.weights_TN is not None
        weight_TV = each.weights_TN[:, 1:].abs().to(order.device)
        weight_TV[each.kept.to(order.device) >= 0] = 0
        most_V = weight_TV.max(0)
        numbers = number_T[start : start + len(each.kept)]
        areas.append(torch.where(most_V.values > 0, numbers[most_V.indices], 0))
        start += len(each.kept)
    area_P = torch.cat([*areas, order.new_zeros(1)])
    return area_P[tiles.patch_V]
