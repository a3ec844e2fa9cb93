"""The verdicts of one benchmark as arrays, and its score as a sum of ratios of cluster counts.

Letters of the shapes: C cells, Q questions, G clusters (images), B resamples.

Every headline here is Σ scale · (Σ numerator) / (Σ denominator) over a handful of terms, each sum
running over clusters. A resample only changes the clusters' weights, so that one matrix product gives
a term's sums for all cells and resamples at once, and all cells see the same resamples (paired). Which
terms make a benchmark's score is its `Aggregate`'s to say (`stats.aggregates` has the usual ones).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from headwise.errors import DataError

Floats = NDArray[np.float64]
# What is known of the questions: their `question_id`, `image`, `category` and `truth`, one string per question.
Columns = Mapping[str, Sequence[str]]


class NoScore(DataError):
    """These verdicts hold nothing that the benchmark's score could be computed from."""


class Aggregate(ABC):
    """How the score of a benchmark comes from its verdicts: written once, for the scorer and for the statistics.

    The scorer asks for the score of one cell with every cluster counted once, the bootstrap for all cells
    under drawn clusters, the paired tests with two cells' clusters swapped.
    """

    def labels(self, questions: Columns) -> dict[str, NDArray]:
        """What the aggregate must know of each question beside its image and category, as arrays [Q]."""
        return {}

    @abstractmethod
    def headline(self, outcomes: Outcomes) -> Headline:
        """The score as terms over clusters. NoScore where nothing can be scored."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What C cells got right on the same Q questions of one benchmark.

    `correct_CQ` in 0..1, NaN where failed or missing; `image_Q` and `category_Q` integer codes; `labels`
    the arrays [Q] that `aggregate` asked for (`Aggregate.labels`).
    """

    aggregate: Aggregate
    correct_CQ: NDArray[np.floating]
    image_Q: NDArray[np.integer]
    category_Q: NDArray[np.integer]
    labels: Mapping[str, NDArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """ValueError where there is no cell or question, or where an array has another number of questions."""
        cells, questions = self.correct_CQ.shape
        if cells == 0 or questions == 0:
            raise ValueError(f"no verdicts to compare: {cells} cells x {questions} questions")
        for name, codes in {"image_Q": self.image_Q, "category_Q": self.category_Q, **self.labels}.items():
            if codes.shape != (questions,):
                raise ValueError(f"{name} has shape {codes.shape}, the verdicts have {questions} questions")

    @classmethod
    def of(cls, aggregate: Aggregate, correct_CQ: NDArray[np.floating], questions: Columns) -> Outcomes:
        """Outcomes of questions that are described by strings (`Columns`)."""
        image_Q, category_Q = (np.unique(questions[name], return_inverse=True)[1] for name in ("image", "category"))
        labels = aggregate.labels(questions)
        return cls(aggregate=aggregate, correct_CQ=correct_CQ, image_Q=image_Q, category_Q=category_Q, labels=labels)

    @property
    def answered_CQ(self) -> NDArray[np.bool_]:
        """Which questions each cell answered: [C, Q]."""
        return ~np.isnan(self.correct_CQ)

    def label(self, name: str) -> NDArray:
        """One of the arrays that the aggregate asked for; ValueError where it was not given."""
        if name not in self.labels:
            raise ValueError(f"{type(self.aggregate).__name__} needs the label {name!r} of every question")
        return self.labels[name]

    def rows(self, cells: Sequence[int] | NDArray[np.integer]) -> Outcomes:
        """The outcomes of some cells only."""
        return replace(self, correct_CQ=self.correct_CQ[np.asarray(cells)])

    def columns(self, keep_Q: NDArray[np.bool_]) -> Outcomes:
        """The outcomes of some questions only."""
        return replace(
            self,
            correct_CQ=self.correct_CQ[:, keep_Q],
            image_Q=self.image_Q[keep_Q],
            category_Q=self.category_Q[keep_Q],
            labels={name: codes[keep_Q] for name, codes in self.labels.items()},
        )


@dataclass(frozen=True)
class Term:
    """One ratio of the headline over the clusters `clusters`: scale · Σ top / Σ bottom.

    `bottom_CG` is [1, G] where it is the same for all cells, as it is where every question was answered.
    `scale` is [C, 1] where cells differ in it, as they do where one of them lacks a whole category.
    """

    scale: float | Floats
    clusters: slice
    top_CG: Floats
    bottom_CG: Floats

    @classmethod
    def of(cls, scale: float | Floats, clusters: slice, top_CG: Floats, bottom_CG: Floats) -> Term:
        """The term; what is the same for every cell is kept once, which saves a bootstrap most of its work."""
        same = bool((bottom_CG == bottom_CG[0]).all())
        if not isinstance(scale, float) and (scale == scale[0]).all():
            scale = float(scale[0, 0])
        return cls(scale, clusters, top_CG, bottom_CG[:1] if same else bottom_CG)


@dataclass(frozen=True)
class Headline:
    """A score as a function of cluster weights; clusters are drawn within `strata` (slices of them)."""

    terms: tuple[Term, ...]
    strata: tuple[slice, ...]

    @property
    def clusters(self) -> int:
        """G, the number of clusters."""
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


def sum_of_ratios(terms: Iterator[tuple[float | Floats, Floats, Floats]]) -> Floats:
    """Σ scale · top / bottom; a ratio with nothing below it (an F1 without yes or error) counts 0."""
    total: Floats | None = None
    for scale, top, bottom in terms:
        whole = bottom.min(initial=1) > 0
        ratio = top / bottom if whole else np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
        ratio *= scale
        total = ratio if total is None else np.add(total, ratio, out=total)
    assert total is not None
    return total


# Numbers in one block of scores: larger blocks leave the cache, and memory then takes most of the time; with smaller
# ones numpy's calls are so short that two benchmarks computed side by side wait for each other.
IN_CACHE = 1 << 17


def blocks(cells: int, columns: int) -> Iterator[slice]:
    """The columns of a [cells, columns] computation in blocks that fit in the cache."""
    step = max(16, IN_CACHE // cells)
    return (slice(start, min(start + step, columns)) for start in range(0, columns, step))


def headline(outcomes: Outcomes) -> Headline:
    """The benchmark's score as terms, as its aggregate says. NoScore where nothing can be scored."""
    return outcomes.aggregate.headline(outcomes)
