"""From the attention of the last prompt token to the visual tokens each cell keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headwise.config import Cell
from headwise.heads import best, is_degenerate, score_heads, select_tokens


@dataclass(frozen=True)
class Choice:
    """What one cell keeps of one image for one question: ascending indices, and the heads that said so.

    `heads_K` is None for controls that look at no head; `degenerate` is true where the ranking of the
    heads was NaN or all tied.
    """

    kept_R: Tensor
    heads_K: Tensor | None
    degenerate: bool


def choose(cells: Sequence[Cell], kept: Sequence[int], attention_HV: Tensor, sample_id: str) -> list[Choice]:
    """One Choice a cell for one question; `kept` is R of each cell, `attention_HV` [H, V]."""
    scores: dict[tuple[str, str, int], tuple[Tensor, bool]] = {}
    return [_choose(cell, count, attention_HV, sample_id, scores) for cell, count in zip(cells, kept, strict=True)]


def _choose(
    cell: Cell, count: int, attention_HV: Tensor, sample_id: str, scores: dict[tuple[str, str, int], tuple[Tensor, bool]]
) -> Choice:
    heads, visual = attention_HV.shape
    if cell.strategy == "vanilla":
        return Choice(torch.arange(visual, device=attention_HV.device), None, False)
    if cell.strategy == "random_tokens":
        return Choice(_draw(cell, sample_id, visual, count).to(attention_HV.device), None, False)
    degenerate = False
    if cell.strategy == "all_heads":
        heads_K = torch.arange(heads, device=attention_HV.device)
    elif cell.strategy == "random_heads":
        heads_K = _draw(cell, sample_id, heads, cell.heads).to(attention_HV.device)
    else:
        score_H, degenerate = _score(cell, attention_HV, scores)
        heads_K = best(score_H, cell.heads)
    return Choice(select_tokens(attention_HV, heads_K, count, cell.score_dtype), heads_K, degenerate)


def _score(
    cell: Cell, attention_HV: Tensor, scores: dict[tuple[str, str, int], tuple[Tensor, bool]]
) -> tuple[Tensor, bool]:
    """The strategy's scores, computed once for all cells that share them (only `hierarchical` looks at heads)."""
    key = cell.strategy, cell.score_dtype, cell.heads if cell.strategy == "hierarchical" else 0
    if key not in scores:
        score_H = score_heads(cell.strategy, attention_HV, cell.heads, cell.score_dtype)
        scores[key] = score_H, is_degenerate(score_H)
    return scores[key]


def _draw(cell: Cell, sample_id: str, population: int, count: int) -> Tensor:
    """`count` of `population` at random, ascending; the draw depends on strategy, seed and sample alone.

    Smaller counts are subsets of larger ones, so that budgets are compared on nested sets.
    """
    digest = hashlib.sha256(f"{cell.strategy}/{cell.seed}/{sample_id}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=False) >> 1)
    return torch.randperm(population, generator=generator)[:count].sort().values
