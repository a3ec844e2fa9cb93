"""Bootstrap over images: how far each score would move had other images been drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headwise.stats.outcomes import Floats, Headline, Outcomes, headline

RESAMPLES = 2000
LEVEL = 0.95
_CHUNK = 256  # resamples at a time: bounds the weights to clusters x 256 numbers


@dataclass(frozen=True)
class Replicates:
    """Observed scores [C] and the scores of B resamples [C, B], the same resamples for all cells."""

    score_C: Floats
    score_CB: Floats

    def intervals(self, level: float = LEVEL) -> Floats:
        """Percentile intervals, [C, 2]."""
        return percentile_interval(self.score_CB, level)

    def of(self, cells: Sequence[int] | np.ndarray) -> Replicates:
        """Some cells only."""
        return Replicates(self.score_C[cells], self.score_CB[cells])

    def mean_of(self, groups: Sequence[np.ndarray]) -> Replicates:
        """The means over groups of cells, one row a group."""
        parts = [self.of(rows) for rows in groups]
        score, resampled = [p.score_C.mean() for p in parts], [p.score_CB.mean(axis=0) for p in parts]
        return Replicates(np.array(score), np.array(resampled))

    def difference(self, cell: int, reference: int, level: float = LEVEL) -> tuple[float, float, float]:
        """Score difference cell − reference and its percentile interval, from the paired resamples."""
        low, high = percentile_interval(self.score_CB[cell] - self.score_CB[reference], level)
        return float(self.score_C[cell] - self.score_C[reference]), float(low), float(high)


def percentile_interval(values_XB: Floats, level: float = LEVEL) -> Floats:
    """The central `level` of the last axis, [..., 2]."""
    tails = [(1 - level) / 2, (1 + level) / 2]
    return np.moveaxis(np.quantile(values_XB, tails, axis=-1), 0, -1)


def bootstrap(outcomes: Outcomes, resamples: int = RESAMPLES, seed: int = 0) -> Replicates:
    """Resample whole images (within category for MME) `resamples` times; deterministic in `seed`.

    Whole clusters are drawn because questions about one image share its difficulty; drawing questions
    would make the intervals too short (Davison & Hinkley 1997, Bootstrap Methods, section 3.8).
    """
    score = headline(outcomes)
    chunks = [score.scores(weights) for weights in _cluster_weights(score, resamples, seed)]
    return Replicates(score.observed(), np.concatenate(chunks, axis=1))


def _cluster_weights(score: Headline, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each cluster is drawn, [G, up to 256], multinomial within each stratum."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        width = min(_CHUNK, resamples - start)
        yield np.concatenate([_multinomial(rng, part.stop - part.start, width) for part in score.strata])


def _multinomial(rng: np.random.Generator, clusters: int, width: int) -> Floats:
    drawn = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=width)
    return drawn.T.astype(float)
