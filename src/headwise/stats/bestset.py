"""Multiple comparisons with the best: which cells cannot be told from the best one.

A cell is a candidate for the best as long as no other is significantly better. For candidate i the
statistic is T_i = max_j (score_j − score_i) / se_ij over all other cells j; its null distribution is
that of the same maximum in resamples centred on what was observed, so it carries the correlation
between cells and the number of comparisons (Hsu 1996, Multiple Comparisons, ch. 4; max-t bootstrap).
Rejections step down (Romano & Wolf 2005, JASA 100:94-108): the critical value is that of the largest
T among the candidates still in play. So ALL truly best cells, tied ones too, stay with at least the
stated probability, however many cells there are.
"""

from __future__ import annotations

import numpy as np

from headwise.stats.bootstrap import LEVEL, Replicates
from headwise.stats.outcomes import Floats

PAIRS = 6e8
"""Pairs of cells × resamples that are looked at: all resamples up to 547 cells, fewer (never below FEWEST) beyond."""
FEWEST = 500


def best_set(replicates: Replicates, level: float = LEVEL) -> np.ndarray:
    """Bool [C]: not significantly worse than the best, simultaneously over all cells."""
    return best_set_p(replicates) > 1 - level


def best_set_p(replicates: Replicates) -> Floats:
    """Step-down adjusted p of "some other cell is better than this one", [C]; 1.0 for a single cell."""
    if len(replicates.score_C) == 1:
        return np.ones(1)
    statistic_C, null_CB = _worst_comparison(replicates)
    order = np.argsort(-statistic_C, kind="stable")
    largest_left = np.maximum.accumulate(null_CB[order][::-1], axis=0)[::-1]
    exceed = (largest_left >= statistic_C[order, None]).sum(axis=1)
    adjusted = np.empty_like(statistic_C)
    adjusted[order] = np.maximum.accumulate((1 + exceed) / (1 + null_CB.shape[1]))
    return adjusted


def _worst_comparison(replicates: Replicates) -> tuple[Floats, Floats]:
    """T_i [C] and its centred resamples [C, B'], B' ≤ B (see PAIRS)."""
    score = replicates.score_C
    weight_CC = 1 / _standard_errors(replicates.score_CB)
    gap_CC = (score - score[:, None]) * weight_CC
    np.fill_diagonal(gap_CC, -np.inf)
    count = max(FEWEST, int(PAIRS / len(score) ** 2))
    centred = (replicates.score_CB[:, :count] - score[:, None]).astype(np.float32)
    return gap_CC.max(axis=1), _largest_gaps(centred, weight_CC.astype(np.float32))


def _largest_gaps(centred_CB: np.ndarray, weight_CC: np.ndarray) -> np.ndarray:
    """For each cell the largest of (others − its own) · weight, in each resample.

    Weights are symmetric, so a pair is computed once: what i lacks to j is what j has over i. All resamples go
    together: numpy's calls are long then, and two benchmarks can be computed side by side.
    """
    largest = np.full_like(centred_CB, -np.inf)
    lead, buffer = np.full_like(centred_CB, np.inf), np.empty_like(centred_CB)
    for i, own in enumerate(centred_CB[:-1]):
        gaps = buffer[i + 1 :]
        np.subtract(centred_CB[i + 1 :], own, out=gaps)
        gaps *= weight_CC[i, i + 1 :, None]
        gaps.max(axis=0, out=largest[i])
        np.minimum(lead[i + 1 :], gaps, out=lead[i + 1 :])
    return np.maximum(largest, -lead)


def _standard_errors(resampled_CB: Floats) -> Floats:
    """Standard errors of all differences, [C, C], not below a quarter of a typical cell's own error.

    Two cells that differ on one or two questions have a tiny error and a skewed, heavy-tailed ratio;
    without the floor such pairs alone would set the critical value of everybody. Any fixed scale keeps
    the procedure valid (compare the fudge factor of Tusher et al. 2001, PNAS 98:5116).
    """
    covariance = np.atleast_2d(np.cov(resampled_CB))
    variance = np.diag(covariance)
    errors = np.sqrt(np.maximum(variance[:, None] + variance - 2 * covariance, 0))
    return np.maximum(errors, max(np.sqrt(np.median(variance)) / 4, 1e-9))
