"""Strategies based on one statistic of each head's own map. Formulas: the published head-strategy study.

Each takes Maps ([..., H, V]) and returns one score per head ([..., H]), larger is better.
"""

from __future__ import annotations

from torch import Tensor

from headwise.methods.heads.maps import EPSILON, Maps

TOP_K = 10


def attention_sum(maps: Maps) -> Tensor:
    """Attention on the whole image: Σ_v a."""
    return maps.attention_HV.sum(-1)


def variance(maps: Maps) -> Tensor:
    """Unbiased variance of attention over the visual tokens."""
    return maps.attention_HV.var(-1, correction=1)


def entropy(maps: Maps) -> Tensor:
    """Low entropy of p is good, hence the sign."""
    return -maps.entropy_H


def max_attention(maps: Maps) -> Tensor:
    """Attention on the most attended visual token."""
    return maps.attention_HV.amax(-1)


def attention_range(maps: Maps) -> Tensor:
    """Largest minus smallest attention over the visual tokens."""
    return maps.attention_HV.amax(-1) - maps.attention_HV.amin(-1)


def sparsity(maps: Maps) -> Tensor:
    """Σ_v p² of the normalised row: high where few tokens hold all attention."""
    return maps.sum_squares_H


def top_k_sum(maps: Maps) -> Tensor:
    """Sum of the ten largest attention values (of all, if the image has fewer tokens)."""
    count = min(TOP_K, maps.attention_HV.shape[-1])
    return maps.attention_HV.topk(count, dim=-1).values.sum(-1)


def weighted_quality(maps: Maps) -> Tensor:
    """0.4 · max p + 0.4 · Σ p² + 0.2 / (number of tokens with p > 0.01)."""
    p_HV = maps.p_HV
    peaks_H = (p_HV > 0.01).sum(-1).to(p_HV.dtype)
    return 0.4 * p_HV.amax(-1) + 0.4 * maps.sum_squares_H + 0.2 / (peaks_H + EPSILON)


def gini_coefficient(maps: Maps) -> Tensor:
    """Gini coefficient of p: 0 where all tokens get the same, towards 1 where one gets all."""
    ascending_HV = maps.p_HV.sort(dim=-1).values
    visual = ascending_HV.shape[-1]
    rank_V = ascending_HV.new_tensor(range(1, visual + 1))
    weighted_H = ((2 * rank_V - visual - 1) * ascending_HV).sum(-1)
    return weighted_H / (visual * ascending_HV.sum(-1))
