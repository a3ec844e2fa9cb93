"""Scores recomputed from clusters are the official ones; intervals know about images."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from headwise.errors import DataError
from headwise.stats import Mean, MeanF1, Outcomes, PairSum, best_set_p, estimate, flip, headline

AGGREGATES = {"mean": Mean(), "mme": PairSum(), "mean_f1": MeanF1()}


def outcomes(kind, correct, image, category=None, truth=None) -> Outcomes:
    image = np.asarray(image)
    return Outcomes(
        aggregate=AGGREGATES[kind],
        correct_CQ=np.atleast_2d(np.asarray(correct, np.float32)),
        image_Q=image,
        category_Q=np.zeros_like(image) if category is None else np.asarray(category),
        labels={} if truth is None else {"positive": np.asarray(truth, bool)},
    )


def test_mean_is_the_percentage_over_answered_questions():
    assert headline(outcomes("mean", [1, 0.3, 0, np.nan], [0, 0, 1, 1])).observed() == pytest.approx([130 / 3])


def test_mme_counts_questions_and_whole_images_per_category():
    correct = [1, 1, 1, 0, 1, 1]
    score = headline(outcomes("mme", correct, [7, 7, 8, 8, 7, 7], [0, 0, 0, 0, 1, 1])).observed()
    assert score == pytest.approx([75 + 50 + 100 + 100])


def test_mme_image_with_one_answer_counts_in_accuracy_alone():
    score = headline(outcomes("mme", [1, 1, 1, np.nan, 1], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1])).observed()
    assert score == pytest.approx([100 + 100])


def test_mme_without_a_whole_image_has_no_score():
    with pytest.raises(DataError, match="both of its questions"):
        headline(outcomes("mme", [1, 0], [0, 1]))


def test_mme_images_vary_within_their_category():
    """One category all right, one all wrong: between images of a category nothing varies."""
    two = estimate(outcomes("mme", [1] * 4 + [0] * 4, [0, 0, 1, 1, 2, 2, 3, 3], [0] * 4 + [1] * 4))
    assert two.influence_CG == pytest.approx(0)
    single = estimate(outcomes("mme", [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]))
    assert np.abs(single.influence_CG).max() > 0  # a category of a single image: all images are one sample


def test_mean_f1_agrees_with_precision_and_recall():
    rng = np.random.default_rng(0)
    said, truth, category = rng.random(300) < 0.6, rng.random(300) < 0.5, rng.integers(0, 3, 300)
    f1 = []
    for c in range(3):
        hit = (said & truth)[category == c].sum()
        precision, recall = hit / said[category == c].sum(), hit / truth[category == c].sum()
        f1.append(200 * precision * recall / (precision + recall))
    score = headline(outcomes("mean_f1", said == truth, rng.integers(0, 20, 300), category, truth))
    assert score.observed() == pytest.approx([np.mean(f1)])


@pytest.mark.parametrize("kind", ["mean", "mme", "mean_f1"])
def test_shares_sum_to_the_score_and_influences_to_nothing(kind):
    rng = np.random.default_rng(1)
    image, category = np.repeat(np.arange(8), 4), np.repeat([0, 0, 1, 1, 0, 0, 1, 1], 4)
    data = outcomes(kind, rng.random((3, 32)) < 0.7, image, category, rng.random(32) < 0.5)
    found = estimate(data)
    assert found.share_CG.sum(axis=1) == pytest.approx(headline(data).observed())
    assert found.influence_CG.sum(axis=1) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", ["mean", "mme", "mean_f1"])
def test_an_influence_is_how_the_score_moves_with_an_image_s_weight(kind):
    rng = np.random.default_rng(2)
    image, category = np.repeat(np.arange(8), 4), np.repeat([0, 0, 0, 0, 1, 1, 1, 1], 4)
    data = outcomes(kind, rng.random((3, 32)) < 0.7, image, category, rng.random(32) < 0.5)
    score, step = headline(data), 1e-6
    moved = score.scores(1 + step * np.eye(score.clusters)) - score.observed()[:, None]
    assert moved / step == pytest.approx(estimate(data).influence_CG, abs=1e-3)


def test_questions_of_one_image_widen_the_interval():
    rng = np.random.default_rng(2)
    by_image = np.repeat(rng.random(100) < 0.5, 10)
    width = {
        name: np.diff(estimate(outcomes("mean", by_image, image)).intervals())[0, 0]
        for name, image in (("images", np.repeat(np.arange(100), 10)), ("questions", np.arange(1000)))
    }
    assert width["images"] > 2.5 * width["questions"]


def test_the_interval_covers_the_true_score():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        able = norm.ppf(0.6, scale=np.sqrt(2))
        correct = (rng.normal(size=(80, 1)) + rng.normal(size=(80, 4)) < able).ravel()
        low, high = estimate(outcomes("mean", correct, np.repeat(np.arange(80), 4))).intervals()[0]
        hits += low <= 60 <= high
    assert 0.91 <= hits / 300 <= 0.985


def test_same_seed_same_flips():
    data = estimate(outcomes("mean", np.random.default_rng(4).random((2, 60)) < 0.5, np.arange(60) // 3))
    assert (flip(data, 5).score_CB == flip(data, 5).score_CB).all()
    assert (flip(data, 5).score_CB != flip(data, 6).score_CB).any()


@pytest.mark.parametrize("images", [4, 10, 20, 60])
@pytest.mark.parametrize("share", [0.6, 0.97])
def test_intervals_cover_with_few_images(images, share):
    """Scores and paired differences; percentile intervals of scores cover 87 % with 4 images."""
    rng, hits = np.random.default_rng(images), np.zeros(2)
    for _ in range(400):
        difficulty = rng.normal(size=(images, 1)) + rng.normal(size=(images, 5))
        right = difficulty + 0.5 * rng.normal(size=(2, images, 5)) < norm.ppf(share, scale=1.5)
        found = estimate(outcomes("mean", right.reshape(2, -1), np.repeat(np.arange(images), 5)))
        bounds = np.stack([found.intervals()[0], found.differences(np.array([1, 1]))[0]])
        hits += (bounds[:, 0] <= [100 * share, 0]) & (bounds[:, 1] >= [100 * share, 0])
    assert (hits / 400 >= 0.925).all()


def test_percentile_intervals_fail_that_bound():
    """The bound above can fail: percentiles of scores of images drawn anew cover 88 % with 4 images."""
    rng, hits = np.random.default_rng(4), 0
    for _ in range(400):
        difficulty = rng.normal(size=(4, 1)) + rng.normal(size=(4, 5))
        right = difficulty + 0.5 * rng.normal(size=(4, 5)) < norm.ppf(0.6, scale=1.5)
        drawn = right.mean(axis=1)[rng.integers(0, 4, (1000, 4))].mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        hits += low <= 0.6 <= high
    assert hits / 400 < 0.925


def test_a_hundred_of_a_hundred_has_the_interval_of_clopper_and_pearson():
    found = estimate(outcomes("mean", np.ones(100), np.arange(100))).intervals()[0]
    assert found == pytest.approx([96.38, 100], abs=0.01)


def test_cells_that_agree_everywhere_have_an_interval_of_their_difference():
    low, high = estimate(outcomes("mean", np.ones((2, 100)), np.arange(100))).differences(np.array([1, 1]))[0]
    assert low == -high
    assert 2 < high < 4


def test_a_single_image_has_no_interval():
    found = estimate(outcomes("mean", np.ones((2, 6)), np.zeros(6, int)))
    assert np.isnan(found.intervals()).all()
    assert np.isnan(found.differences(np.array([1, 1]))).all()
    assert np.isnan(found.percent_of(np.array([1, 1])).intervals()).all()


def test_a_score_that_no_bound_holds_has_t_intervals():
    """Scores of other benchmarks may have numerators above their denominators: points out of ten, say."""
    data = outcomes("mean", np.random.default_rng(5).random((2, 40)) * 5, np.arange(40))
    low, high = estimate(data).intervals()[0]
    assert high > estimate(data).score_C[0] > low > 100


def test_a_matrix_without_cells_or_questions_is_refused():
    with pytest.raises(ValueError, match="no verdicts to compare: 1 cells x 0 questions"):
        outcomes("mean", [[]], np.array([], int))


def test_a_mean_f1_without_truth_is_refused():
    with pytest.raises(ValueError, match="MeanF1 needs the label 'positive'"):
        headline(outcomes("mean_f1", [1, 0], [0, 1]))


def test_a_full_gqa_grid_is_fast_and_small():
    """In a process of its own: the peak memory of this one may be that of another test."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        seconds, peak = alone.submit(full_gqa_grid).result()
    assert seconds < 30
    assert peak < 2e6  # kB


def peak_memory() -> int:
    """Peak memory of this process in kB; `ru_maxrss` has that of the process it was started from."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0])


def full_gqa_grid() -> tuple[float, int]:
    """63 cells x 12,578 questions x 2,000 sign flips, every question on an image of its own (the worst case)."""
    rng = np.random.default_rng(6)
    data = outcomes("mean", rng.random((63, 12578), dtype=np.float32) < 0.6, np.arange(12578))
    start = time.perf_counter()
    found = estimate(data)
    found.intervals()
    best_set_p(flip(found))
    return time.perf_counter() - start, peak_memory()
