"""Greedy coverage, which SCOPE and MMTok share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwise.methods._ranking import rank

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 24


def greedy_coverage(value_VR: Tensor, weight_V: Tensor, count: int) -> list[int]:
    """`count` candidates in the order chosen; each is the one that adds most to what the chosen cover of R rows.

    The gain of v is weight_v · Σ_r max(0, value[v, r] − cover_r), cover the largest chosen value, 0 at first. It
    never grows while others are chosen, nor does its rounded value, so an old gain bounds the new one: only
    candidates whose bound is largest are computed anew, until the best of all is up to date. The choice is that of
    computing all of them at each step.
    """
    cover_R = value_VR.new_zeros(value_VR.shape[1])
    bound_V = value_VR.clamp(min=0).sum(1) * weight_V
    fresh_V = [True] * len(bound_V)
    chosen: list[int] = []
    while len(chosen) < count:
        index = int(bound_V.argmax())
        if not fresh_V[index]:
            block = rank(bound_V)[: min(BLOCK, len(bound_V) - len(chosen))]
            bound_V[block] = (value_VR[block] - cover_R).clamp(min=0).sum(1) * weight_V[block]
            for place in block.tolist():
                fresh_V[place] = True
            continue
        chosen.append(index)
        cover_R = cover_R.maximum(value_VR[index])
        bound_V[index] = -float("inf")
        fresh_V = [False] * len(bound_V)
    return chosen
