"""Budgets turned into stages: the arithmetic that each method publishes, and means that are T."""

from __future__ import annotations

import pytest

from headwise.errors import ConfigError
from headwise.methods.stages import mean_tokens, stage_counts, stages_of
from headwise.study.cells import Cell, Geometry

LLAVA = Geometry(layers=32, heads=32, visual=576)


def stages(name, tokens, budget="published", geometry=LLAVA):
    return [(s.layer, s.rows) for s in stages_of(Cell(strategy=name, tokens=tokens, budget=budget), geometry)]


@pytest.mark.parametrize(
    ("name", "tokens", "expected", "mean"),
    [
        ("pdrop", 270, [(8, 288), (16, 144), (24, 72)], 270),
        ("pdrop", 192, [(2, 334), (8, 194), (16, 112), (24, 65)], 191.375),
        ("pdrop", 64, [(2, 109), (8, 20), (16, 3)], 62.9375),
        ("pdrop@ancestor", 64, [(2, 112), (8, 21), (16, 4), (24, 0)], 63.25),
        ("sparsevlm", 192, [(3, 309), (7, 204), (16, 113)], 206.5),
        ("sparsevlm", 64, [(3, 82), (7, 32), (16, 18)], 82.25),
        ("sparsevlm_plus", 128, [(3, 238), (7, 108), (16, 60)], 144.125),
        ("dart", 192, [(2, 196)], 219.75),
        ("fastv", 144, [(2, 144)], 171),
    ],
)
def test_published_settings(name, tokens, expected, mean):
    assert stages(name, tokens) == expected
    assert mean_tokens(Cell(strategy=name, tokens=tokens, budget="published"), LLAVA) == mean


@pytest.mark.parametrize("name", ["pdrop", "sparsevlm", "sparsevlm_plus", "fitprune", "fastv", "dynamic_heads"])
@pytest.mark.parametrize("geometry", [LLAVA, Geometry(layers=8, heads=32, visual=576)], ids=["32", "8"])
@pytest.mark.parametrize("tokens", [384, 192, 160])
def test_an_average_budget_is_the_mean_that_a_layer_sees(name, geometry, tokens):
    cell = Cell(strategy=name, tokens=tokens)
    counts = stage_counts(cell, geometry)
    assert len(counts) == geometry.layers
    assert abs(sum(counts) / len(counts) - tokens) <= 0.5


@pytest.mark.parametrize("name", ["pdrop", "sparsevlm", "sparsevlm_plus", "fitprune", "fastv"])
@pytest.mark.parametrize("tokens", [192, 64, 20])
def test_a_kept_budget_is_what_the_last_stage_leaves(name, tokens):
    assert stages(name, tokens, "kept")[-1][1] == tokens


def test_dart_divides_what_is_left_by_its_pivots():
    assert [stages("dart", tokens, "average")[0][1] for tokens in (192, 128, 64)] == [164, 92, 28]


@pytest.mark.parametrize(
    ("name", "tokens", "budget", "words"),
    [
        ("pdrop", 128, "published", "it publishes 270, 192, 64"),
        ("pdrop", 20, "average", "feasible budgets are 36 to 576"),
        ("sparsevlm", 20, "average", "feasible budgets are 58 to 576"),
        ("fastv", 20, "average", "feasible budgets are 37 to 576"),
        ("dart", 3, "kept", "the smallest feasible budget is 4"),
        ("dart", 20, "average", "the smallest feasible budget is 40, the largest 576"),
        ("dart", 577, "kept", "the smallest feasible budget is 4, the largest 576"),
        ("pdrop@ancestor", 575, "average", "feasible budgets are 36 to 576, but none between 573.6 and 576"),
        ("fitprune", 60, "mean", "budget: 'mean' is not one of average, kept, published"),
        ("pdrp", 60, "average", "'pdrp' is not one of sum"),
    ],
)
def test_what_cannot_be_met_is_refused(name, tokens, budget, words):
    from headwise.methods.stages import check_cell

    with pytest.raises(ConfigError, match=words):
        check_cell(Cell(strategy=name, tokens=tokens, budget=budget), LLAVA)


@pytest.mark.parametrize("name", ["sparsevlm", "fitprune"])
def test_published_counts_are_for_the_published_geometry(name):
    with pytest.raises(ConfigError, match="576 visual tokens"):
        stages(name, {"sparsevlm": 192, "fitprune": 60}[name], geometry=Geometry(layers=8, heads=32, visual=576))
