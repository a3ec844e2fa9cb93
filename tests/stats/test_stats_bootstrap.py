"""Scores recomputed from clusters are the official ones; intervals know about images."""

from __future__ import annotations

import resource
import time

import numpy as np
import pytest
from scipy.stats import norm

from headwise.errors import DataError
from headwise.stats import Mean, MeanF1, Outcomes, PairSum, bootstrap, headline

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


def test_mme_images_are_drawn_within_their_category():
    one_image_each = outcomes("mme", [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1])
    assert (bootstrap(one_image_each, 50).score_CB == 200).all()


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


def test_resampled_scores_equal_scores_of_resampled_questions():
    """The matrix product is the bootstrap: rebuild one resample by repeating whole images."""
    rng = np.random.default_rng(1)
    image, category = np.repeat(np.arange(8), 4), np.tile([0, 0, 1, 1], 8)
    truth, correct = rng.random(32) < 0.5, rng.random((3, 32)) < 0.7
    for kind in ("mean", "mean_f1"):
        data = outcomes(kind, correct, image, category, truth)
        times = rng.multinomial(8, np.full(8, 1 / 8))
        rows = np.concatenate([np.flatnonzero(image == g) for g, n in enumerate(times) for _ in range(n)])
        repeated = outcomes(kind, correct[:, rows], image[rows], category[rows], truth[rows])
        assert headline(data).scores(times[:, None].astype(float))[:, 0] == pytest.approx(headline(repeated).observed())


def test_questions_of_one_image_widen_the_interval():
    rng = np.random.default_rng(2)
    by_image = np.repeat(rng.random(100) < 0.5, 10)
    width = {
        name: np.diff(bootstrap(outcomes("mean", by_image, image), 500).intervals())[0, 0]
        for name, image in (("images", np.repeat(np.arange(100), 10)), ("questions", np.arange(1000)))
    }
    assert width["images"] > 2.5 * width["questions"]


def test_the_interval_covers_the_true_score():
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(300):
        able = norm.ppf(0.6, scale=np.sqrt(2))
        correct = (rng.normal(size=(80, 1)) + rng.normal(size=(80, 4)) < able).ravel()
        low, high = bootstrap(outcomes("mean", correct, np.repeat(np.arange(80), 4)), 300, seed).intervals()[0]
        hits += low <= 60 <= high
    assert 0.91 <= hits / 300 <= 0.985


def test_same_seed_same_interval():
    data = outcomes("mean", np.random.default_rng(4).random((2, 60)) < 0.5, np.arange(60) // 3)
    assert (bootstrap(data, 100, 5).score_CB == bootstrap(data, 100, 5).score_CB).all()
    assert (bootstrap(data, 100, 5).score_CB != bootstrap(data, 100, 6).score_CB).any()


def test_a_matrix_without_cells_or_questions_is_refused():
    with pytest.raises(ValueError, match="no verdicts to compare: 1 cells x 0 questions"):
        outcomes("mean", [[]], np.array([], int))


def test_a_mean_f1_without_truth_is_refused():
    with pytest.raises(ValueError, match="MeanF1 needs the label 'positive'"):
        headline(outcomes("mean_f1", [1, 0], [0, 1]))


def test_a_full_gqa_grid_is_fast_and_small():
    """63 cells x 12,578 questions x 2,000 resamples, every question on an image of its own (the worst case)."""
    rng = np.random.default_rng(6)
    data = outcomes("mean", rng.random((63, 12578), dtype=np.float32) < 0.6, np.arange(12578))
    start = time.perf_counter()
    bootstrap(data)
    assert time.perf_counter() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2e6  # kB
