"""Paired comparisons: sizes, p-values, and the family they belong to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from headwise.stats import Outcomes, compare_pair, holm, mcnemar_p, sign_flip_p


def pair(a, b, image, kind="mean", truth=None) -> Outcomes:
    image = np.asarray(image)
    return Outcomes(
        kind=kind,
        correct_CQ=np.array([a, b], np.float32),
        image_Q=image,
        category_Q=np.zeros_like(image),
        truth_yes_Q=truth,
    )


def test_difference_is_taken_on_the_questions_both_answered():
    result = compare_pair(pair([1, 1, 0, np.nan], [0, 1, np.nan, 1], [0, 1, 2, 3]), 0, 1, flips=99)
    assert (result.questions, result.difference) == (2, 50.0)


def test_cells_without_a_common_question_are_refused():
    with pytest.raises(ValueError, match="no answered question in common"):
        compare_pair(pair([1, np.nan], [np.nan, 1], [0, 1]), 0, 1)


def test_mcnemar_is_the_binomial_test_of_the_discordant_questions():
    a, b = np.array([1] * 20 + [0] * 6 + [1] * 30), np.array([0] * 20 + [1] * 6 + [1] * 30)
    assert mcnemar_p(a, b) == pytest.approx(binomtest(6, 26).pvalue)


def test_mcnemar_is_not_defined_for_soft_accuracy():
    assert mcnemar_p(np.array([0.3, 1]), np.array([1, 1])) is None


def test_sign_flip_matches_the_exact_test_of_independent_images():
    """One question an image: swapping images is the sign test, whose exact p the binomial gives."""
    a = np.array([1] * 15 + [0] * 5 + [1] * 40)
    b = np.array([0] * 15 + [1] * 5 + [1] * 40)
    p = sign_flip_p(pair(a, b, np.arange(60)), 1, flips=9999)
    assert p[0] == pytest.approx(binomtest(5, 20).pvalue, abs=0.01)
    assert p[1] == 1


def test_sign_flip_keeps_images_together():
    """Three images decide everything: however many questions they have, p cannot be small."""
    image = np.repeat([0, 1, 2], 100)
    data = pair(np.ones(300), np.zeros(300), image)
    assert sign_flip_p(data, 1)[0] == pytest.approx(0.25, abs=0.02)
    assert mcnemar_p(*data.correct_CQ) < 1e-6


@pytest.mark.parametrize("kind", ["mean", "mme", "mean_f1"])
def test_sign_flip_rejects_a_true_null_as_often_as_it_says(kind):
    rng = np.random.default_rng(0)
    image, rejected = np.repeat(np.arange(40), 2), 0
    for seed in range(300):
        easy = rng.random((40, 1)) + 0.3 * rng.random((2, 40, 2))
        truth = rng.random(80) < 0.5
        data = pair(*(easy < 0.7).reshape(2, 80), image, kind, truth)
        rejected += sign_flip_p(data, 1, 199, seed)[0] <= 0.05
    assert rejected / 300 < 0.09


def test_a_real_difference_is_found_by_all_three():
    rng = np.random.default_rng(1)
    b = rng.random(600) < 0.5
    a = b | (rng.random(600) < 0.15)
    result = compare_pair(pair(a, b, np.arange(600) // 3), 0, 1)
    assert 0 < result.low < result.difference < result.high
    assert result.p < 0.001
    assert result.p_mcnemar is not None
    assert result.p_mcnemar < 0.001


def test_holm_is_holm_and_takes_an_empty_family():
    p = [0.01, 0.04, 0.03]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]).size == 0
