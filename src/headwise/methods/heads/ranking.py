"""Token selection: from prompt attention to the visual tokens that each cell keeps, for a batch of questions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from headwise.methods.heads import counts_heads, degenerate, rank, score_heads, token_scores
from headwise.methods.stages import Choice
from headwise.study.budget import head_count
from headwise.study.cells import Cell
from headwise.study.names import ranks_heads


class Ranker:
    """Token choices of any number of cells for N questions; work shared between cells is done once.

    `attention_NHV` [N, H, V]; `sample_ids` [N] seed the random controls.
    """

    def __init__(self, attention_NHV: Tensor, sample_ids: Sequence[str]) -> None:
        """`attention_NHV`: last-token rows of N questions; `sample_ids`: their names, which seed random controls."""
        self.attention_NHV, self.sample_ids = attention_NHV, sample_ids
        self._known: dict[tuple[Any, ...], Any] = {}

    def choices(self, cell: Cell, count: int) -> list[Choice]:
        """One Choice per question, keeping `count` tokens. A share of heads becomes their number here."""
        cell = replace(cell, heads=head_count(cell.heads, self.attention_NHV.shape[-2]))
        order_NV = self._once(("tokens", cell.strategy, cell.heads, cell.score_dtype), lambda: self._token_order(cell))
        kept_NR = order_NV[:, :count].sort(-1).values
        if cell.strategy in ("vanilla", "random_tokens"):
            return [Choice(kept_R) for kept_R in kept_NR]
        heads_NK = self._heads(cell)
        if not ranks_heads(cell.strategy):
            return [Choice(kept_R, heads_K) for kept_R, heads_K in zip(kept_NR, heads_NK, strict=True)]
        tied_N = degenerate(self._scores(cell)).tolist()
        rows = zip(kept_NR, heads_NK, tied_N, self._agreement(cell), strict=True)
        return [Choice(*row) for row in rows]

    def _token_order(self, cell: Cell) -> Tensor:
        """All visual tokens of each question, best first: [N, V]."""
        visual = self.attention_NHV.shape[-1]
        if cell.strategy == "vanilla":
            return torch.arange(visual, device=self.attention_NHV.device).expand(len(self.sample_ids), -1)
        if cell.strategy == "random_tokens":
            return self._drawn(cell, visual)
        return rank(token_scores(self.attention_NHV, self._heads(cell), cell.score_dtype))

    def _heads(self, cell: Cell) -> Tensor:
        """Selected heads of each question, ascending: [N, K]."""
        heads = self.attention_NHV.shape[-2]
        if cell.strategy == "all_heads":
            return torch.arange(heads, device=self.attention_NHV.device).expand(len(self.sample_ids), -1)
        if cell.strategy == "random_heads":
            return self._drawn(cell, heads)[:, : cell.heads].sort(-1).values
        order_NH = self._once(("order", *_score_key(cell)), lambda: rank(self._scores(cell)))
        return order_NH[:, : cell.heads].sort(-1).values

    def _scores(self, cell: Cell) -> Tensor:
        return self._once(
            ("scores", *_score_key(cell)),
            lambda: score_heads(cell.strategy, self.attention_NHV, cell.heads, cell.score_dtype),
        )

    def _agreement(self, cell: Cell) -> list[float]:
        """Share of selected heads on which the float16 and float64 rankings agree, per question."""

        def shared() -> list[float]:
            half_NK, full_NK = (self._heads(replace(cell, score_dtype=dtype)) for dtype in ("float16", "float64"))
            both_N = (half_NK[:, :, None] == full_NK[:, None, :]).any(-1).sum(-1)
            return (both_N / cell.heads).tolist()

        return self._once(("agreement", cell.strategy, cell.heads), shared)

    def _drawn(self, cell: Cell, population: int) -> Tensor:
        """A random order of the population for each question: [N, population].

        It depends only on control, seed and sample, so smaller budgets select subsets of larger ones.
        """
        orders = [torch.randperm(population, generator=_generator(cell, name)) for name in self.sample_ids]
        return torch.stack(orders).to(self.attention_NHV.device)

    def _once(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]


def _score_key(cell: Cell) -> tuple[str, str, int]:
    """Cache key of a ranking; includes the number of heads for strategies with `counts_heads`."""
    return cell.strategy, cell.score_dtype, cell.heads if counts_heads(cell.strategy) else 0


def _generator(cell: Cell, sample_id: str) -> torch.Generator:
    digest = hashlib.sha256(f"{cell.strategy}/{cell.seed}/{sample_id}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
