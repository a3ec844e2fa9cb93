"""The best set keeps the truly best cells as often as it says, and throws clearly worse ones out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from headwise.stats import Mean, Outcomes, Replicates, best_set, best_set_p, bootstrap

STUDIES, IMAGES, QUESTIONS = 300, 60, 5
TIED = np.array([60.0] * 4 + [58.0] * 4 + [55.0] * 6 + [40.0] * 2)
CLOSE = np.array([61.0] + [60.0] * 15)


def study(rng: np.random.Generator, percent_C: np.ndarray) -> Outcomes:
    """Cells with true scores `percent_C` that agree on most questions: images and questions share difficulty."""
    shared = rng.normal(size=(1, IMAGES, 1)) + rng.normal(size=(1, IMAGES, QUESTIONS))
    own = 0.5 * rng.normal(size=(len(percent_C), IMAGES, QUESTIONS))
    able = norm.ppf(percent_C / 100, scale=1.5)[:, None, None]  # the three parts have variance 1 + 1 + 1/4
    correct_CQ = (shared + own < able).reshape(len(percent_C), -1).astype(np.float32)
    image_Q = np.repeat(np.arange(IMAGES), QUESTIONS)
    return Outcomes(aggregate=Mean(), correct_CQ=correct_CQ, image_Q=image_Q, category_Q=np.zeros_like(image_Q))


def kept_sets(percent_C: np.ndarray) -> np.ndarray:
    """Best sets of simulated studies, [studies, cells]."""
    rng = np.random.default_rng(1)
    return np.array([best_set(bootstrap(study(rng, percent_C), 400, seed)) for seed in range(STUDIES)])


@pytest.fixture(scope="module")
def tied_sets() -> np.ndarray:
    return kept_sets(TIED)


def test_every_tied_best_is_kept_with_the_stated_probability(tied_sets):
    assert tied_sets[:, TIED == 60].all(axis=1).mean() >= 0.93


def test_a_barely_best_cell_is_kept_with_the_stated_probability():
    assert kept_sets(CLOSE)[:, 0].mean() >= 0.93


def test_clearly_worse_cells_are_excluded(tied_sets):
    assert tied_sets[:, TIED == 40].mean() < 0.01


def test_the_observed_best_is_always_in(tied_sets):
    rng = np.random.default_rng(2)
    replicates = bootstrap(study(rng, TIED), 400)
    assert best_set(replicates)[replicates.score_C.argmax()]
    assert tied_sets.any(axis=1).all()


def test_identical_cells_share_one_fate():
    rng = np.random.default_rng(3)
    cells = study(rng, np.array([60.0, 60.0, 30.0]))
    p = best_set_p(bootstrap(cells.rows([0, 0, 1, 2, 2]), 400))
    assert p[0] == p[1]
    assert p[3] == p[4] < 0.05


def test_all_cells_identical_gives_everybody():
    rng = np.random.default_rng(4)
    assert best_set(bootstrap(study(rng, TIED).rows([0, 0, 0]), 200)).all()


def test_a_pair_that_differs_on_one_question_does_not_shield_a_bad_cell():
    """Such a pair has a heavy-tailed ratio; without the floor on the error it would set everybody's threshold."""
    rng = np.random.default_rng(5)
    base = study(rng, np.array([60.0, 50.0])).correct_CQ
    nearly = np.repeat(base[:1], 12, axis=0)
    nearly[np.arange(12), np.arange(12) * 7] = 1 - nearly[np.arange(12), np.arange(12) * 7]
    outcomes = study(rng, np.full(13, 50.0))
    object.__setattr__(outcomes, "correct_CQ", np.concatenate([nearly, base[1:]]))
    assert not best_set(bootstrap(outcomes, 400))[-1]


def test_a_single_cell_is_its_own_best_set():
    assert best_set(Replicates(np.array([50.0]), np.array([[49.0, 51.0]]))).tolist() == [True]
