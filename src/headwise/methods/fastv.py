"""FastV: the last prompt token's mean attention over all heads of one layer.

Source: pkunlp-icler/FastV d165972. The same rule as the control `all_heads`, with which it shares every branch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headwise.methods.head_strategies import BuiltIn
from headwise.methods.stages import Choice, InsideMethod, Stage, View, Views, check_published

if TYPE_CHECKING:
    from headwise.study.cells import Cell, Geometry


class FastV(InsideMethod):
    """One stage after layer K. Published settings count tokens kept (the rank of the original's scripts, of 576)."""

    name = "fastv"
    title = "FastV"
    source = "Chen et al. 2024, github.com/pkunlp-icler/FastV d165972"
    published = (72, 144, 288, 432)
    takes_shares = True

    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """As every head strategy's; published means kept."""
        if cell.budget == "published":
            check_published(self, cell)
            cell = replace(cell, budget="kept")
        return BuiltIn("all_heads").stages(replace(cell, strategy="all_heads"), geometry)

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """Not used: `choices` ranks all questions of a stage at once."""
        raise NotImplementedError("many questions at once: choices")

    def choices(self, views: Views, stage: Stage, cell: Cell) -> list[Choice]:
        """The ranking that the control `all_heads` uses, too."""
        return BuiltIn("all_heads").choices(views, stage, replace(cell, strategy="all_heads"))
