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
from numpy.typing import NDArray

from headwise.stats.bootstrap import LEVEL, Replicates
from headwise.stats.outcomes import Floats

PAIRS = 6e8
"""Pairs of cells × resamples that are looked at: all resamples up to 547 cells, fewer (never below FEWEST) beyond."""
FEWEST = 500
RESAMPLES_AT_ONCE = 256

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


def _worst_comparison(replicates: Replicates) -> tuple[Floats, NDArray[np.float32]]:
    """T_i [C] and its centred resamples [C, B]."""
    score, resampled = replicates.score_C, replicates.score_CB
    scale_CC = 1 / _standard_errors(resampled)
    # Single precision and one buffer: this is the only step whose cost grows with the square of the cells.
    centred = (resampled - score[:, None]).astype(np.float32)
    buffer, null = np.empty_like(centred), np.empty_like(centred)
    statistic = np.empty(len(score))
    for i in range(len(score)):
        gap = (score - score[i]) * scale_CC[i]
        statistic[i] = np.delete(gap, i).max()
        np.subtract(centred, centred[i], out=buffer)
        buffer *= scale_CC[i].astype(np.float32)[:, None]
        buffer[i] = -np.inf
        buffer.max(axis=0, out=null[i])
    return statistic, null


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
