"""Scores, and what each image adds to them: all that intervals and the best set are computed from.

Letters of the shapes: C cells, G clusters (images).

A headline is a sum of ratios Σ top / Σ bottom. To first order an image moves it by
scale · (top − ratio · bottom) / Σ bottom, its *influence* (linearization, or infinitesimal jackknife:
Davison & Hinkley 1997, Bootstrap Methods, section 2.7; Shao & Tu 1995, The Jackknife and Bootstrap, section 2.1).
Everything downstream sees shares and influences only, so a new kind of score needs no statistics of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headwise.stats.intervals import LEVEL, Spread, bounded_interval, t_interval
from headwise.stats.outcomes import Floats, Headline, Outcomes, Term, headline

Strata = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Scores of C cells on the same images.

    Attributes:
        score_C: the scores.
        share_CG: rows sum to the score; the difference of two rows is what each image adds to the difference of scores.
        influence_CG: how far each image moves the score; rows sum to 0.
        question_C: what one question is worth, in the unit of the score.
        samples: the independent samples of images, one per benchmark; each is a tuple of strata (slices of clusters).
        effective: how many images of equal weight the images amount to (Kish), for a single benchmark.
        lowest, highest: the bounds of the score.
    """

    score_C: Floats
    share_CG: Floats
    influence_CG: Floats
    question_C: Floats
    samples: tuple[Strata, ...]
    effective: float
    lowest: float
    highest: float

    @property
    def images(self) -> int:
        """How many images; those of several benchmarks are counted together."""
        return self.share_CG.shape[1]

    def of(self, cells: Sequence[int] | np.ndarray) -> Estimates:
        """Some cells only."""
        return self._mapped(lambda values: values[cells])

    def mean_of(self, groups: Sequence[np.ndarray]) -> Estimates:
        """The means over groups of cells, one row per group."""
        return self._mapped(lambda values: np.array([values[rows].mean(axis=0) for rows in groups]))

    def percent_of(self, reference_C: np.ndarray) -> Estimates:
        """Scores in percent of each row's reference row, shares by the delta method; NaN where that one scores 0."""
        whole = self.score_C[reference_C]
        unit = 100 / np.where(whole > 0, whole, np.nan)
        moved = (self.score_C * unit / 100)[:, None] * self.influence_CG[reference_C]
        return replace(
            self,
            score_C=unit * self.score_C,
            share_CG=unit[:, None] * (self.share_CG - moved),
            influence_CG=unit[:, None] * (self.influence_CG - moved),
            question_C=unit * self.question_C,
            highest=np.inf,
        )

    def percent_of_number(self, whole: float) -> Estimates:
        """Scores in percent of a fixed number; NaN where it is 0."""
        unit = 100 / whole if whole > 0 else np.nan
        return replace(self._mapped(lambda values: unit * values), highest=np.inf)

    def intervals(self, level: float = LEVEL) -> Floats:
        """Interval of each score, [C, 2]; NaN where there are too few images to have one."""
        spread = self._spread(self.influence_CG, self.question_C)
        if np.isfinite(self.lowest) and np.isfinite(self.highest):
            return bounded_interval(self.score_C, spread, self.lowest, self.highest, level)
        return t_interval(self.score_C, spread, level).clip(self.lowest, self.highest)

    def differences(self, reference_C: np.ndarray, level: float = LEVEL) -> Floats:
        """Interval of each score minus its reference's, paired, [C, 2]; NaN for a row that is its own reference."""
        gap = self.score_C - self.score_C[reference_C]
        question = np.maximum(self.question_C, self.question_C[reference_C])
        spread = self._spread(self.influence_CG - self.influence_CG[reference_C], question)
        widest = self.highest - self.lowest
        found = t_interval(gap, spread, level).clip(-widest, widest)
        found[reference_C == np.arange(len(gap))] = np.nan
        return found

    def _mapped(self, change: Callable[[Floats], Floats]) -> Estimates:
        return replace(
            self,
            score_C=change(self.score_C),
            share_CG=change(self.share_CG),
            influence_CG=change(self.influence_CG),
            question_C=change(self.question_C),
        )

    def _spread(self, influence_CG: Floats, question_C: Floats) -> Spread:
        """The variance of sums of influences, and its degrees of freedom: clusters − strata for each sample.

        Samples are combined by Satterthwaite (1946, Biometrics Bulletin 2:110-114).
        """
        variance_SC = np.array([_variance(influence_CG, strata) for strata in self.samples])
        freedom_S = np.array([sum(s.stop - s.start - 1 for s in strata) for strata in self.samples], float)
        total = variance_SC.sum(axis=0)
        if not (freedom_S > 0).all():
            return self._unknown(question_C)
        shares = np.divide(variance_SC, total, out=np.zeros_like(variance_SC), where=total > 0)
        weighted = (shares**2 / freedom_S[:, None]).sum(axis=0)
        freedom = np.divide(1, weighted, out=np.full_like(total, freedom_S.min()), where=weighted > 0)
        return Spread(variance_C=total, freedom_C=freedom, question_C=question_C, clusters=self.effective)

    def _unknown(self, question_C: Floats) -> Spread:
        nothing = np.full_like(question_C, np.nan)
        return Spread(variance_C=nothing, freedom_C=nothing, question_C=question_C, clusters=self.effective)


def estimate(outcomes: Outcomes) -> Estimates:
    """The scores of a benchmark's cells and the images' shares in them.

    Where a stratum has a single image (an MME category under a small limit), nothing says how images vary in it. All
    images are then taken as one sample; what differs between strata counts as variation, and intervals get longer.
    """
    score = headline(outcomes)
    parts = [(term.clusters, *_parts(term)) for term in score.terms]
    shape = (len(outcomes.correct_CQ), score.clusters)
    share, influence, weight = np.zeros(shape), np.zeros(shape), np.zeros(score.clusters)
    for clusters, fraction, added, moved in parts:
        share[:, clusters] += added
        influence[:, clusters] += moved
        weight[clusters] += fraction
    weight /= weight.sum()
    observed, strata = share.sum(axis=1), score.strata
    if len(strata) > 1 and min(part.stop - part.start for part in strata) < 2:
        strata, influence = (slice(0, score.clusters),), share - observed[:, None] * weight
    reach = sum(abs(term.scale) for term in score.terms)
    lowest, highest = _bounds(score)
    return Estimates(
        score_C=observed,
        share_CG=share,
        influence_CG=influence,
        question_C=reach / outcomes.answered_CQ.sum(axis=1).clip(1),
        samples=(strata,),
        effective=float(1 / (weight**2).sum()),
        lowest=lowest,
        highest=highest,
    )


def average(parts: Sequence[Estimates]) -> Estimates:
    """The mean of scores of the same cells on independent samples of images."""
    starts = np.cumsum([0, *(part.images for part in parts)])
    samples = [
        tuple(slice(start + stratum.start, start + stratum.stop) for stratum in strata)
        for start, part in zip(starts, parts, strict=False)
        for strata in part.samples
    ]
    return Estimates(
        score_C=np.mean([part.score_C for part in parts], axis=0),
        share_CG=np.concatenate([part.share_CG for part in parts], axis=1) / len(parts),
        influence_CG=np.concatenate([part.influence_CG for part in parts], axis=1) / len(parts),
        question_C=np.sqrt(np.sum([part.question_C**2 for part in parts], axis=0)) / len(parts),
        samples=tuple(samples),
        effective=min(part.effective for part in parts),
        lowest=min(part.lowest for part in parts),
        highest=max(part.highest for part in parts),
    )


def _parts(term: Term) -> tuple[Floats, Floats, Floats]:
    """Of one term: the clusters' weights [G'], their shares and their influences [C, G'].

    A share is the influence and, on top, the cluster's part of the ratio by its weight, which is the same for all
    cells. With a denominator that all cells have in common it is just scale · top / Σ bottom.
    """
    below = term.bottom_CG.sum(axis=1, keepdims=True)
    one = np.divide(1, below, out=np.zeros_like(below), where=below > 0)
    fraction_CG = term.bottom_CG * one
    ratio = term.top_CG.sum(axis=1, keepdims=True) * one
    influence = term.scale * (term.top_CG * one - ratio * fraction_CG)
    weight = fraction_CG.mean(axis=0)
    if weight.sum() > 0:
        weight = weight / weight.sum()
    return abs(term.scale) * weight, influence + term.scale * ratio * weight, influence


def _bounds(score: Headline) -> tuple[float, float]:
    """0 and Σ scale, where no ratio can leave 0..1; else the score counts as unbounded."""
    kept = all(t.scale >= 0 and (t.top_CG >= 0).all() and (t.top_CG <= t.bottom_CG + 1e-9).all() for t in score.terms)
    return (0.0, sum(term.scale for term in score.terms)) if kept else (-np.inf, np.inf)


def _variance(influence_CG: Floats, strata: Strata) -> Floats:
    """Variance [C] of the sum of influences when images are drawn anew within their strata."""
    total = np.zeros(len(influence_CG))
    for stratum in strata:
        values, count = influence_CG[:, stratum], stratum.stop - stratum.start
        if count > 1:
            total += count**2 * values.var(axis=1, ddof=1) / count
    return total
