"""Cells that did not answer every question: scored on what they answered, compared on what both answered.

Scores of two cells over different questions are no pair: the difference would be one of the questions, too.
"""

from __future__ import annotations

import numpy as np

from headwise.errors import DataError
from headwise.stats.bootstrap import RESAMPLES, Replicates, bootstrap
from headwise.stats.outcomes import Outcomes
from headwise.stats.paired import Paired, compare_pair


def answered_by_any(outcomes: Outcomes) -> Outcomes:
    """Without the questions that no cell answered (an image that cannot be read); DataError where none is left."""
    answered_Q = np.asarray(outcomes.answered_CQ.any(axis=0))
    if not answered_Q.any():
        raise DataError("no cell answered any question, so there is nothing to compare")
    return outcomes if answered_Q.all() else outcomes.columns(answered_Q)


def own_replicates(outcomes: Outcomes, seed: int) -> Replicates:
    """Scores of each cell over the questions it answered itself: NaN where that gives no score.

    Cells that answered everything are resampled together and so are pairs; the others are pairs to nobody here.
    """
    full_C = np.asarray(outcomes.answered_CQ.all(axis=1))
    if full_C.all():
        return bootstrap(outcomes, seed=seed)
    score_C, score_CB = np.full(len(full_C), np.nan), np.full((len(full_C), RESAMPLES), np.nan)
    if full_C.any():
        together = bootstrap(outcomes.rows(np.flatnonzero(full_C)), seed=seed)
        score_C[full_C], score_CB[full_C] = together.score_C, together.score_CB
    for cell in np.flatnonzero(~full_C).tolist():
        answered_Q = outcomes.answered_CQ[cell]
        if not answered_Q.any():
            continue
        try:
            alone = bootstrap(outcomes.rows([cell]).columns(answered_Q), seed=seed)
        except DataError:  # not one whole pair of MME's
            continue
        score_C[cell], score_CB[cell] = alone.score_C[0], alone.score_CB[0]
    return Replicates(score_C, score_CB)


class Pairs:
    """Comparisons over the questions that both cells answered, computed once each."""

    def __init__(self, outcomes: Outcomes, seed: int = 0) -> None:
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
