"""Findings and tables from verdicts: differences are paired, ties stay ties, rules are followed."""

from __future__ import annotations

import numpy as np
import pytest

from headwise.analysis.findings import find, over_benchmarks
from headwise.analysis.recommendation import budgets, recommend
from headwise.analysis.tables import agreement, efficiency, pareto_front, retained, scores, strategies, wins
from headwise.report.page import sentence

GRID = [("vanilla", None, None)] + [(s, t, 8) for t in (192, 64) for s in ("sum", "sparsity", "entropy")]


def answers(rng, shares, questions=400) -> np.ndarray:
    """Right answers nested in difficulty, so that cells differ by little else than their share."""
    rank = rng.permutation(questions) / questions
    return np.array([(rank + 0.05 * rng.normal(size=questions)) < share for share in shares])


@pytest.fixture(scope="module")
def found(cells, verdicts):
    rng = np.random.default_rng(7)
    shares = [0.9, 0.8, 0.8, 0.5, 0.5, 0.5, 0.3]
    return find("gqa", cells(*GRID), verdicts(answers(rng, shares)))


def test_best_set_holds_the_tied_and_leaves_out_vanilla_and_the_worse(found):
    assert set(found.best_set()["configuration"]) == {"192/8/sum", "192/8/sparsity"}
    assert found.cells["best_at_budget"].tolist() == [False, True, True, False, True, True, False]


def test_differences_are_taken_to_vanilla_and_to_the_best_pruned_cell(found):
    table = found.cells
    assert table["vs_vanilla"].tolist() == pytest.approx((table["score"] - table["score"][0]).tolist())
    assert table["vs_best"][1:].max() == 0
    assert table["vs_vanilla_low"][3] < table["vs_vanilla"][3] < table["vs_vanilla_high"][3] < 0
    assert np.isnan(table["p_vanilla"][0])
    assert (table["p_vanilla"][1:] < 0.05).all()


def test_scores_are_sorted_and_keep_the_run(found):
    table = scores(found)
    assert table["score"].is_monotonic_decreasing
    assert table["run_id"][0] == "r0"


def test_a_cell_of_another_model_is_compared_with_its_own_vanilla(cells, verdicts):
    rows = cells(("vanilla", None, None), ("sum", 64, 8), ("vanilla", None, None), ("sum", 64, 8))
    rows["model"] = ["a", "a", "b", "b"]
    right = np.repeat([[1], [1], [0], [0]], 40, axis=1)
    right[:, :10] = [[1], [0], [1], [1]]
    table = find("gqa", rows, verdicts(right)).cells
    assert table["vs_vanilla"].tolist() == [0, -25, 0, 0]


def test_without_vanilla_the_scale_is_the_best_cell(cells, verdicts):
    found = find("gqa", cells(("sum", 64, 8), ("sparsity", 64, 8)), verdicts(np.eye(2, 40) + [[0], [1]]))
    assert found.scale == "best"
    assert found.cells["of_vanilla"].max() == 100
    assert found.cells["vs_vanilla"].isna().all()


def test_a_vanilla_cell_alone_has_no_best_set(cells, verdicts):
    found = find("gqa", cells(("vanilla", None, None)), verdicts(np.ones((1, 10))))
    assert found.best_set().empty
    assert over_benchmarks([found]) is None


def test_overall_is_the_mean_percent_of_vanilla_over_shared_configurations(found, cells, verdicts):
    rng = np.random.default_rng(1)
    other = find("mme", cells(*GRID[:4], flops=[4.0, 2, 2, 2]), verdicts(answers(rng, [0.9, 0.6, 0.7, 0.2]), "mme"))
    overall = over_benchmarks([found, other])
    assert overall.cells["configuration"].tolist() == list(other.cells["configuration"])
    expected = (found.cells["of_vanilla"][:4] + other.cells["of_vanilla"]) / 2
    assert overall.cells["score"].tolist() == pytest.approx(expected.tolist())
    assert overall.unit == "% of vanilla"
    assert overall.cells["flops"].tolist() == [4, 2, 2, 2]


def test_wins_count_only_what_is_significant(found):
    table = wins([found]).set_index("strategy")
    assert table.loc["sum", ["rows", "won", "shared", "lost"]].tolist() == [2, 0, 2, 0]
    assert table.loc["entropy", ["rows", "won", "shared", "lost"]].tolist() == [2, 0, 0, 2]


def test_a_clear_winner_wins_its_row(cells, verdicts):
    rng = np.random.default_rng(2)
    part = find("gqa", cells(("sum", 64, 8), ("sparsity", 64, 8)), verdicts(answers(rng, [0.5, 0.8])))
    assert wins([part]).set_index("strategy")["won"].to_dict() == {"sparsity": 1, "sum": 0}


def test_strategies_are_averaged_over_the_grid_they_share(found):
    table = strategies(found).set_index("strategy")
    rows = found.cells["strategy"] == "entropy"
    assert table.loc["entropy", "of_vanilla"] == pytest.approx(found.cells.loc[rows, "of_vanilla"].mean())
    assert table["in_best_set"].to_dict() == {"sum": True, "sparsity": True, "entropy": False}


def test_retained_has_one_row_per_budget_largest_first(found):
    table = retained([found])
    assert table["tokens"].tolist() == [192, 64]
    cells = found.cells[found.cells["strategy"] != "vanilla"]
    best = [cells.loc[cells[cells["tokens"] == tokens]["score"].idxmax(), "configuration"] for tokens in (192, 64)]
    assert table["best"].tolist() == best
    inside = (table["mean_of_vanilla_low"] < table["mean_of_vanilla"]) & (
        table["mean_of_vanilla"] < table["mean_of_vanilla_high"]
    )
    assert inside.all()


def test_agreement_counts_equal_answers_where_both_answered(cells, verdicts):
    table = agreement(cells(("sum", 64, 8), ("sparsity", 64, 8)), verdicts([[1, 1, 0, np.nan], [1, 0, 0, 1]]))
    assert table.to_numpy() == pytest.approx(np.array([[100, 200 / 3], [200 / 3, 100]]))


def test_pareto_front_is_what_nothing_beats():
    cost, score = np.array([1, 2, 2, 3, 4, np.nan]), np.array([5, 6, 7, 7, 9, 99])
    assert pareto_front(cost, score).tolist() == [True, False, True, False, True, False]


def test_efficiency_marks_a_front_for_each_cost_that_was_logged(found, cells, verdicts):
    table = efficiency(find("gqa", cells(*GRID[:2], flops=[2.0, 1.0]), verdicts(np.eye(2, 40) + [[1], [0]])))
    assert table["front_flops"].tolist() == [True, True]
    assert "front_kv_bytes" not in table


def test_recommendation_is_the_highest_score_and_says_who_equals_it(found):
    table = recommend(found.cells)
    assert table["budget"].tolist() == ["ample", "tight"]
    best = found.best["configuration"]
    other = {"192/8/sum": "192/8/sparsity", "192/8/sparsity": "192/8/sum"}[best]
    assert table.loc[0, ["recommended", "equals", "verdict"]].tolist() == [
        best,
        other,
        "statistically tied with 1 other",
    ]


def test_recommendation_admits_that_choosing_heads_did_not_help(cells):
    rows = cells(("sum", 64, 8), ("all_heads", 64, None)).assign(score=[50.0, 49], low=0, high=99, best_at_budget=True)
    verdict = recommend(rows)["verdict"][0]
    assert verdict == "statistically tied with 1 other, all_heads among them: choosing heads not shown to help"


def test_recommendation_is_never_a_random_control(cells):
    rows = cells(("sum", 64, 8), ("random_tokens", 64, None)).assign(score=[50.0, 70], low=0, high=99)
    table = recommend(rows.assign(best_at_budget=[False, True]))
    assert table["recommended"][0] == "64/8/sum"
    assert table["verdict"][0] == "significantly worse than 64/random_tokens"


def test_equal_scores_go_to_the_faster_prefill(cells):
    rows = cells(("sum", 64, 8), ("sparsity", 64, 8)).assign(score=50.0, low=0, high=99, best_at_budget=True)
    assert recommend(rows.assign(prefill_seconds=[0.2, 0.1]))["recommended"][0] == "64/8/sparsity"


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([64, 192, 128], [("ample", 192), ("medium", 128), ("tight", 64)]),
        ([64, 192], [("ample", 192), ("tight", 64)]),
        ([64], [("ample", 64)]),
        ([], []),
    ],
)
def test_budgets_are_the_largest_middle_and_smallest(tokens, expected, cells):
    assert budgets(cells(*[("sum", t, 8) for t in tokens])) == expected


@pytest.mark.parametrize("images", [1, 2, 5])
def test_with_too_few_images_nothing_is_established_won_or_lost(images, cells, verdicts):
    right = np.repeat([[1], [1], [0]], 2 * images, axis=1)
    few = find("gqa", cells(("vanilla", None, None), ("sum", 64, 8), ("sparsity", 64, 8)), verdicts(right))
    assert (few.images, few.too_few) == (images, True)
    assert few.cells["in_best_set"].tolist() == [False, True, True]
    assert few.cells["low"].isna().all() == (images == 1)
    assert wins([few])[["rows", "won", "shared", "lost", "too_few"]].to_numpy().tolist() == [[1, 0, 0, 0, 1]] * 2
    assert "too few to tell configurations apart" in recommend(few.cells, few.images)["verdict"][0]
    assert "too few to tell configurations apart" in sentence(few)


def test_no_interval_has_no_length_but_that_to_itself(cells, verdicts):
    """All right, all the same, and vanilla itself: the tables say what is not known."""
    table = find("gqa", cells(*GRID[:3]), verdicts(np.ones((3, 40)))).cells
    for name in ("", "vs_vanilla_", "vs_best_", "of_vanilla_"):
        assert not (table[f"{name}low"] == table[f"{name}high"]).any()
    assert np.isnan(table["of_vanilla_low"][0])


def test_a_budget_with_one_configuration_is_not_established(cells):
    rows = cells(("sum", 64, 8)).assign(score=50.0, low=0, high=99, best_at_budget=True)
    assert recommend(rows)["verdict"][0] == "nothing to compare it with"
