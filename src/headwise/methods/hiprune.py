"""HiPrune: anchors from a middle layer with their neighbours, the rest from the deep layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from headwise.errors import ConfigError
from headwise.methods._ranking import best, rank
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision, between


@dataclass(frozen=True, kw_only=True)
class HiPruneOptions(Options):
    """`alpha`: the share of T that anchors and their four neighbours may take."""

    alpha: float = 0.1

    def __post_init__(self) -> None:
        """ConfigError where `alpha` is not in 0..1."""
        between("alpha", self.alpha, 0, 1)


class HiPrune(BeforeMethod):
    """Anchors are what the object layer attends to most; patches in image order.

    As the code has it: the left and right neighbours wrap across rows, and neighbours outside the image are the
    first or last patch. The original's 24 × 24 grid is a square of any side here.
    """

    name = "hiprune"
    title = "HiPrune"
    source = "HiPrune, commit 6e83a12"
    needs = ("object_layer_V", "deep_layer_V")
    options_type = HiPruneOptions

    def feasible(self, tokens: int, visual: int, options: HiPruneOptions) -> bool:
        """Whether T holds all anchors with their four neighbours."""
        return 5 * _anchors(tokens, options) <= tokens

    def choose(self, vision: Vision, tokens: int, options: HiPruneOptions) -> Reduced:
        """Anchors and their neighbours on the grid, filled up with what the deep layer attends to most."""
        visual = len(vision.object_layer_V)
        side = isqrt(visual)
        if side * side != visual:
            raise ConfigError(f"hiprune: {visual} patches are not a square grid")
        anchors = best(vision.object_layer_V, _anchors(tokens, options))
        steps = anchors.new_tensor([0, -1, 1, -side, side])
        near = (anchors[:, None] + steps).clamp(0, visual - 1).unique()
        deep_V = vision.deep_layer_V.index_fill(0, near, -float("inf"))
        fill = rank(deep_V)[: tokens - len(near)]
        return Reduced(anchors.new_tensor(near.tolist() + fill.tolist()).sort().values)


def _anchors(tokens: int, options: HiPruneOptions) -> int:
    return round(tokens * options.alpha / 5)
