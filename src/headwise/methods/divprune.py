"""DivPrune: the patches that are farthest from each other (max-min diversity)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwise.methods._ranking import unit
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision

if TYPE_CHECKING:
    from torch import Tensor


class DivPrune(BeforeMethod):
    """Greedy max-min of the cosine distance between projected patches, in image order.

    The first is the patch whose nearest neighbour is farthest. Chosen ones are masked: the original relies on their
    distance to themselves being 0, and could take an exact duplicate twice.
    """

    name = "divprune"
    title = "DivPrune"
    source = "CVPR 2025; vbdi/divprune 799e2d9"
    needs = ("projected_VD",)
    tiled = "packed"

    def choose(self, vision: Vision, tokens: int, options: Options) -> Reduced:
        """T patches picked one after the other, each the farthest from those already picked."""
        unit_VD = unit(vision.projected_VD)
        chosen = farthest(1 - unit_VD @ unit_VD.T, tokens)
        return Reduced(unit_VD.new_tensor(sorted(chosen)).long())


def farthest(distance_VV: Tensor, count: int) -> list[int]:
    """`count` indices in the order chosen: each has the largest distance to its nearest chosen one.

    For the first it is the nearest of all others: the second smallest of its column, after its own.
    """
    nearest_V = distance_VV.kthvalue(min(2, len(distance_VV)), dim=0).values
    chosen = [int(nearest_V.argmax())]
    nearest_V = distance_VV[chosen[0]].clone()
    for _ in range(count - 1):
        nearest_V[chosen[-1]] = -float("inf")
        chosen.append(int(nearest_V.argmax()))
        nearest_V = nearest_V.minimum(distance_VV[chosen[-1]])
    return chosen
