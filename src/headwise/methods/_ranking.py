"""Ranking and similarity that the formulas share. Ties go to the lower index everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def rank(score: Tensor) -> Tensor:
    """Indices of the last axis from the largest value to the smallest."""
    return score.sort(dim=-1, descending=True, stable=True).indices


def best(score_V: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest values, ascending: in image order."""
    return rank(score_V)[:count].sort().values


def unit(x: Tensor) -> Tensor:
    """Rows divided by their L2 norm (no epsilon, as in the originals)."""
    return x / x.norm(dim=-1, keepdim=True)


def outliers(score_V: Tensor) -> int:
    """How many values lie above Q3 + 1.5 (Q3 − Q1), by linear percentiles."""
    import torch

    low, high = torch.quantile(score_V, score_V.new_tensor([0.25, 0.75]))
    return int((score_V > high + 1.5 * (high - low)).sum())
