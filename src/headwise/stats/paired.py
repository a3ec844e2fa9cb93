"""Two cells on the same questions: size of the difference, and whether it could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headwise.stats.estimates import estimate
from headwise.stats.outcomes import Floats, Headline, Outcomes, blocks, headline, sum_of_ratios

FLIPS = 9999
_CHUNK = 500


@dataclass(frozen=True)
class Paired:
    """Cell minus reference on the `questions` both answered.

    `difference`, `low`, `high` in the score's unit; `p` from sign flips by image; `p_mcnemar` from the
    questions on which exactly one is right (None where a verdict is neither 0 nor 1). McNemar's test
    takes questions as independent, so `p` is the one to decide by.
    """

    questions: int
    difference: float
    low: float
    high: float
    p: float
    p_mcnemar: float | None
    percent: float
    percent_low: float
    # Percent of the reference's score, NaN where that is 0, and its interval.
    percent_high: float


def compare_pair(outcomes: Outcomes, cell: int, reference: int, *, flips: int = FLIPS, seed: int = 0) -> Paired:
    """Compare two rows of the outcomes; ValueError where they share no answered question.

    The interval is NaN where there is a single image.
    """
    both = outcomes.answered_CQ[cell] & outcomes.answered_CQ[reference]
    if not both.any():
        raise ValueError(f"cells {cell} and {reference} have no answered question in common")
    pair = outcomes.rows([cell, reference]).columns(both)
    scores = estimate(pair)
    reference_C = np.array([1, 1])
    low, high = scores.differences(reference_C)[0]
    difference, p = scores.score_C[0] - scores.score_C[1], sign_flip_p(pair, 1, flips, seed)[0]
    exact = mcnemar_p(pair.correct_CQ[0], pair.correct_CQ[1])
    percent = scores.percent_of(reference_C)
    bounds = percent.intervals()[0]
    return Paired(
        int(both.sum()), float(difference), float(low), float(high), float(p), exact, float(percent.score_C[0]), *bounds
    )


def sign_flip_p(outcomes: Outcomes, reference: int, flips: int = FLIPS, seed: int = 0) -> Floats:
    """Two-sided p [C] of "cell and reference are exchangeable": their answers swapped image by image.

    A swap replaces a whole image's verdicts, so the score (F1 and MME's pairs too) is recomputed from
    the swapped counts, and questions of one image stay together. The reference itself has p = 1.
    """
    score = headline(outcomes)
    observed = score.observed()
    gap = np.abs(observed - observed[reference])[:, None] - 1e-9
    rng = np.random.default_rng(seed)
    extreme = np.zeros(len(observed))
    for start in range(0, flips, _CHUNK):
        width = min(_CHUNK, flips - start)
        swap_GB = rng.integers(0, 2, size=(score.clusters, width)).astype(float)
        for block in blocks(len(observed), width):
            extreme += (_swapped_gaps(score, reference, swap_GB[:, block]) >= gap).sum(axis=1)
    return (1 + extreme) / (1 + flips)


def _swapped_gaps(score: Headline, reference: int, swap_GB: Floats) -> Floats:
    """|score of the cell − score of the reference| after the swaps, [C, B]."""
    own, other = [], []
    for t in score.terms:
        (top, top_ref), (low, low_ref) = (_swapped(x, reference, swap_GB[t.clusters]) for x in (t.top_CG, t.bottom_CG))
        own.append((t.scale, top, low))
        scale_ref = t.scale if isinstance(t.scale, float) else t.scale[[reference]]
        other.append((scale_ref, top_ref, low_ref))
    return np.abs(sum_of_ratios(iter(own)) - sum_of_ratios(iter(other)))


def _swapped(counts_CG: Floats, reference: int, swap_GB: Floats) -> tuple[Floats, Floats]:
    """Sums of each cell and of its reference, [C, B] both, after swapping the clusters where swap is 1."""
    if len(counts_CG) == 1:  # the same for all cells: swapping changes nothing
        return counts_CG.sum(keepdims=True), counts_CG.sum(keepdims=True)
    moved = (counts_CG[reference] - counts_CG) @ swap_GB
    return counts_CG.sum(axis=1, keepdims=True) + moved, counts_CG[reference].sum() - moved


def mcnemar_p(correct_Q: np.ndarray, reference_Q: np.ndarray) -> float | None:
    """Exact McNemar p over questions both answered; None where a verdict is neither right nor wrong."""
    p = float(mcnemar(correct_Q[None], reference_Q)[0])
    return None if np.isnan(p) else p


def mcnemar(correct_CQ: np.ndarray, reference_Q: np.ndarray) -> Floats:
    """Exact McNemar p of each cell against one reference, [C]; NaN where a verdict is neither right nor wrong.

    Under the hypothesis the questions that exactly one of the two gets right are fair coins.
    """
    from scipy.special import bdtr  # takes a fifth of a second, which no other command should pay

    both_CQ = ~(np.isnan(correct_CQ) | np.isnan(reference_Q))
    soft_C = (both_CQ & ~(_is_binary(correct_CQ) & _is_binary(reference_Q))).any(axis=1)
    won = (both_CQ & (correct_CQ > reference_Q)).sum(axis=1)
    lost = (both_CQ & (correct_CQ < reference_Q)).sum(axis=1)
    p = np.minimum(1, 2 * bdtr(np.minimum(won, lost), won + lost, 0.5))
    return np.where(soft_C, np.nan, p)


def _is_binary(correct: np.ndarray) -> np.ndarray:
    return (correct == 0) | (correct == 1)


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Holm's step-down adjusted p-values over one family of tests (S. Holm 1979, Scand. J. Statist. 6:65-70).

    What statsmodels' `multipletests` computes, as the tests check; loading that takes three of the fifteen seconds that
    comparing 3,000 cells may take, and scipy has no Holm.
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values, kind="stable")
    left = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(left * values[order]))
    return adjusted
