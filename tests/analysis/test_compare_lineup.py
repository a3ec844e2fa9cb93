"""Cells that may not stand in one table, or only with a word about it: a real store, cells logged one by one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from headwise import tracking
from headwise.analysis.analyse import analyse
from headwise.analysis.comparison import load_comparison
from headwise.benchmarks import benchmark
from headwise.cli import headwise
from headwise.errors import DataError, TrackingError
from headwise.records import Verdict
from headwise.scoring.score import write_verdicts

SETTINGS = {"model": "m", "model_digest": "d", "layer": 2, "budget": "average", "score_dtype": "float64", "seed": 0}
SETTINGS |= {"dtype": "float32", "device": "cpu", "max_new_tokens": 16, "prompt": "v1"}
SCORED = {"headwise.labels_digest": "labels", "headwise.scorer": "gqa/1"}
Right = Sequence[float | None]


@pytest.fixture
def folder(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a tracking store of its own."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def log(folder: Path) -> Callable[..., str]:
    """Log a gqa cell by what it got right (None: no answer); `only` the questions that it was asked."""

    def make(strategy: str, right: Right, tags: dict | None = None, logged: float | None = None, **params) -> str:
        name = params.pop("benchmark", "gqa")
        only = params.pop("only", range(len(right)))
        verdicts = [verdict(place, right[place], params.get("truth", "yes")) for place in only]
        params.pop("truth", None)
        card = benchmark(name).summarise(verdicts)
        write_verdicts(folder / "cell", verdicts)
        heads = {"heads": 8} if strategy in ("sum", "sparsity") else {}
        tokens = {"tokens": 576 if strategy == "vanilla" else 64}
        with tracking.open_study({}, experiment="x") as study:
            return tracking.log_cell(
                study,
                params={"benchmark": name, "strategy": strategy, **tokens, **heads, **SETTINGS, **params},
                metrics=card.as_metrics() | ({} if logged is None else {"score": logged}),
                tags=SCORED | (tags or {}),
                folder=folder / "cell",
                dataset={"name": name, "digest": "d", "source": "made"},
                note="made",
            )

    return make


def verdict(place: int, correct: float | None, truth: str) -> Verdict:
    status = "ok" if correct is not None else "missing"
    said = "" if correct is None else truth if correct else "other"
    common = {"question_id": str(place), "image": f"{place // 2}.jpg", "category": "verify/attr/3/6"}
    return Verdict(**common, status=status, correct=correct, prediction=said, truth=truth)


def right(share: float, count: int = 60) -> list[float | None]:
    return [float(number) for number in np.random.default_rng(5).permutation(count) < share * count]


def compared(*options: str) -> dict:
    done = CliRunner().invoke(headwise, ["compare", "--experiment", "x", "--json", "--no-report", *options])
    if done.exception:
        raise done.exception
    return json.loads(done.stdout)


def cells_of(found: dict) -> dict[str, dict]:
    return {cell["configuration"]: cell for cell in found["benchmarks"]["gqa"]["cells"]}


@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        ("headwise.labels_digest", "mended", "different labels (2 by labels, 1 by mended)"),
        ("headwise.scorer", "gqa/2", r"different versions of the scorer (2 by gqa/1, 1 by gqa/2)"),
    ],
)
def test_two_answer_keys_or_scorers_are_not_mixed(log, tag, value, said):
    log("vanilla", right(0.9))
    log("sum", right(0.8))
    run = log("sparsity", right(0.3), tags={tag: value})
    with pytest.raises(DataError) as caught:
        compared()
    assert said in str(caught.value)
    assert f"`headwise score --study {tracking.study_of(run)}`" in str(caught.value)
    MlflowClient().set_tag(run, tag, SCORED[tag])
    assert len(cells_of(compared())) == 3


def test_runs_without_these_tags_are_a_group_of_their_own(log):
    runs = [log("vanilla", right(0.9)), log("sum", right(0.8))]
    for name in SCORED:
        MlflowClient().delete_tag(runs[0], name)
    with pytest.raises(DataError, match="1 by unknown, 1 by labels"):
        compared()
    for name in SCORED:
        MlflowClient().delete_tag(runs[1], name)
    (note,) = compared()["notes"]
    assert "labels and scorer of these cells are unknown" in note
    assert f"headwise score --study {tracking.study_of(runs[0])}" in note


def test_the_same_digest_with_other_right_answers_is_refused(log):
    """Whatever the tags say: an F1 by the first cell's truth would be another cell's wrong number."""
    first = log("vanilla", right(0.9))
    second = log("sum", right(0.8), truth="no")
    with pytest.raises(DataError, match=f"runs {first} and {second} were scored by different right answers to 60"):
        compared()


def test_a_logged_score_that_its_verdicts_do_not_give_is_an_error_with_both(log):
    log("vanilla", right(0.9))
    run = log("sum", right(0.5), logged=87.57)
    with pytest.raises(DataError) as caught:
        compared()
    assert f"gqa: run {run} (64/8/sum) logged the score 87.5700, its verdicts give 50.0000" in str(caught.value)
    assert f"headwise score --run {run}" in str(caught.value)


def test_incomplete_cells_are_left_out_and_named(log):
    log("vanilla", right(0.9))
    log("sum", right(0.8))
    run = log("sparsity", [None, *right(0.8)[1:]])
    found = compared()
    assert set(cells_of(found)) == {"vanilla", "64/8/sum"}
    (note,) = found["notes"]
    assert note.startswith(f"incomplete and left out: gqa-64-8-sparsity (run {run[:8]}, 1 missing)")
    assert "--include-incomplete" in note
    log("sparsity", right(0.8))
    assert compared()["notes"] == []


def test_where_no_cell_is_complete_that_is_said(log):
    log("sum", [None, *right(0.8)[1:]])
    with pytest.raises(tracking.NothingFound, match="none of the 1 finished cells is complete .*--include-incomplete"):
        compared()


def test_one_cell_asked_less_does_not_shorten_the_others(log):
    """Whole by its own count, as a cell that was imported with labels for a part of the questions."""
    vanilla = [1.0] * 6 + right(0.5, 54)
    log("vanilla", vanilla)
    log("sum", [1.0] * 6 + right(0.4, 54))
    run = log("sparsity", vanilla, only=range(6))
    found = compared()
    assert cells_of(found)["vanilla"]["score"] == pytest.approx(100 * sum(vanilla) / 60)
    assert set(cells_of(found)) == {"vanilla", "64/8/sum"}
    (note,) = found["notes"]
    assert f"gqa: asked fewer than the others' 60 questions and left out: gqa-64-8-sparsity (run {run[:8]})" in note
    taken = analyse(load_comparison(experiment="x", include_incomplete=True))
    grid, part = taken.score_tables["gqa"], taken.findings["gqa"]
    assert part.cells.set_index("configuration").loc["vanilla", "score"] == pytest.approx(100 * sum(vanilla) / 60)
    assert (grid.values.loc[(64, 8), "sparsity"], grid.best.loc[(64, 8), "sparsity"]) == (100.0, False)
    assert grid.best_cells() == ["64/8/sum"] == [part.best["configuration"]]


def test_cells_answered_in_another_way_are_named_and_compared_with_their_own_vanilla(log):
    other = {"dtype": "bfloat16", "max_new_tokens": 8}
    for more, shares in (({}, (0.9, 0.8)), (other, (0.5, 0.4))):
        log("vanilla", right(shares[0]), **more)
        log("sum", right(shares[1]), **more)
    found = compared()
    cells = cells_of(found)
    assert set(cells) == {
        *("vanilla dtype=float32 max_new_tokens=16", "64/8/sum dtype=float32 max_new_tokens=16"),
        *("vanilla dtype=bfloat16 max_new_tokens=8", "64/8/sum dtype=bfloat16 max_new_tokens=8"),
    }
    assert cells["64/8/sum dtype=bfloat16 max_new_tokens=8"]["of_vanilla"] == pytest.approx(80)
    assert cells["64/8/sum dtype=float32 max_new_tokens=16"]["of_vanilla"] == pytest.approx(100 * 48 / 54)
    (note,) = found["notes"]
    assert "they differ in dtype (bfloat16, float32) and max_new_tokens (16, 8)" in note


def test_what_answered_counts_not_what_was_asked_for(log):
    for device, dtype in (("cpu", "float32"), ("cuda", "auto")):
        tags = {"headwise.device": device, "headwise.dtype": dtype}
        log("sum", right(0.5), tags=tags, device="auto", dtype="auto")
    log("sum", right(0.5), tags={"headwise.device": "cuda", "headwise.dtype": "auto"}, device="cuda:1", dtype="auto")
    found = compared()
    assert set(cells_of(found)) == {"64/8/sum dtype=float32 cpu", "64/8/sum dtype=auto cuda"}
    assert "1 cell was run again later; the latest run of each is compared" in found["notes"]


def test_seeds_double_only_what_draws(log):
    for seed in (0, 1):
        log("sum", right(0.5), seed=seed)
        log("random_tokens", right(0.4), seed=seed)
    found = cells_of(compared())
    assert set(found) == {"64/8/sum", "64/random_tokens seed=0", "64/random_tokens seed=1"}


def test_an_imported_cell_stands_beside_an_evaluated_one(log):
    imported = {"source": "import", "model_digest": None, "score_dtype": "float64", "dtype": None, "device": None}
    imported |= {"max_new_tokens": None, "prompt": None}
    for more, share in (({}, 0.8), (imported, 0.5)):
        log("sum", right(share), **more)
        log("vanilla", right(0.9), **more)
    found = compared()
    assert {"64/8/sum", "64/8/sum import", "vanilla", "vanilla import"} == set(cells_of(found))
    assert "they differ in source (headwise, import)" in found["notes"][0]


def test_cells_that_nothing_tells_apart_get_names_of_their_own(log):
    runs = [log("sum", right(0.5), prompt=None), log("sum", right(0.4))]
    assert set(cells_of(compared())) == {f"64/8/sum run={run[:8]}" for run in runs}


def test_a_number_that_no_table_holds_is_named_with_its_run(log):
    log("sum", right(0.5))
    run = log("sparsity", right(0.5), seed=2**63)
    with pytest.raises(TrackingError) as caught:
        compared()
    assert f"run {run} has seed=9223372036854775808, which is not a 64-bit integer" in str(caught.value)


def test_the_command_takes_in_what_answered_nothing_without_a_score(log):
    log("vanilla", right(0.9))
    log("sum", right(0.8))
    log("sparsity", [None] * 60)
    found = compared("--include-incomplete", "--against", "published")
    cell = cells_of(found)["64/8/sparsity"]
    assert (cell["score"], cell["of_vanilla"], cell["in_best_set"]) == (None, None, False)
    assert "gqa: 64/8/sparsity did not answer every question" in found["notes"][0]
    options = ["--experiment", "x", "--include-incomplete", "--report"]
    done = CliRunner().invoke(headwise, ["compare", *options], catch_exceptions=False)
    assert "Best: 64/8/sum 80.00" in done.output
    assert "not run" not in done.output
