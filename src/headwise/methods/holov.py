"""HoloV: a share of the budget for each block of the image, inside a block by attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwise.methods._ranking import rank
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision

if TYPE_CHECKING:
    from torch import Tensor

BLOCKS = 16
ATTENTION, DIVERSITY = 1000, 0.09
EPSILON = 1e-6


class HoloV(BeforeMethod):
    """Sixteen blocks of consecutive patches (not squares); blocks in image order, inside a block by rank.

    As the code has it: the score's diversity term cancels but for its epsilon; what a block is given beyond its size
    is lost, and zero rows at the end fill up to T.
    """

    name = "holov"
    title = "HoloV"
    source = "NeurIPS 2025; obananas/HoloV 1d2e65e"
    needs = ("attention_HV", "projected_VD")
    tiled = "joined"

    def choose(self, vision: Vision, tokens: int, options: Options) -> Reduced:
        """Share T among the blocks by their score; within a block, the patches with the highest [CLS] attention."""
        attention_V = vision.attention_HV.mean(0)
        sizes = _block_sizes(len(attention_V))
        attention = attention_V.split(sizes)
        scores = [_score(a, z) for a, z in zip(attention, vision.projected_VD.split(sizes), strict=True)]
        kept_T = rank(attention_V).new_full((tokens,), -1)
        start = filled = 0
        for size, share, block in zip(sizes, _shares(attention_V.new_tensor(scores), tokens), attention, strict=True):
            order = rank(block)[:share] if share < size else rank(-block.new_tensor(range(size)))
            kept_T[filled : filled + len(order)] = start + order
            start, filled = start + size, filled + len(order)
        return Reduced(kept_T)


def _block_sizes(visual: int) -> list[int]:
    """Sizes of the blocks; what is left over goes one each to the first."""
    size, left = divmod(visual, BLOCKS)
    return [size + (block < left) for block in range(BLOCKS)]


def _score(attention_n: Tensor, projected_nD: Tensor) -> float:
    """Mean of 1000 a + 0.09 v g: v the spread of a patch's similarities, g what brings v to the scale of attention."""
    count = len(attention_n)
    if count < 2:
        return float(ATTENTION * attention_n.sum())
    unit_nD = projected_nD / (projected_nD.norm(dim=1, keepdim=True) + EPSILON)
    similarity_nn = (unit_nD @ unit_nD.T).fill_diagonal_(0)
    mean_n = similarity_nn.sum(1, keepdim=True) / (count - 1)
    spread_n = (similarity_nn - mean_n).square().sum(1) / (count - 1)
    attention_n = ATTENTION * attention_n
    scale = attention_n.abs().mean() / (spread_n.abs().mean() + EPSILON)
    return float((attention_n + DIVERSITY * spread_n * scale).mean())


def _shares(score_B: Tensor, tokens: int) -> list[int]:
    """Rows per block: the floor of its weight times T; the rest goes one each to the blocks of highest weight."""
    weight_B = score_B / (score_B.sum() + EPSILON)
    shares = (weight_B * tokens).floor().nan_to_num(0).long()
    shares[rank(weight_B)[: tokens - int(shares.sum())]] += 1
    return shares.tolist()
