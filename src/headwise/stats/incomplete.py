"""Cells that did not answer every question: scored on what they answered, compared on what both answered.

Scores of two cells over different questions are no pair: the difference would be one of the questions, too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headwise.errors import DataError
from headwise.stats.estimates import Estimates, estimate
from headwise.stats.outcomes import Floats, Outcomes
from headwise.stats.paired import Paired, compare_pair


def answered_by_any(outcomes: Outcomes) -> Outcomes:
    """Without the questions that no cell answered (an image that cannot be read); DataError where none is left."""
    answered_Q = np.asarray(outcomes.answered_CQ.any(axis=0))
    if not answered_Q.any():
        raise DataError("no cell answered any question, so there is nothing to compare")
    return outcomes if answered_Q.all() else outcomes.columns(answered_Q)


def own_estimates(outcomes: Outcomes) -> tuple[Estimates, Floats]:
    """Scores of each cell over the questions it answered itself, and their intervals [C, 2]; NaN where there is none.

    The estimates of cells that answered everything belong together. A cell that did not has its score there and no
    shares: its questions are others', so that it is a pair to nobody here.
    """
    full_C = np.asarray(outcomes.answered_CQ.all(axis=1))
    if full_C.all():
        together = estimate(outcomes)
        return together, together.intervals()
    together = estimate(outcomes.rows(np.flatnonzero(full_C)) if full_C.any() else outcomes)
    found = _spread_out(together, full_C)
    bounds_C2 = np.full((len(full_C), 2), np.nan)
    if full_C.any():
        bounds_C2[full_C] = together.intervals()
    for cell in np.flatnonzero(~full_C).tolist():
        answered_Q = outcomes.answered_CQ[cell]
        try:
            alone = estimate(outcomes.rows([cell]).columns(answered_Q)) if answered_Q.any() else None
        except DataError:  # not one whole pair of MME's
            alone = None
        if alone is not None:
            found.score_C[cell], found.question_C[cell] = alone.score_C[0], alone.question_C[0]
            bounds_C2[cell] = alone.intervals()[0]
    return found, bounds_C2


def _spread_out(together: Estimates, full_C: np.ndarray) -> Estimates:
    """Estimates of the full cells in rows of all cells: the others' scores unknown, their shares 0."""

    def rows(values: Floats, empty: float) -> Floats:
        wide = np.full((len(full_C), *values.shape[1:]), empty)
        if full_C.any():
            wide[full_C] = values
        return wide

    return replace(
        together,
        score_C=rows(together.score_C, np.nan),
        share_CG=rows(together.share_CG, 0.0),
        influence_CG=rows(together.influence_CG, 0.0),
        question_C=rows(together.question_C, np.nan),
    )


class Pairs:
    """Comparisons over the questions that both cells answered, computed once each."""

    def __init__(self, outcomes: Outcomes, seed: int = 0) -> None:
        """`seed`: of the bootstrap, the same for every pair."""
        self.outcomes, self.seed = outcomes, seed
        self.full_C = np.asarray(outcomes.answered_CQ.all(axis=1))
        self._known: dict[tuple[int, int], Paired | None] = {}

    def needed(self, cell: int, reference: int) -> bool:
        """Whether scores over all questions do not compare the two."""
        return cell != reference and reference >= 0 and not (self.full_C[cell] and self.full_C[reference])

    def of(self, cell: int, reference: int) -> Paired | None:
        """Cell against reference; None where the questions that both answered give no score."""
        if (cell, reference) not in self._known:
            try:
                self._known[cell, reference] = compare_pair(self.outcomes, cell, reference, seed=self.seed)
            except (ValueError, DataError):
                self._known[cell, reference] = None
        return self._known[cell, reference]
