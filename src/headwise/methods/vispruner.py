"""VisPruner: half of the patches by [CLS] attention, half that differ most from each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwise.methods._ranking import rank, unit
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision, between

if TYPE_CHECKING:
    from torch import Tensor

DROPPED_PER_ROUND = 8


@dataclass(frozen=True, kw_only=True)
class VisPrunerOptions(Options):
    """`important_ratio`: the share of T that [CLS] attention chooses; 1 is FasterVLM."""

    important_ratio: float = 0.5

    def __post_init__(self) -> None:
        """ConfigError where `important_ratio` is not in 0..1."""
        between("important_ratio", self.important_ratio, 0, 1)


class VisPruner(BeforeMethod):
    """Important and diverse patches in image order. Similarity is of the unprojected features, in float64.

    Float64, since a round's order decides the next round's pairs and similarities lie as near as 3e-7.
    """

    name = "vispruner"
    title = "VisPruner"
    source = "ICCV 2025; Theia-4869/VisPruner aefa01a"
    needs = ("attention_HV", "hidden_NC")
    tiled = "each"
    options_type = VisPrunerOptions

    def choose(self, vision: Vision, tokens: int, options: VisPrunerOptions) -> Reduced:
        """Patches by [CLS] attention, then of the rest those that are left after near-duplicates were removed."""
        import torch

        important = int(tokens * options.important_ratio)
        order_V = rank(vision.attention_HV.mean(0))
        chosen = order_V[:important]
        if important < tokens:
            residual = _diverse(vision.hidden_NC[1:].double(), order_V[important:], tokens - important)
            chosen = torch.cat([chosen, residual])
        return Reduced(chosen.sort().values)


def _diverse(features_VC: Tensor, residual: Tensor, count: int) -> Tensor:
    """`count` of the `residual` patches, which come in rank order: rounds that drop the most similar.

    A round pairs every second patch (A) with those between (B) and drops up to eight of A. The original fails where
    their number is odd, or A is smaller than what is to be dropped; here A is then the longer half, or dropped whole.
    """
    import torch

    unit_VC = unit(features_VC)
    cosine_VV = unit_VC @ unit_VC.T
    while len(residual) > count:
        a, b = residual[0::2], residual[1::2]
        order = rank(cosine_VV[a][:, b].amax(1))
        residual = torch.cat([a[order[min(DROPPED_PER_ROUND, len(residual) - count) :]], b])
    return residual
