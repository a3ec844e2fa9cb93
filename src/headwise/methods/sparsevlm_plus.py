"""SparseVLM+ (v2.0): SparseVLM with rotary-corrected attention of the best heads, nothing recycled.

Source: Gumpest/SparseVLMs 26a5f48, `USE_VERSION=2_0`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headwise.methods.sparsevlm import SparseVLM, text_raters
from headwise.methods.stages import Choice, Stage, View, top

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.study.cells import Cell

# Hard-coded in the original (its comment says: of 28). Fewer where a model has fewer heads.
HEADS = 14


class SparseVLMPlus(SparseVLM):
    """Stages after layers 3, 7, 16; original positions."""

    name = "sparsevlm_plus"
    title = "SparseVLM+"
    source = "Zhang et al. 2025, github.com/Gumpest/SparseVLMs 26a5f48 (v2.0)"
    needs = ("embeds_VD", "embeds_QD", "text_HQV", "positions_V", "positions_Q", "rope_frequencies")
    positions = "original"
    kept = {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)}
    published = tuple(kept)

    def merged(self, gone: int) -> int:
        """No rows are made of dropped tokens."""
        return 0

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """The tokens that the rating text tokens attend to most, weighted by rotary distance."""
        raters = view.once_per_question("raters", lambda: text_raters(view.embeds_VD, view.embeds_QD))

        def score() -> Tensor:
            weight_QV = rotary_weights(view.positions_Q[raters], view.positions_V, view.rope_frequencies)
            return rated(view.text_HQV[:, raters], weight_QV)[1]

        return Choice(top(view.once("sparsevlm_plus", score), stage.keep))


def rotary_weights(positions_Q: Tensor, positions_V: Tensor, frequencies_f: Tensor) -> Tensor:
    """g_ij = 2·Σ_f cos(θ_f·(p_i − p_j))/√d: what the rotary embedding alone makes of two vectors of ones.

    It may be ≤ 0 where heads are small or distances large; then the quotient means nothing (as in the original).
    """
    import torch

    gap_QV = (positions_Q[:, None] - positions_V[None]).float()
    size = 2 * len(frequencies_f)
    return 2 * torch.cos(gap_QV[..., None] * frequencies_f.float()).sum(-1) / math.sqrt(size)


def rated(attention_HrV: Tensor, weight_rV: Tensor) -> tuple[Tensor, Tensor]:
    """The best heads, best first, and the tokens' score: mean over those heads, then over raters."""
    corrected_HrV = attention_HrV.float() / weight_rV
    heads = corrected_HrV.sum((1, 2)).sort(descending=True, stable=True).indices[:HEADS]
    return heads, corrected_HrV[heads].mean(0).mean(0)
