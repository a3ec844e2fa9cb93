"""The verdicts of one benchmark as arrays, and its score as a sum of ratios of cluster counts.

Letters of the shapes: C cells, Q questions, G clusters (images), B resamples.

Every headline here is Σ scale · (Σ numerator) / (Σ denominator) over a handful of terms, each sum
running over clusters. A resample only changes the clusters' weights, so that one matrix product gives
a term's sums for all cells and resamples at once, and all cells see the same resamples (paired).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from headwise.errors import DataError

Floats = NDArray[np.float64]
Kind = Literal["mean", "mme", "mean_f1"]
"""How the headline comes from verdicts, as `Benchmark.kind` says."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What C cells got right on the same Q questions of one benchmark.

    `correct_CQ` float32 in 0..1, NaN where failed or missing; `image_Q` and `category_Q` integer codes;
    `truth_yes_Q` bool, the questions whose right answer is yes (needed where kind is "mean_f1" only).
    """

    kind: Kind
    correct_CQ: NDArray[np.float32]
    image_Q: NDArray[np.integer]
    category_Q: NDArray[np.integer]
    truth_yes_Q: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        cells, questions = self.correct_CQ.shape
        if cells == 0 or questions == 0:
            raise ValueError(f"no verdicts to compare: {cells} cells x {questions} questions")
        if self.kind == "mean_f1" and self.truth_yes_Q is None:
            raise ValueError("a mean F1 needs truth_yes_Q, the questions whose true answer is yes")
        for name in ("image_Q", "category_Q", "truth_yes_Q"):
            codes = getattr(self, name)
            if codes is not None and codes.shape != (questions,):
                raise ValueError(f"{name} has shape {codes.shape}, the verdicts have {questions} questions")

    @property
    def answered_CQ(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.correct_CQ)

    def rows(self, cells: Sequence[int] | NDArray[np.integer]) -> Outcomes:
        """The outcomes of some cells only."""
        return replace(self, correct_CQ=self.correct_CQ[np.asarray(cells)])

    def columns(self, keep_Q: NDArray[np.bool_]) -> Outcomes:
        """The outcomes of some questions only."""
        truth = None if self.truth_yes_Q is None else self.truth_yes_Q[keep_Q]
        return replace(
            self,
            correct_CQ=self.correct_CQ[:, keep_Q],
            image_Q=self.image_Q[keep_Q],
            category_Q=self.category_Q[keep_Q],
            truth_yes_Q=truth,
        )


@dataclass(frozen=True)
class Term:
    """One ratio of the headline over the clusters `clusters`: scale · Σ top / Σ bottom.

    `bottom_CG` is [1, G] where it is the same for all cells, as it is where every question was answered.
    """

    scale: float
    clusters: slice
    top_CG: Floats
    bottom_CG: Floats

    @classmethod
    def of(cls, scale: float, clusters: slice, top_CG: Floats, bottom_CG: Floats) -> Term:
        same = bool((bottom_CG == bottom_CG[0]).all())
        return cls(scale, clusters, top_CG, bottom_CG[:1] if same else bottom_CG)


@dataclass(frozen=True)
class Headline:
    """A score as a function of cluster weights; clusters are drawn within `strata` (slices of them)."""

    terms: tuple[Term, ...]
    strata: tuple[slice, ...]

    @property
    def clusters(self) -> int:
        return self.strata[-1].stop

    def scores(self, weights_GB: Floats) -> Floats:
        """Scores [C, B] under B columns of cluster weights [G, B]."""
        cells, columns = len(self.terms[0].top_CG), weights_GB.shape[1]
        parts = [self._block(weights_GB[:, block]) for block in blocks(cells, columns)]
        return np.concatenate(parts, axis=1)

    def _block(self, weights_GB: Floats) -> Floats:
        weights = [weights_GB[term.clusters] for term in self.terms]
        return sum_of_ratios((t.scale, t.top_CG @ w, t.bottom_CG @ w) for t, w in zip(self.terms, weights, strict=True))

    def observed(self) -> Floats:
        """The scores of the data as they are, [C]."""
        return self.scores(np.ones((self.clusters, 1)))[:, 0]


def sum_of_ratios(terms: Iterator[tuple[float, Floats, Floats]]) -> Floats:
    """Σ scale · top / bottom; a ratio with nothing below it (an F1 without yes or error) counts 0."""
    total: Floats | None = None
    for scale, top, bottom in terms:
        whole = bottom.min(initial=1) > 0
        ratio = top / bottom if whole else np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
        ratio *= scale
        total = ratio if total is None else np.add(total, ratio, out=total)
    assert total is not None
    return total


IN_CACHE = 1 << 17
"""Numbers in one block of scores: larger blocks leave the cache, and memory then takes most of the time; with smaller
ones numpy's calls are so short that two benchmarks computed side by side wait for each other."""


def blocks(cells: int, columns: int) -> Iterator[slice]:
    """The columns of a [cells, columns] computation in blocks that fit in the cache."""
    step = max(16, IN_CACHE // cells)
    return (slice(start, min(start + step, columns)) for start in range(0, columns, step))


def headline(outcomes: Outcomes) -> Headline:
    """The benchmark's score as terms: percent correct, MME's 100·acc + 100·acc_plus, or mean F1."""
    return {"mean": _mean, "mme": _mme, "mean_f1": _mean_f1}[outcomes.kind](outcomes)


def _mean(outcomes: Outcomes) -> Headline:
    add = _adder(outcomes.image_Q)
    right, answered = add(np.nan_to_num(outcomes.correct_CQ)), add(outcomes.answered_CQ)
    everything = slice(0, right.shape[1])
    return Headline((Term.of(100.0, everything, right, answered),), (everything,))


def _mme(outcomes: Outcomes) -> Headline:
    """An image belongs to its category: clusters are numbered category by category, and drawn within.

    As in `benchmarks.mme`: an image without both answers counts in acc alone, a category without a whole
    image does not count at all. DataError where that leaves nothing.
    """
    terms: list[Term] = []
    strata: list[slice] = []
    start = 0
    for category in np.unique(outcomes.category_Q):
        part = outcomes.columns(outcomes.category_Q == category)
        add = _adder(part.image_Q)
        right, answered = add(np.nan_to_num(part.correct_CQ)), add(part.answered_CQ)
        whole = answered >= 2
        if not whole.any():
            continue
        clusters = slice(start, start + right.shape[1])
        terms.append(Term.of(100.0, clusters, right, answered))
        terms.append(Term.of(100.0, clusters, (whole & (right == answered)).astype(float), whole.astype(float)))
        strata.append(clusters)
        start = clusters.stop
    if not terms:
        raise DataError("no image has both of its questions answered, so there is no score to compare")
    return Headline(tuple(terms), tuple(strata))


def _mean_f1(outcomes: Outcomes) -> Headline:
    """F1 = 2·TP / (2·TP + errors) a category; an image's questions of all categories are drawn together."""
    assert outcomes.truth_yes_Q is not None
    add = _adder(outcomes.image_Q)
    categories = np.unique(outcomes.category_Q)
    right = np.nan_to_num(outcomes.correct_CQ)
    wrong = np.where(outcomes.answered_CQ, 1 - outcomes.correct_CQ, 0)
    terms = []
    for category in categories:
        inside = outcomes.category_Q == category
        found = 2 * add(right * (inside & outcomes.truth_yes_Q))
        terms.append(Term.of(100.0 / len(categories), slice(0, found.shape[1]), found, found + add(wrong * inside)))
    return Headline(tuple(terms), (terms[0].clusters,))


def _adder(codes_Q: NDArray[np.integer]) -> Callable[[np.ndarray], Floats]:
    """A function that sums values [C, Q] over clusters to [C, G]."""
    _, cluster_Q = np.unique(codes_Q, return_inverse=True)
    questions = np.arange(len(cluster_Q))
    member_QG = sparse.csr_array((np.ones(len(cluster_Q)), (questions, cluster_Q)))
    return lambda values_CQ: np.asarray((member_QG.T @ values_CQ.T.astype(float)).T)
