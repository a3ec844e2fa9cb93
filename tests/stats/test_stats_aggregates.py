"""A score is written once: what the scorer says of a cell alone is what the statistics say of it among others."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from headwise.benchmarks.benchmark import observed_score
from headwise.records import Verdict
from headwise.stats import (
    CategoryMean,
    CategorySum,
    GroupMean,
    Mean,
    MeanF1,
    NoScore,
    Outcomes,
    PairSum,
    compare_pair,
    estimate,
    headline,
    sign_flip_p,
)
from headwise.stats.aggregates import adder

GROUPS = GroupMean(group=lambda question_id: question_id.split("_")[0])
AGGREGATES = [Mean(), CategoryMean(), CategorySum(), PairSum(), MeanF1(), GROUPS]


def questions(count: int = 60) -> dict[str, list[str]]:
    """Groups of three questions, two questions per image and category, every other truth yes."""
    return {
        "question_id": [f"{i // 3}_{i % 3}" for i in range(count)],
        "image": [f"{i // 2}.png" for i in range(count)],
        "category": [f"c{i // 2 % 4}" for i in range(count)],
        "truth": ["yes" if i % 2 else "no" for i in range(count)],
    }


def verdicts(columns, correct) -> list[Verdict]:
    rows = zip(*(columns[name] for name in ("question_id", "image", "category", "truth")), correct, strict=True)
    return [
        Verdict(
            question_id=question_id,
            image=image,
            category=category,
            status="failed" if np.isnan(value) else "ok",
            correct=None if np.isnan(value) else float(value),
            truth=truth,
        )
        for question_id, image, category, truth, value in rows
    ]


@pytest.mark.parametrize("aggregate", AGGREGATES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("lost", [0, 9])
def test_scorer_and_statistics_agree_with_and_without_failures(aggregate, lost):
    rng, asked = np.random.default_rng(0), questions()
    correct = (rng.random((4, 60)) < 0.8).astype(float)
    for row in correct:
        row[rng.choice(60, lost, replace=False)] = np.nan
    correct[2, [i for i in range(60) if asked["category"][i] == "c1"]] = np.nan if lost else 1
    together = headline(Outcomes.of(aggregate, correct, asked)).observed()
    assert together == pytest.approx([observed_score(aggregate, verdicts(asked, row)) for row in correct])


def test_a_group_counts_only_where_all_its_questions_are_right():
    asked = {"question_id": ["1_0", "2_0", "1_1", "2_1"], "image": ["a"] * 4, "category": [""] * 4, "truth": [""] * 4}
    assert headline(Outcomes.of(GROUPS, np.array([[1, 1, 1, 0.0]]), asked)).observed() == [50.0]


def test_a_group_that_was_not_answered_whole_is_no_group():
    asked = {"question_id": ["1_0", "2_0", "1_1", "2_1"], "image": ["a"] * 4, "category": [""] * 4, "truth": [""] * 4}
    outcomes = Outcomes.of(GROUPS, np.array([[1, 1, 1, np.nan], [1, 1, 0, 0]]), asked)
    assert headline(outcomes).observed().tolist() == [100.0, 0.0]
    assert compare_pair(outcomes, 0, 1, flips=19).difference == 100.0
    with pytest.raises(NoScore, match="no group has all of its questions answered"):
        headline(outcomes.columns(np.array([True, True, False, False])))


def test_a_group_is_one_unit_of_the_bootstrap():
    """Three rotations of 40 questions are 40 units: their interval is that of 40 questions, not of 120."""
    hit = np.random.default_rng(1).random(40) < 0.5
    each = {"question_id": [f"{i}_0" for i in range(40)], "image": [str(i) for i in range(40)]}
    one = Outcomes.of(Mean(), hit[None].astype(float), each | {"category": [""] * 40, "truth": [""] * 40})
    rows = {"question_id": [f"{i}_{r}" for r in range(3) for i in range(40)], "image": each["image"] * 3}
    rows |= {"category": [""] * 120, "truth": [""] * 120}
    circular = Outcomes.of(GROUPS, np.tile(hit, 3)[None].astype(float), rows)
    assert estimate(circular).share_CG.sum(axis=0)[:40] == pytest.approx(estimate(one).share_CG[0], abs=1e-9)
    assert estimate(circular).influence_CG == pytest.approx(estimate(one).influence_CG)


def test_the_number_right_is_a_sum_over_categories_and_its_draws_keep_their_sizes():
    asked = questions()
    score = headline(Outcomes.of(CategorySum(), np.ones((1, 60)), asked))
    sizes, rng = [part.stop - part.start for part in score.strata], np.random.default_rng(0)
    drawn = np.concatenate([rng.multinomial(size, np.full(size, 1 / size), size=5).T for size in sizes])
    assert score.observed() == [60.0]
    assert sum(sizes) == score.clusters
    assert score.scores(drawn.astype(float)) == pytest.approx(60.0)


def test_categories_count_alike_however_many_questions_they_have():
    asked = {"question_id": list("abcd"), "image": list("abcd"), "category": list("xyyy"), "truth": [""] * 4}
    assert headline(Outcomes.of(CategoryMean(), np.array([[1, 0, 0, 0.0]]), asked)).observed() == [50.0]


def test_images_in_two_categories_are_drawn_with_all_their_questions():
    """One image in both categories: whatever is drawn, both categories have it as often."""
    asked = {"question_id": list("abcd"), "image": list("iijj"), "category": list("xyxy"), "truth": [""] * 4}
    score = headline(Outcomes.of(CategoryMean(), np.array([[1, 1, 0, 0.0]]), asked))
    assert score.strata == (slice(0, 2),)
    assert score.scores(np.array([[2.0], [0.0]])).tolist() == [[100.0]]


def test_lost_answers_alone_are_no_evidence_of_a_difference():
    """All that both answered is right: that one lost half of its answers makes neither better."""
    asked = questions()
    correct = np.ones((2, 60))
    correct[0, :30] = np.nan
    assert sign_flip_p(Outcomes.of(CategorySum(), correct, asked), 1, flips=99).tolist() == [1.0, 1.0]


def test_sums_over_images_take_little_memory_beside_the_verdicts():
    random = np.random.default_rng(0)
    image_Q, right_CQ = random.integers(0, 40, 4000), random.random((300, 4000)).astype(np.float32)
    add = adder(image_Q)
    add(right_CQ[:2])
    tracemalloc.start()
    found = add(right_CQ)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < right_CQ.nbytes  # floats of all cells at once were four times that
    expected = [[row[image_Q == image].sum(dtype=float) for image in range(40)] for row in right_CQ[[0, 150, 299]]]
    np.testing.assert_allclose(found[[0, 150, 299]], expected)
