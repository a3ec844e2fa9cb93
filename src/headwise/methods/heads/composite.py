"""Strategies that combine several statistics or compare heads with each other.

Formulas: the published head-strategy study. Each takes Maps ([..., H, V]) and returns [..., H], larger is better.
"""

from __future__ import annotations

import torch
from torch import Tensor

from headwise.methods.heads.maps import EPSILON, Maps, scaled, softened

SIMILAR = 0.1
ROUNDS = 2


def multi_objective(maps: Maps) -> Tensor:
    """Shape of p (entropy, kurtosis), difference from the other heads, and sparsity, each min-max scaled."""
    heads = maps.p_HV.shape[-2]
    cosine_H = (maps.cosine_HH.sum(-1) - 1) / (heads - 1)
    shape_H = 0.7 * softened(maps.entropy_H) + 0.3 * softened(_kurtosis(maps.p_HV))
    return 0.4 * shape_H + 0.3 * softened(1 / (cosine_H + EPSILON)) + 0.3 * softened(maps.sum_squares_H)


def graph_based(maps: Maps) -> Tensor:
    """Five features per head, smoothed twice over the graph of heads with similar maps."""
    p_HV = maps.p_HV
    above_H = (p_HV > p_HV.mean(-1, keepdim=True)).to(p_HV.dtype).mean(-1)
    features = [maps.sum_squares_H, maps.entropy_H, p_HV.amax(-1), p_HV.var(-1, correction=1), above_H]
    x_HF = torch.stack(features, dim=-1)
    adjacency_HH = (maps.cosine_HH > SIMILAR).to(p_HV.dtype)
    adjacency_HH = adjacency_HH * (1 - torch.eye(p_HV.shape[-2], dtype=p_HV.dtype, device=p_HV.device))
    adjacency_HH = adjacency_HH / (adjacency_HH.sum(-1, keepdim=True) + EPSILON)
    for _ in range(ROUNDS):
        x_HF = torch.relu(x_HF + adjacency_HH @ x_HF)
    return x_HF.mean(-1)


def hierarchical(maps: Maps) -> Tensor:
    """A coarse selection of about twice the heads, then a fine ranking within it (others score -inf)."""
    p_HV, heads = maps.p_HV, maps.p_HV.shape[-2]
    if heads <= maps.num_heads or heads <= 8:
        return 0.5 * maps.sum_squares_H + 0.3 * p_HV.amax(-1) + 0.2 * p_HV.var(-1, correction=1)
    coarse_H = 0.6 * maps.sum_squares_H + 0.4 * (1 - scaled(maps.entropy_H))
    count = min(heads, max(2 * maps.num_heads, maps.num_heads + 4))
    chosen_C = coarse_H.sort(dim=-1, descending=True, stable=True).indices[..., :count].sort(-1).values
    fine_C = _fine(p_HV.gather(-2, chosen_C.unsqueeze(-1).expand(*chosen_C.shape, p_HV.shape[-1])))
    return torch.full_like(coarse_H, -torch.inf).scatter(-1, chosen_C, fine_C)


def _fine(p_CV: Tensor) -> Tensor:
    """Fine score among the coarsely selected heads: entropy, KL to uniform, distance to their mean, flatness."""
    uniform = 1 / p_CV.shape[-1]
    entropy_C = -(p_CV * torch.log(p_CV + EPSILON)).sum(-1)
    divergence_C = (p_CV * torch.log(p_CV / (uniform + EPSILON) + EPSILON)).sum(-1)
    unit_CV = torch.nn.functional.normalize(p_CV, dim=-1)
    distance_C = (unit_CV - unit_CV.mean(-2, keepdim=True)).norm(dim=-1)
    flatness_C = 1 / (p_CV.std(-1, correction=1) + EPSILON)
    parts = (0.3, entropy_C), (0.25, divergence_C), (0.25, distance_C), (0.2, flatness_C)
    return torch.stack([weight * scaled(part_C) for weight, part_C in parts]).sum(0)


def _kurtosis(p_HV: Tensor) -> Tensor:
    """m4 / (m2² + 1e-8) with biased central moments."""
    centred_HV = p_HV - p_HV.mean(-1, keepdim=True)
    second_H, fourth_H = centred_HV.square().mean(-1), centred_HV.pow(4).mean(-1)
    return fourth_H / (second_H.square() + EPSILON)
