"""Input of the head strategies: a prompt's attention over the image, and derived quantities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

EPSILON = 1e-8


@dataclass(frozen=True)
class Maps:
    """Attention rows of the last prompt token at the pruning layer, as the strategies see them.

    `attention_HV` [..., H, V] is the row after the softmax over all keys, cut to the V image positions
    and not renormalised, already in the dtype of the ranking. `chosen` is the number of heads to
    select, None for a strategy without `counts_heads`. Leading dimensions are independent prompts.
    """

    attention_HV: Tensor
    chosen: int | None = None

    @property
    def num_heads(self) -> int:
        """The number of heads to select. TypeError for a strategy without `counts_heads`."""
        if self.chosen is None:
            raise TypeError("a strategy that reads num_heads says counts_heads=True")
        return self.chosen

    @cached_property
    def p_HV(self) -> Tensor:
        """Softmax over V of the attention row: a second softmax, as the published definition has it."""
        return torch.softmax(self.attention_HV, dim=-1)

    @cached_property
    def entropy_H(self) -> Tensor:
        """Shannon entropy of each head's distribution over the visual tokens, in nats: [H]."""
        return -(self.p_HV * torch.log(self.p_HV + EPSILON)).sum(-1)

    @cached_property
    def sum_squares_H(self) -> Tensor:
        """Σ p² over the visual tokens of each head, 1/V (uniform) to 1 (one token): [H]."""
        return self.p_HV.square().sum(-1)

    @cached_property
    def cosine_HH(self) -> Tensor:
        """Cosine similarity of p between every two heads."""
        unit_HV = torch.nn.functional.normalize(self.p_HV, dim=-1)
        return unit_HV @ unit_HV.transpose(-1, -2)


def softened(x_H: Tensor) -> Tensor:
    """Min-max scaling over heads with an epsilon in the denominator: n(x) of the definitions."""
    low, high = x_H.amin(-1, keepdim=True), x_H.amax(-1, keepdim=True)
    return (x_H - low) / (high - low + EPSILON)


def scaled(x_H: Tensor) -> Tensor:
    """Min-max scaling over heads, all zero where every head is equal: z(x) of the definitions."""
    low, high = x_H.amin(-1, keepdim=True), x_H.amax(-1, keepdim=True)
    return torch.where(high > low, (x_H - low) / (high - low), torch.zeros_like(x_H))
