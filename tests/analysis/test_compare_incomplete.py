"""Cells with failed or missing answers: differences over the questions both answered, no score out of nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from headwise.analysis import tables
from headwise.analysis.analyse import Analysis, check_logged
from headwise.analysis.comparison import Comparison
from headwise.analysis.findings import Findings, find, over_benchmarks
from headwise.analysis.score_tables import score_table
from headwise.analysis.verdicts import VerdictMatrix
from headwise.benchmarks import BENCHMARKS
from headwise.errors import DataError
from headwise.report.publish import write_report
from headwise.report.text import sentence
from headwise.stats import compare_pair

QUESTIONS = 80
NONE = np.full(QUESTIONS, np.nan)


def matrix(correct, name="gqa", categories=("c",)) -> VerdictMatrix:
    correct = np.asarray(correct, np.float32)
    places = np.arange(correct.shape[1])
    questions = pd.DataFrame({"question_id": places.astype(str), "image": (places // 2).astype(str), "category": "c"})
    questions["truth"] = np.where(places % 2, "no", "yes")
    return VerdictMatrix(
        benchmark="gqa",
        aggregate=BENCHMARKS[name].aggregate,
        unit=BENCHMARKS[name].unit,
        run_ids=[f"r{row}" for row in range(len(correct))],
        correct_CQ=correct,
        prediction_CQ=np.where(np.isnan(correct), -1, np.nan_to_num(correct)).astype(np.int32),
        predictions=["wrong", "right"],
        questions=questions,
        image_Q=(places // 2).astype(np.int32),
        category_Q=(places * len(categories) // len(places)).astype(np.int32),
        categories=list(categories),
    )


def cells(*strategies: str) -> pd.DataFrame:
    table = pd.DataFrame({"strategy": strategies, "tokens": 64, "heads": 8, "model": "m", "benchmark": "gqa"})
    table = table.astype({"tokens": "Int64", "heads": "Int64"})
    table.loc[table["strategy"] == "vanilla", ["tokens", "heads"]] = pd.NA
    names = table["strategy"].where(table["strategy"] == "vanilla", "64/8/" + table["strategy"])
    run_ids = [f"r{row}" for row in range(len(table))]
    return table.assign(configuration=names, label=table["strategy"], score=0.0, run_id=run_ids, flops=1.0)


def hard_then_easy() -> tuple[np.ndarray, np.ndarray]:
    """Vanilla fails on the easy half; sum is worse on the half that both answered, better by its own score."""
    vanilla = np.r_[np.tile([1, 1, 0, 0], 10), np.full(40, np.nan)]
    other = np.r_[np.tile([1, 0, 0, 0], 10), np.ones(40)]
    return vanilla, other


def test_differences_are_over_the_questions_that_both_answered():
    vanilla, other = hard_then_easy()
    made = matrix([vanilla, other, other])
    part = find("gqa", cells("vanilla", "sum", "sparsity"), made)
    row = part.cells.set_index("configuration").loc["64/8/sum"]
    assert row["score"] == pytest.approx(100 * other.mean())
    assert row["vs_vanilla"] == pytest.approx(-25)
    assert row["vs_vanilla_low"] < row["vs_vanilla"] < row["vs_vanilla_high"] < 0
    assert part.scale == "best"  # vanilla is no whole to be a percentage of
    both = ~np.isnan(vanilla)
    alone = find("gqa", cells("vanilla", "sum", "sparsity"), matrix([r[both] for r in (vanilla, other, other)]))
    assert row["p_vanilla"] == pytest.approx(alone.cells["p_vanilla"][1], abs=0.02)


def test_a_percentage_of_vanilla_is_over_the_questions_that_both_answered():
    vanilla, part_of_it = np.tile([1.0, 1, 0, 0], 20), np.r_[np.tile([1, 0, 0, 0], 10), np.full(40, np.nan)]
    part = find("gqa", cells("vanilla", "sum", "sparsity"), matrix([vanilla, part_of_it, vanilla]))
    row = part.cells.set_index("configuration").loc["64/8/sum"]
    assert (row["score"], row["of_vanilla"], row["vs_vanilla"]) == pytest.approx((25, 50, -25))
    assert row["vs_best"] == pytest.approx(-25)
    assert row["of_vanilla_low"] < 50 < row["of_vanilla_high"]  # half of every image, and yet no certainty


def test_what_answered_nothing_has_no_score_and_has_not_lost():
    rng = np.random.default_rng(1)
    rows = [rng.random(QUESTIONS) < share for share in (0.9, 0.8, 0.4)]
    part = find("gqa", cells("vanilla", "sum", "entropy", "sparsity"), matrix([*rows, NONE]))
    row = part.cells.set_index("configuration").loc["64/8/sparsity"]
    assert row[["score", "low", "vs_vanilla", "of_vanilla", "p_vanilla", "p_best"]].isna().all()
    assert not row["in_best_set"]
    wins = tables.wins([part]).set_index("strategy")
    assert wins.loc["entropy", "lost"] == 1
    assert "sparsity" not in wins.index
    assert part.best["configuration"] == "64/8/sum"


def test_the_best_of_what_it_answered_is_not_the_best():
    """Two answers, both right: neither best, nor recommended, nor on the front, in table and sentence alike."""
    lucky = np.r_[1, 1, np.full(QUESTIONS - 2, np.nan)]
    rng = np.random.default_rng(2)
    rows = [rng.random(QUESTIONS) < share for share in (0.9, 0.8, 0.7)]
    table = cells("vanilla", "sum", "entropy", "sparsity")
    part = find("gqa", table, matrix([*rows, lucky]))
    assert part.cells["score"][3] == 100
    shown = score_table("gqa", part.cells)
    assert shown.best_cells() == ["64/8/sum"] == [part.best["configuration"]]
    assert shown.holes == 0
    assert "sparsity" not in sentence(part, shown)
    analysis = Analysis(comparison=Comparison(cells=table, experiment_id="1"), findings={"gqa": part}, overall=None)
    assert set(analysis.recommendation["recommended"]) == {"64/8/sum"}
    assert "64/8/sparsity" not in set(tables.front(part)["configuration"])
    overall = over_benchmarks([part, part])
    assert set(overall.cells["configuration"]) == {"vanilla", "64/8/sum", "64/8/entropy"}


def test_a_question_that_no_cell_answered_makes_no_cell_incomplete():
    rng = np.random.default_rng(3)
    rows = [np.r_[np.nan, np.nan, rng.random(QUESTIONS - 2) < share] for share in (0.9, 0.8)]
    part = find("gqa", cells("vanilla", "sum"), matrix(rows))
    assert part.cells["full"].all()
    assert part.cells["score"][1] == pytest.approx(100 * np.nanmean(rows[1]))


def test_an_unanswered_category_of_pope_is_no_f1_of_zero():
    rng = np.random.default_rng(4)
    whole = (rng.random(QUESTIONS) < 0.8).astype(float)
    half = np.where(np.arange(QUESTIONS) < 40, whole, np.nan)
    part = find("gqa", cells("vanilla", "sum"), matrix([whole, half], "pope", ("a", "b")))
    alone = find("gqa", cells("vanilla"), matrix([whole[:40]], "pope", ("a",)))
    assert part.cells["score"][1] == pytest.approx(alone.cells["score"][0])
    assert part.cells["vs_vanilla"][1] == pytest.approx(0)


def test_where_every_pruned_cell_lacks_something_none_is_best():
    vanilla, other = hard_then_easy()
    part = find("gqa", cells("sum", "sparsity"), matrix([np.where(np.arange(80) < 2, np.nan, other), vanilla]))
    assert part.pruned.empty
    assert sentence(part, None) == "No pruned cell answered every question, so none is named the best."
    assert part.cells["of_vanilla"].isna().all()


def test_nothing_answered_at_all_is_an_error():
    with pytest.raises(DataError, match="no cell answered any question"):
        find("gqa", cells("sum"), matrix([NONE]))


def test_the_percentage_of_a_pair_has_an_interval_and_none_of_nothing():
    rng = np.random.default_rng(5)
    first, second = rng.random((2, QUESTIONS)) < [[0.4], [0.8]]
    made = matrix([first, second, np.zeros(QUESTIONS)])
    outcomes = find_outcomes(made)
    pair = compare_pair(outcomes, 0, 1)
    assert pair.percent == pytest.approx(100 * first.mean() / second.mean())
    assert pair.percent_low < pair.percent < pair.percent_high
    assert np.isnan(compare_pair(outcomes, 0, 2).percent)


def find_outcomes(made: VerdictMatrix):
    from headwise.analysis.findings import as_outcomes

    return as_outcomes(made)


def test_a_logged_score_must_be_the_one_of_the_verdicts():
    part = find("gqa", cells("vanilla", "sum"), matrix(np.ones((2, QUESTIONS))))
    assert isinstance(part, Findings)
    with pytest.raises(DataError, match=r"run r0 .vanilla. logged the score 0.0000, its verdicts give 100.0000 .and 1"):
        check_logged("gqa", part.cells)
    check_logged("gqa", part.cells.assign(logged_score=100 + 1e-6))


def test_the_report_is_drawn_with_cells_that_answered_nothing(tmp_path):
    rng = np.random.default_rng(6)
    rows = [rng.random(QUESTIONS) < share for share in (0.9, 0.8)]
    table = cells("vanilla", "sum", "sparsity").assign(artifact_uri=str(tmp_path), data_dir="answers")
    made = matrix([*rows, NONE])
    comparison = Comparison(cells=table, experiment_id="1")
    comparison._read["gqa"] = made
    part = find("gqa", table, made)
    drawn = write_report(
        Analysis(comparison=comparison, findings={"gqa": part}, overall=None), tmp_path, run_links={}, links={}
    )
    assert any(name.startswith("best_set") for name in drawn.figures)
