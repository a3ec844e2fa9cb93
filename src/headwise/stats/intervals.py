"""Intervals that hold with few images, and for scores on which no image shows an error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headwise.stats.outcomes import Floats

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How uncertain estimates are, [C] each.

    `variance_C` over images drawn anew, with `freedom_C` degrees of freedom (NaN where a single image says nothing);
    `question_C`: what one question is worth in the unit of the score; `clusters`: how many images of equal weight the
    images amount to.
    """

    variance_C: Floats
    freedom_C: Floats
    question_C: Floats
    clusters: float


def t_interval(estimate_C: Floats, spread: Spread, level: float = LEVEL) -> Floats:
    """Estimate ± t · standard error, [C, 2].

    One question in favour and one against are counted besides those observed, so that two cells that agree on every
    question have an interval too (Bonett & Price 2012, J. Educ. Behav. Stat. 37:479-488, for paired proportions).
    """
    half = _t(level, spread.freedom_C) * np.sqrt(spread.variance_C + 2 * spread.question_C**2)
    return np.stack([estimate_C - half, estimate_C + half], axis=-1)


def bounded_interval(score_C: Floats, spread: Spread, lowest: float, highest: float, level: float = LEVEL) -> Floats:
    """Clopper-Pearson interval at the effective number of questions, [C, 2], for scores with bounds.

    Korn & Graubard (1998, Survey Methodology 24:193-201): the number of independent questions n that would have the
    variance observed, p (1 − p) / n, lowered by the squared ratio of the t quantiles for questions and for images. It
    is at most the number of questions. Where no variance was observed (100 of 100 right) each image counts as one.
    """
    width = highest - lowest
    share = ((score_C - lowest) / width).clip(0, 1)
    variance, questions = spread.variance_C / width**2, width / spread.question_C
    binomial = share * (1 - share)
    seen = (variance > 1e-12) & (binomial > 1e-12)
    count = np.divide(binomial, variance, out=np.full_like(share, spread.clusters), where=seen)
    count = np.minimum(count * (_t(level, (questions - 1).clip(1)) / _t(level, spread.freedom_C)) ** 2, questions)
    from scipy.special import betaincinv  # here: loading scipy takes a fifth of a second that most commands can spare

    right, wrong, tail = share * count, (1 - share) * count, (1 - level) / 2
    low = np.where(right > 0, betaincinv(np.where(right > 0, right, 1), wrong + 1, tail), 0.0)
    high = np.where(wrong > 0, betaincinv(right + 1, np.where(wrong > 0, wrong, 1), 1 - tail), 1.0)
    bounds = lowest + width * np.stack([low, high], axis=-1)
    bounds[np.isnan(count)] = np.nan
    return bounds


def _t(level: float, freedom: Floats) -> Floats:
    """The two-sided quantile of Student's t; NaN where there are no degrees of freedom."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(freedom, (1 + level) / 2))
