"""The usual scores of benchmarks as aggregates over clusters (letters of the shapes: see `stats.outcomes`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwise.stats.outcomes import Aggregate, Columns, Floats, Headline, NoScore, Outcomes, Term, blocks


@dataclass(frozen=True)
class Mean(Aggregate):
    """Mean of `correct` over the answered questions, in percent; images are drawn."""

    def headline(self, outcomes: Outcomes) -> Headline:
        """One ratio over all images: questions right of questions answered."""
        add = adder(outcomes.image_Q)
        right, answered = add(np.nan_to_num(outcomes.correct_CQ)), add(outcomes.answered_CQ)
        everything = slice(0, right.shape[1])
        return Headline((Term.of(100.0, everything, right, answered),), (everything,))


@dataclass(frozen=True)
class CategoryMean(Aggregate):
    """Mean over categories of the percentage right in each, every category counted alike.

    A category that a cell answered nothing of is no part of that cell's mean. Images are drawn with their
    questions of all categories, within a category where no image belongs to two.
    """

    def headline(self, outcomes: Outcomes) -> Headline:
        """One ratio per category, scaled by 100 / number of answered categories; drawn within categories."""
        parts = list(_categories(outcomes))
        present_C1 = sum((answered.sum(axis=1, keepdims=True) > 0).astype(float) for _, answered in parts)
        scale_C1 = 100.0 / np.maximum(present_C1, 1)
        terms = [Term.of(scale_C1, slice(0, right.shape[1]), right, answered) for right, answered in parts]
        return Headline(tuple(terms), _strata(outcomes))


@dataclass(frozen=True)
class CategorySum(Aggregate):
    """How many questions were right: Σ over categories of (questions answered) · (share right of them).

    Images are drawn as in `CategoryMean`; how many questions a category has is the benchmark's design and
    does not vary with the draw.
    """

    def headline(self, outcomes: Outcomes) -> Headline:
        """One ratio per category, scaled by its number of answered questions; drawn within categories."""
        terms = [
            Term.of(answered.sum(axis=1, keepdims=True), slice(0, right.shape[1]), right, answered)
            for right, answered in _categories(outcomes)
        ]
        return Headline(tuple(terms), _strata(outcomes))


@dataclass(frozen=True)
class PairSum(Aggregate):
    """MME: Σ over categories of 100·(share of questions right) + 100·(share of images with both questions right).

    Source: MME's `eval_tool/calculation.py`. An image belongs to its category, so images are drawn within it.
    An image without both answers counts in the first share alone, a category without a whole image does not
    count at all.
    """

    def headline(self, outcomes: Outcomes) -> Headline:
        """Two ratios per category, over questions and over images with both questions answered."""
        terms: list[Term] = []
        strata: list[slice] = []
        start = 0
        for category in np.unique(outcomes.category_Q):
            part = outcomes.columns(outcomes.category_Q == category)
            add = adder(part.image_Q)
            right, answered = add(np.nan_to_num(part.correct_CQ)), add(part.answered_CQ)
            whole = answered >= 2
            if not whole.any():
                continue
            clusters = slice(start, start + right.shape[1])
            scored_C1 = np.where(whole.any(axis=1, keepdims=True), 100.0, 0.0)
            terms.append(Term.of(scored_C1, clusters, right, answered))
            terms.append(Term.of(100.0, clusters, (whole & (right == answered)).astype(float), whole.astype(float)))
            strata.append(clusters)
            start = clusters.stop
        if not terms:
            raise NoScore("no image has both of its questions answered, so there is no score to compare")
        return Headline(tuple(terms), tuple(strata))


@dataclass(frozen=True)
class MeanF1(Aggregate):
    """Mean over categories of F1 = 2·TP / (2·TP + errors) in percent, `positive` being the positive class.

    An image's questions of all categories are drawn together.
    """

    positive: str = "yes"

    def labels(self, questions: Columns) -> dict[str, NDArray]:
        """`positive`, [Q]: which questions have the positive class as their true answer."""
        return {"positive": np.asarray(questions["truth"]) == self.positive}

    def headline(self, outcomes: Outcomes) -> Headline:
        """One ratio per category: 2·TP / (2·TP + errors), scaled by 100 / number of categories with answers."""
        add = adder(outcomes.image_Q)
        positive_Q = outcomes.label("positive")
        right = np.nan_to_num(outcomes.correct_CQ)
        wrong = np.where(outcomes.answered_CQ, 1 - outcomes.correct_CQ, 0)
        inside_KQ = [outcomes.category_Q == category for category in np.unique(outcomes.category_Q)]
        present_C1 = sum(
            (outcomes.answered_CQ & inside_Q).any(axis=1, keepdims=True).astype(float) for inside_Q in inside_KQ
        )
        scale_C1 = 100.0 / np.maximum(present_C1, 1)
        terms = []
        for inside_Q in inside_KQ:
            found = 2 * add(right * (inside_Q & positive_Q))
            terms.append(Term.of(scale_C1, slice(0, found.shape[1]), found, found + add(wrong * inside_Q)))
        return Headline(tuple(terms), (terms[0].clusters,))


@dataclass(frozen=True)
class GroupMean(Aggregate):
    """Share of groups whose questions are ALL right, in percent.

    In circular evaluation a group is one question, asked with its options rotated. `group` says from a question_id
    which group it belongs to. A group that was not answered whole does not count. Images are drawn with their groups.
    """

    group: Callable[[str], str]

    def labels(self, questions: Columns) -> dict[str, NDArray]:
        """Each question's group, and how many questions the group has: fewer columns later are a group cut short."""
        names = [self.group(str(question_id)) for question_id in questions["question_id"]]
        _, group_Q, sizes = np.unique(names, return_inverse=True, return_counts=True)
        return {"group": group_Q, "group_size": sizes[group_Q]}

    def headline(self, outcomes: Outcomes) -> Headline:
        """One ratio over groups that are answered as a whole. NoScore where there is none."""
        group_Q = outcomes.label("group")
        _, first, number_Q = np.unique(group_Q, return_index=True, return_inverse=True)
        add, size_N = adder(number_Q), outcomes.label("group_size")[first]
        whole_CN = add(outcomes.answered_CQ) == size_N
        right_CN = whole_CN & (add(outcomes.correct_CQ == 1) == size_N)
        if not whole_CN.any():
            raise NoScore("no group has all of its questions answered, so there is no score to compare")
        cluster = adder(outcomes.image_Q[first])
        right, whole = cluster(right_CN), cluster(whole_CN)
        everything = slice(0, right.shape[1])
        return Headline((Term.of(100.0, everything, right, whole),), (everything,))


def adder(codes_Q: NDArray[np.integer]) -> Callable[[np.ndarray], Floats]:
    """A function that sums values [C, Q] over clusters to [C, G], clusters in the order of their codes."""
    from scipy import sparse  # here, so that the names of benchmarks are known without the time that scipy takes

    _, cluster_Q = np.unique(codes_Q, return_inverse=True)
    questions = np.arange(len(cluster_Q))
    member_GQ = sparse.csr_array((np.ones(len(cluster_Q)), (questions, cluster_Q))).T

    def add(values_CQ: np.ndarray) -> Floats:
        sums_GC = np.empty((member_GQ.shape[0], len(values_CQ)))
        for block in blocks(len(cluster_Q), len(values_CQ)):  # as floats, a block of cells at a time: they are 8 bytes
            sums_GC[:, block] = member_GQ @ values_CQ[block].T.astype(float)
        return sums_GC.T

    return add


def _categories(outcomes: Outcomes) -> Iterator[tuple[Floats, Floats]]:
    """Per category the questions right and answered, [C, G] both, clusters numbered as `_clusters` says."""
    add = adder(_clusters(outcomes)[0])
    right, answered = np.nan_to_num(outcomes.correct_CQ), outcomes.answered_CQ
    for category in np.unique(outcomes.category_Q):
        inside_Q = outcomes.category_Q == category
        yield add(right * inside_Q), add(answered & inside_Q)


def _strata(outcomes: Outcomes) -> tuple[slice, ...]:
    sizes: Sequence[int] = _clusters(outcomes)[1]
    ends = np.cumsum(sizes)
    return tuple(slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True))


def _clusters(outcomes: Outcomes) -> tuple[NDArray[np.integer], list[int]]:
    """Cluster codes [Q], category by category, and how many each category has; one stratum where images cross."""
    images, image_Q = np.unique(outcomes.image_Q, return_inverse=True)
    pairs = np.unique(np.stack([outcomes.category_Q, image_Q]), axis=1)
    if pairs.shape[1] != len(images):
        return image_Q, [len(images)]
    place_G = np.empty(len(images), dtype=int)
    place_G[pairs[1]] = np.arange(len(images))
    return place_G[image_Q], np.unique(pairs[0], return_counts=True)[1].tolist()
