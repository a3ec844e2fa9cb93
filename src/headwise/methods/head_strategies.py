"""Head strategies and the controls as methods of one stage: rank heads, average their rows, take the best tokens.

A new strategy is a subclass with a name and one formula, `score`, in a plug-in (docs/extending.md). The formulas of
the built-in ones are in headwise.methods.heads. Which query rows they see is the cell's `query`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from headwise.errors import ConfigError
from headwise.methods.stages import Choice, InsideMethod, Stage, View, Views
from headwise.study import names
from headwise.study.budget import head_count, kept_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.methods.heads.maps import Maps
    from headwise.study.cells import Cell, Geometry


class HeadStrategy(InsideMethod):
    """A method that keeps the tokens which the best heads of one layer attend to; `score` says which those are.

    Attributes:
        counts_heads: True where the scores depend on how many heads will be chosen (`maps.num_heads`).
    """

    needs = ("last_HV",)
    needs_heads = True
    takes_shares = True
    counts_heads: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Names of subclasses are known to those who must not import torch."""
        super().__init_subclass__()
        if cls.name:
            names.add_head_strategy(cls.name)

    @abstractmethod
    def score(self, maps: Maps) -> Tensor:
        """The formula: scores of the heads, [..., H], larger is better; maps are [..., H, V] (heads/maps.py)."""

    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """One stage after layer K; none for the unpruned control."""
        if cell.score_dtype not in names.SCORE_DTYPES:
            raise ConfigError(f"score_dtype: {cell.score_dtype!r} is not one of {', '.join(names.SCORE_DTYPES)}")
        if cell.query not in names.QUERIES:
            raise ConfigError(f"query: {cell.query!r} is not one of {', '.join(names.QUERIES)}")
        if names.needs_heads(cell.strategy) and not 1 <= head_count(cell.heads, geometry.heads) <= geometry.heads:
            raise ConfigError(f"heads: {cell.heads} is not between 1 and {geometry.heads}, the heads of a layer")
        if not names.needs_tokens(cell.strategy):
            return ()
        kept = kept_tokens(
            cell.tokens, layers=geometry.layers, visual=geometry.visual, layer=cell.layer, budget=cell.budget
        )
        return (Stage(cell.layer, kept),)

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """Not used: `choices` ranks all questions of a stage at once."""
        raise NotImplementedError("many questions at once: choices")

    def choices(self, views: Views, stage: Stage, cell: Cell) -> list[Choice]:
        """All questions in one ranking, which all strategies, numbers of heads and budgets share."""
        return views.once(("ranker", cell.query), lambda: _ranker(views, cell.query)).choices(cell, stage.keep)


class BuiltIn(HeadStrategy):
    """A strategy or control of headwise's own, named on creation."""

    def __init__(self, strategy: str) -> None:
        """`strategy`: a name of headwise.study.names.STRATEGIES or CONTROLS."""
        self.strategy = strategy

    def score(self, maps: Maps) -> Tensor:
        """The formula of `heads.STRATEGIES`; a control has none."""
        from headwise.methods.heads import STRATEGIES

        return STRATEGIES[self.strategy].score(maps)


def _ranker(views: Views, query: str) -> Any:
    import torch

    from headwise.methods._query_rows import query_rows
    from headwise.methods.heads.ranking import Ranker

    names_N = [view.sample_id for view in views.each]
    if query == "last_token":
        return Ranker(views.last_NHV, names_N)
    rows: list[Tensor] = [query_rows(view, query) for view in views.each]
    return Ranker(torch.stack(rows), names_N)
