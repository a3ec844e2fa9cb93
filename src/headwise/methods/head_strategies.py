"""Head strategies and the controls as methods of one stage: rank heads, average their rows, take the best tokens.

The formulas that rank heads are in headwise.methods.heads; which query rows they see is the cell's `query`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.errors import ConfigError
from headwise.methods.stages import Choice, InsideMethod, Stage, View, Views
from headwise.study import names
from headwise.study.budget import head_count, kept_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.study.cells import Cell, Geometry


class HeadStrategy(InsideMethod):
    """One strategy or control, named on creation: all share this class."""

    takes_shares = True

    def __init__(self, strategy: str) -> None:
        self.strategy = strategy

    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """One stage after layer K; none for the unpruned control."""
        if cell.score_dtype not in names.SCORE_DTYPES:
            raise ConfigError(f"score_dtype: {cell.score_dtype!r} is not one of {', '.join(names.SCORE_DTYPES)}")
        if cell.query not in names.QUERIES:
            raise ConfigError(f"query: {cell.query!r} is not one of {', '.join(names.QUERIES)}")
        if names.needs_heads(self.strategy) and not 1 <= head_count(cell.heads, geometry.heads) <= geometry.heads:
            raise ConfigError(f"heads: {cell.heads} is not between 1 and {geometry.heads}, the heads of a layer")
        if not names.needs_tokens(self.strategy):
            return ()
        kept = kept_tokens(
            cell.tokens, layers=geometry.layers, visual=geometry.visual, layer=cell.layer, budget=cell.budget
        )
        return (Stage(cell.layer, kept),)

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        raise NotImplementedError("many questions at once: choices")

    def choices(self, views: Views, stage: Stage, cell: Cell) -> list[Choice]:
        """All questions in one ranking, which all strategies, numbers of heads and budgets share."""
        return views.once(("ranker", cell.query), lambda: _ranker(views, cell.query)).choices(cell, stage.keep)


def _ranker(views: Views, query: str) -> Any:
    import torch

    from headwise.methods._query_rows import query_rows
    from headwise.methods.heads.ranking import Ranker

    names_N = [view.sample_id for view in views.each]
    if query == "last_token":
        return Ranker(views.last_NHV, names_N)
    rows: list[Tensor] = [query_rows(view, query) for view in views.each]
    return Ranker(torch.stack(rows), names_N)
