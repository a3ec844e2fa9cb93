"""From cell runs in a store to a comparison: which cells, what tables, what is logged and printed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from rich.console import Console

from headwise import tracking
from headwise.analysis import analyse as analysing
from headwise.analysis.analyse import analyse
from headwise.analysis.comparison import load_comparison
from headwise.cli import headwise
from headwise.report.compare import compare_study
from headwise.scoring.score import write_verdicts
from tests.analysis.conftest import made_verdicts


@pytest.fixture(scope="module")
def analysis(store):
    return analyse(load_comparison(study=store.study))


def test_the_cells_of_the_latest_study_are_compared(store):
    found = load_comparison()
    assert found.study == store.study
    assert found.benchmarks == ["gqa", "pope"]
    assert found.notes == []
    names = found.of("pope")["configuration"].tolist()
    assert names[:3] == ["vanilla", "192/random_tokens", "64/random_tokens"]
    assert names[3:7] == ["192/16/sum", "192/8/sum", "64/16/sum", "64/8/sum"]
    assert names[7:] == ["192/16/sparsity", "192/8/sparsity", "64/16/sparsity"]


def test_verdicts_are_row_for_row_the_cells(store, analysis):
    comparison = analysis.comparison
    verdicts = comparison.verdicts("gqa")
    assert verdicts.run_ids == comparison.of("gqa")["run_id"].tolist()
    assert 100 * verdicts.correct_CQ.mean(axis=1) == pytest.approx(comparison.of("gqa")["score"].to_numpy(), abs=1e-4)


def test_verdicts_of_many_cells_are_not_kept_beside_each_other(store, monkeypatch):
    monkeypatch.setattr(analysing, "PAIRWISE", 5)
    found = analyse(load_comparison(study=store.study))
    assert found.comparison._read == {}
    assert found.comparison.verdicts("gqa").run_ids == found.comparison.of("gqa")["run_id"].tolist()


def test_grids_hold_the_logged_scores_with_the_tie_and_the_hole(store, analysis):
    pope = analysis.score_tables["pope"]
    assert pope.values.loc[(192, 8), "sum"] == pytest.approx(store.scores["pope", "sum", 192, 8])
    assert pope.holes == 1
    assert set(pope.best_cells()) == {"192/16/sum", "192/16/sparsity", "192/8/sparsity"}
    assert analysis.score_tables["gqa"].controls["vanilla"].iloc[0] == pytest.approx(
        store.scores["gqa", "vanilla", 576, None]
    )


def test_the_mean_over_benchmarks_is_in_percent_of_vanilla_and_leaves_holes_out(store, analysis):
    of_vanilla = {
        name: 100 * store.scores[name, "sparsity", 192, 8] / store.scores[name, "vanilla", 576, None]
        for name in ("gqa", "pope")
    }
    overall = analysis.overall.cells.set_index("configuration")["score"]
    assert overall["192/8/sparsity"] == pytest.approx(sum(of_vanilla.values()) / 2, rel=1e-5)
    assert "64/8/sparsity" not in overall
    assert analysis.score_tables["overall"].holes == 1


def test_wins_count_rows_topped_and_what_of_it_is_significant(analysis):
    wins = analysis.wins.set_index("strategy")
    assert wins.loc["sparsity", "topped"] + wins.loc["sum", "topped"] == 7  # the eighth row has a hole
    assert wins.loc["sparsity", "topped"] == 6.0
    assert wins.loc["sum", "won"] == 0


def test_where_strategies_tie_everywhere_the_wins_are_numbers(store):
    """One budget, and the two strategies' answers are the same: nothing is won, nothing lost, nothing missing."""
    found = tracking.find_cells(study=store.study)
    tied = found[(found["tokens"] == 192) & (found["heads"] == 16) | (found["strategy"] == "vanilla")]
    wins = analyse(load_comparison(run_ids=tied["run_id"].tolist())).wins.set_index("strategy")
    assert wins.loc["sum"].to_dict() == {"topped": 1.0, "rows": 2, "won": 0, "shared": 2, "lost": 0}


def test_a_strategy_without_rivals_has_won_nothing(store):
    found = tracking.find_cells(study=store.study)
    alone = analyse(load_comparison(run_ids=found[found["strategy"] != "sum"]["run_id"].tolist()))
    assert alone.wins.empty
    assert "wins" not in alone.tables


def test_the_costs_of_the_fronts_are_printed_and_logged(store):
    done = CliRunner().invoke(headwise, ["compare", "--study", store.study], catch_exceptions=False)
    assert "Accuracy beside cost" in done.output
    assert "5.76 ms" in done.output
    cell = json.loads(CliRunner().invoke(headwise, ["compare", "--json"]).stdout)["overall"]["cells"][0]
    assert cell["prefill_seconds"] == pytest.approx(576e-5)


def test_figures_are_logged_as_figures(store, monkeypatch):
    logged = []
    monkeypatch.setattr(MlflowClient, "log_figure", lambda self, run, figure, name: logged.append(name))
    CliRunner().invoke(headwise, ["compare", "--json"], catch_exceptions=False)
    assert {"figures/best_set_gqa.png", "figures/against_prefill_seconds_overall.png"} <= set(logged)


def test_compare_logs_a_run_of_its_own_with_tables_and_a_note(store):
    done = CliRunner().invoke(headwise, ["compare", "--study", store.study], catch_exceptions=False)
    assert done.exit_code == 0
    assert "192/16/sum" in done.output
    client = MlflowClient()
    experiment = client.get_experiment_by_name("headwise").experiment_id
    run = client.search_runs([experiment], "tags.`headwise.kind` = 'compare'", order_by=["start_time DESC"])[0]
    assert run.info.status == "FINISHED"
    assert run.data.tags["headwise.study"] == store.study
    assert run.data.tags["mlflow.note.content"].startswith("# Comparison of 21 cells (m)")
    files = {item.path for item in client.list_artifacts(run.info.run_id, "tables")}
    assert {"tables/best_gqa.csv", "tables/best_gqa.json", "tables/wins.csv", "tables/scores_pope.csv"} <= files
    assert run.data.metrics["best_set/gqa"] >= 2
    assert tracking.find_cells(study=store.study)["run_id"].isin([run.info.run_id]).sum() == 0


def test_json_has_best_cell_best_set_and_every_interval(store):
    done = CliRunner().invoke(headwise, ["compare", "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    part = found["benchmarks"]["gqa"]
    assert part["best"]["configuration"] in part["best_set"]
    assert {"192/16/sum", "192/16/sparsity"} <= set(part["best_set"])
    assert len(part["cells"]) == 11
    assert all(cell["low"] <= cell["score"] <= cell["high"] for cell in part["cells"])
    assert [cell["heads"] for cell in part["cells"]][0] is None
    assert found["study"] == store.study


@pytest.mark.parametrize(("option", "drawn"), [([], False), (["--report"], True)])
def test_of_very_many_cells_the_report_is_drawn_when_asked_for(store, monkeypatch, option, drawn):
    monkeypatch.setattr("headwise.report.compare.DRAWN", 20)
    done = CliRunner().invoke(headwise, ["compare", "--json", *option], catch_exceptions=False)
    logged = MlflowClient().list_artifacts(json.loads(done.stdout)["compare_run"])
    assert ("report.html" in {item.path for item in logged}) == drawn
    assert ("with --report" in done.stderr) != drawn


def test_runs_named_one_by_one_are_compared(store):
    cells = tracking.find_cells(study=store.study)
    chosen = cells[cells["benchmark"] == "gqa"]["run_id"].tolist()[:4]
    done = CliRunner().invoke(headwise, ["compare", "--json", *(f"--run={run_id}" for run_id in chosen)])
    assert {cell["run_id"] for cell in json.loads(done.stdout)["benchmarks"]["gqa"]["cells"]} == set(chosen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experiment", "nowhere"], "there is no experiment 'nowhere'; experiments with studies: headwise"),
        (["--study", "f" * 32], "not found"),
        (["--run", "a", "--study", "b"], "give either --run or --study"),
        (["--against", "hearsay"], "hearsay"),
    ],
)
def test_a_user_s_mistake_is_an_error_that_names_it(store, arguments, message):
    done = CliRunner().invoke(headwise, ["compare", *arguments])
    assert message in str(done.exception)
    assert done.exit_code != 0


def test_a_study_without_a_complete_cell_is_no_failure(store, capsys):
    with tracking.open_study({}) as study:
        console = Console(force_terminal=False)
        compare_study(study, console)
    assert "nothing to compare" in capsys.readouterr().out
    MlflowClient().delete_run(study.run_id)


def test_one_image_has_no_interval_and_proves_nothing_in_any_output(tmp_path, monkeypatch):
    """Six questions of one image, one strategy all right and one all wrong: numbers, but nothing is known."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    verdicts = [replace(v, image="0.jpg") for v in made_verdicts("gqa", np.ones(6))]
    with tracking.open_study({}) as study:
        for strategy, correct in (("sum", 1.0), ("sparsity", 0.0)):
            write_verdicts(tmp_path / "cell", [replace(v, correct=correct) for v in verdicts])
            params = {"benchmark": "gqa", "strategy": strategy, "tokens": 64, "heads": 8, "model": "m", "layer": 2}
            metrics = {"score": 100 * correct, "samples": 6, "failed": 0, "missing": 0}
            files = {"folder": tmp_path / "cell", "dataset": {"name": "gqa", "digest": "d", "source": "made"}}
            tracking.log_cell(study, params=params, metrics=metrics, tags={}, note="made", **files)
    printed = CliRunner().invoke(headwise, ["compare", "--report"], catch_exceptions=False).output
    found = CliRunner().invoke(headwise, ["compare", "--json", "--report"], catch_exceptions=False).stdout
    run = json.loads(found, parse_constant=pytest.fail)
    pages = [MlflowClient().download_artifacts(run["compare_run"], name) for name in ("compare.md", "report.html")]
    for text in (printed, found, *(Path(page).read_text() for page in pages)):
        assert "1 image is too few to tell configurations apart" in " ".join(text.split())
        assert not re.search(r"established:|ignificantly better than the other|it is significantly better", text)
    part = run["benchmarks"]["gqa"]
    assert (part["images"], part["too_few_images"], part["best"]["low"], part["best"]["high"]) == (1, True, None, None)
    assert len(part["best_set"]) == 2
