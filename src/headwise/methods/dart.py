"""DART: a few pivots with large keys, and for each the tokens least like it.

Source: ZichenWen1/DART at 5a19452. Quirks kept: pivots are taken in the order of a Python set of absolute
positions, so that it is arbitrary but the same everywhere; budget B keeps pivots + 8·(B // 8) tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headwise.errors import ConfigError
from headwise.methods.stages import Choice, InsideMethod, Stage, View, check_published
from headwise.study.budget import is_share, kept_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.study.cells import Cell, Geometry

IMAGE_PIVOTS = TEXT_PIVOTS = 4


class Dart(InsideMethod):
    """One stage after layer K.

    A question of fewer than four tokens has fewer pivots: the last one then takes what the missing would have taken,
    so that the count is the budget's (the original would keep fewer).
    """

    name = "dart"
    title = "DART"
    source = "Wen et al. 2025, github.com/ZichenWen1/DART 5a19452"
    needs = ("keys_HVd", "keys_HQd", "hidden_VD")
    published = (192, 128, 64)
    takes_shares = True

    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """Published: B // 8 per pivot. Else (R − 4) // 8 per pivot, R being what a single stage would keep for T."""
        pivots = IMAGE_PIVOTS + TEXT_PIVOTS
        if cell.budget == "published":
            check_published(self, cell)
            each = cell.tokens // pivots
        else:
            each = (_single(cell, geometry) - IMAGE_PIVOTS) // pivots
        kept = IMAGE_PIVOTS + pivots * each
        if kept > geometry.visual or not 1 <= cell.layer < geometry.layers:
            raise ConfigError(
                f"tokens: dart would keep {kept} of {geometry.visual} visual tokens after layer {cell.layer} "
                f"of {geometry.layers}"
            )
        return (Stage(cell.layer, kept),)

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """Pivots of image and text, then for each pivot the tokens that duplicate it least."""
        unit_VD = view.once("dart", lambda: _unit(view.final_norm(view.hidden_VD)))
        each = (stage.keep - IMAGE_PIVOTS) // (IMAGE_PIVOTS + TEXT_PIVOTS)
        kept = select(view, unit_VD, each, IMAGE_PIVOTS, TEXT_PIVOTS)
        return Choice(kept)


def _single(cell: Cell, geometry: Geometry) -> int:
    """What one stage would keep for the cell's T. ConfigError where that is less than DART's pivots."""
    shape = {"layers": geometry.layers, "visual": geometry.visual, "layer": cell.layer}
    try:
        kept = kept_tokens(cell.tokens, budget=cell.budget, **shape)
    except ConfigError:
        if is_share(cell.tokens) or not _feasible(cell, shape):
            raise
        kept = 0
    if kept < IMAGE_PIVOTS:
        feasible = _feasible(cell, shape)
        hint = f"the smallest feasible budget is {feasible[0]}, the largest {feasible[-1]}" if feasible else "none is"
        raise ConfigError(
            f"tokens: {cell.tokens} with budget={cell.budget} is not feasible for dart, which keeps {IMAGE_PIVOTS} "
            f"pivots at least, on {geometry.visual} visual tokens and {geometry.layers} layers; {hint}"
        )
    return kept


def _feasible(cell: Cell, shape: dict[str, int]) -> list[int]:
    """Every T that keeps DART's pivots at least."""
    return [tokens for tokens in range(1, shape["visual"] + 1) if _enough(replace(cell, tokens=tokens), shape)]


def _enough(cell: Cell, shape: dict[str, int]) -> bool:
    try:
        return kept_tokens(cell.tokens, budget=cell.budget, **shape) >= IMAGE_PIVOTS
    except ConfigError:
        return False


def _unit(hidden: Tensor) -> Tensor:
    import torch

    return torch.nn.functional.normalize(hidden.float(), dim=-1)


def select(view: View, unit_VD: Tensor, each: int, image_pivots: int, text_pivots: int) -> Tensor:
    """Kept visual tokens, ascending: image pivots and the `each` least similar of what is left to every pivot."""
    import torch

    size_V, size_Q = (keys.float().abs().sum((0, 2)) for keys in (view.keys_HVd, view.keys_HQd))
    image = size_V.sort(descending=True, stable=True).indices[:image_pivots].tolist()
    text = size_Q.sort(descending=True, stable=True).indices[:text_pivots].tolist()
    start, after = view.system, view.system + view.visual
    unit_QD = view.once(("dart text", text_pivots), lambda: _unit(view.final_norm(view.hidden_QD)))
    left = torch.ones(view.visual, dtype=torch.bool, device=unit_VD.device)
    left[image] = False
    pivots = list(set([start + place for place in image] + [after + place for place in text]))
    shares = [each] * len(pivots)
    shares[-1] += (image_pivots + text_pivots - len(pivots)) * each
    for pivot, share in zip(pivots, shares, strict=True):
        unit_D = unit_VD[pivot - start] if pivot < after else unit_QD[pivot - after]
        far_V = (-(unit_VD @ unit_D)).masked_fill(~left, -torch.inf)
        left[far_V.sort(descending=True, stable=True).indices[:share]] = False
    return (~left).nonzero()[:, 0]
