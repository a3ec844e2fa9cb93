"""PyramidDrop: in stages, by the attention that the next layer would pay from the last prompt token.

Source: Cooperx521/PyramidDrop 6444f30. The score is the NEXT layer's row over what is still there, made of its
norm, queries and keys before anything is dropped; counts are floors of shares of the original V; positions are
counted anew after each stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwise.methods.stages import Choice, InsideMethod, Stage, View, check_published, solved, spread, top

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.study.cells import Cell, Geometry

# (layer, share kept) by the mean that a layer sees: the default; λ = .581; the author's λ = .19 (issue 29).
PUBLISHED: dict[int, tuple[tuple[int, float], ...]] = {
    270: ((8, 0.5), (16, 0.25), (24, 0.125)),
    192: tuple((layer, 0.581**power) for power, layer in enumerate((2, 8, 16, 24), 1)),
    64: tuple((layer, 0.19**power) for power, layer in enumerate((2, 8, 16), 1)),
}
# Layers of budgets other than published, of 32: shares are λ, λ², … with λ solved for the mean.
LAYERS = (2, 8, 16, 24)


class PDrop(InsideMethod):
    """Stages after layers 8, 16, 24 by default, at other layers for other budgets."""

    name = "pdrop"
    title = "PyramidDrop"
    source = "Xing et al. 2025, github.com/Cooperx521/PyramidDrop 6444f30"
    needs = ("next_last_HV",)
    positions = "compacted"
    published = tuple(PUBLISHED)

    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """Published layers and shares, or λ solved so that the mean (or the last count) is T."""
        visual = geometry.visual
        if cell.budget == "published":
            check_published(self, cell)
            stages = tuple(Stage(layer, int(visual * share)) for layer, share in PUBLISHED[cell.tokens])
            return _inside(stages, geometry)
        return _solved(cell, geometry)

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """The tokens with the highest attention, mean over heads, of the last prompt token at the NEXT layer."""
        score_V = view.once(("pdrop", cell.score_dtype), lambda: mean_over_heads(view.next_last_HV, cell))
        return Choice(top(score_V, stage.keep))


class AncestorPDrop(InsideMethod):
    """The port in EasonAI-5589/LLaVA-FinePruner-Head 954fc48: FastV in stages rather than PyramidDrop.

    It reads the layer's own attention, keeps original positions, and floors the floor: n becomes int(n·λ). At 64
    nothing is left above layer 24.
    """

    name = "pdrop@ancestor"
    title = "PyramidDrop (ancestor's port)"
    source = "github.com/EasonAI-5589/LLaVA-FinePruner-Head 954fc48"
    needs = ("last_HV",)
    published = (192, 128, 64)
    shares = {192: 0.581, 128: 0.437, 64: 0.196}

    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """The port's own layers and shares for a published T; else shares solved for the mean asked for."""
        if cell.budget != "published":
            return _solved(cell, geometry, floor_of_floor=True)
        check_published(self, cell)
        return _inside(_powers(LAYERS, self.shares[cell.tokens], geometry.visual, True), geometry)

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """The tokens with the highest attention, mean over heads, of the last prompt token at the stage's layer."""
        score_V = view.once(("fastv", cell.score_dtype), lambda: mean_over_heads(view.last_HV, cell))
        return Choice(top(score_V, stage.keep))


def mean_over_heads(attention_HV: Tensor, cell: Cell) -> Tensor:
    """Mean over all heads in the precision of the cell's ranking."""
    import torch

    return attention_HV.to(getattr(torch, cell.score_dtype)).mean(0)


def _powers(layers: tuple[int, ...] | list[int], share: float, visual: int, floor_of_floor: bool) -> tuple[Stage, ...]:
    counts, left = [], visual
    for power in range(1, len(layers) + 1):
        left = int(left * share) if floor_of_floor else int(visual * share**power)
        counts.append(left)
    return tuple(Stage(layer, count) for layer, count in zip(layers, counts, strict=True))


def _solved(cell: Cell, geometry: Geometry, floor_of_floor: bool = False) -> tuple[Stage, ...]:
    """λ by bisection, from one token after the first stage to all of them."""
    layers = spread(LAYERS, geometry.layers)

    def build(share: float) -> tuple[Stage, ...]:
        stages = _powers(layers, share, geometry.visual, floor_of_floor)
        return (Stage(layers[0], max(1, stages[0].keep)), *stages[1:])

    return solved(cell, geometry, build, 1 / geometry.visual, 1.0)


def _inside(stages: tuple[Stage, ...], geometry: Geometry) -> tuple[Stage, ...]:
    """Published layers as they are: a decoder that is too shallow for them is refused."""
    from headwise.errors import ConfigError

    if stages[-1].layer >= geometry.layers:
        raise ConfigError(
            f"budget: the published setting prunes after layer {stages[-1].layer}; "
            f"the decoder has {geometry.layers} layers"
        )
    return stages
