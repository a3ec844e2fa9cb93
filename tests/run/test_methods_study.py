"""A whole study of methods before and inside the language model: CLIP, what images decide, areas, costs, comparison."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from models.clip_files import write_tiny_clip
from PIL import Image
from survival import write_bundle
from tiny_llava import write_tiny_llava

from headwise import tracking
from headwise.analysis.evidence import read_evidence
from headwise.cli import headwise
from headwise.errors import HeadwiseError
from headwise.run.spool import Spool

METHODS = "cdpruner,trim,prumerge,visionzip,sparsevlm,pdrop,dart,fastv,sum"
SETTINGS = {
    "--benchmark": "gqa",
    "--strategy": METHODS,
    "--controls": "vanilla,pool,downsample",
    "--tokens": "24",
    "--heads": "4",
    "--budget": "average",
    "--method-options": "prumerge.adaptive=true",
    "--max-new-tokens": "4",
}
BEFORE = ("cdpruner", "trim", "prumerge", "visionzip", "pool", "downsample")
MERGING = ("trim", "prumerge", "visionzip", "sparsevlm", "pool", "downsample")
VISUAL, LAYERS = 36, 4


def invoke(command: str, folder: Path, *flags: str, **changed: str) -> Result:
    settings = SETTINGS | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    words = [word for option in settings.items() for word in option]
    given = ["--model", str(folder / "model"), "--data-dir", str(folder / "eval")]
    return CliRunner().invoke(headwise, [command, *flags, *given, *words])


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_store) -> Iterator[Path]:
    """A working folder with a store, a model, a CLIP and a benchmark of ten noisy pictures."""
    folder = tmp_path_factory.mktemp("methods")
    shutil.copy(empty_store, folder / "mlflow.db")
    write_tiny_llava(folder / "model", side=6)
    (folder / "clip").mkdir()
    write_tiny_clip(folder / "clip")
    write_bundle(folder / "eval")
    letters = str.maketrans("0123456789", "abcdefghij")  # the words that the tiny CLIP knows
    asked = folder / "eval/gqa/llava_gqa_testdev_balanced.jsonl"
    rows = [json.loads(line) for line in asked.read_text().splitlines()]
    asked.write_text("".join(json.dumps(row | {"text": row["text"].translate(letters)}) + "\n" for row in rows))
    rng = np.random.default_rng(0)
    for path in sorted((folder / "eval/gqa").rglob("*.png")):
        Image.fromarray(rng.integers(0, 255, (40, 52, 3), dtype=np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("HEADWISE_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def output(place) -> str:
    done = invoke("run", place, clip=str(place / "clip"))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def cells(output) -> pd.DataFrame:
    """The study's runs by strategy."""
    return tracking.find_cells(study=tracking.LATEST).set_index("strategy")


def evidence_of(cells: pd.DataFrame, strategy: str) -> Path:
    return Path(MlflowClient().download_artifacts(cells.loc[strategy, "run_id"], "evidence.npz"))


def test_every_method_answers_every_question(cells):
    assert set(cells.index) == {*METHODS.split(","), "vanilla", "pool", "downsample"}
    assert (cells["failed"] == 0).all()
    assert (cells["samples"] == 20).all()


def test_a_clip_is_logged_by_its_content_and_changes_what_is_kept(cells):
    assert cells.loc["trim", "options"] == cells.loc["cdpruner", "options"]
    assert cells.loc["trim", "options"].startswith("clip@")
    kept = np.load(evidence_of(cells, "cdpruner"))["kept_NV"]
    pairs = kept.reshape(10, 2, -1)
    assert (pairs[:, 0] != pairs[:, 1]).any()  # two questions about one picture


def test_where_images_decide_the_mean_is_counted_over_the_questions(cells):
    with np.load(evidence_of(cells, "prumerge")) as found:
        rows = np.bitwise_count(found["kept_NV"]).sum(1) + found["merged_GN"][-1]
    assert len(set(rows.tolist())) > 1
    row = cells.loc["prumerge"]
    assert row["mean_tokens"] == row["kept_tokens"] == pytest.approx(rows.mean())
    per_position = 2 * 2 * 8 * 4  # keys and values of two bytes, 8 heads of 4
    assert row["kv_bytes"] == pytest.approx(per_position * LAYERS * (rows.mean() + 60))


def test_every_other_mean_is_the_budget(cells):
    others = cells.drop(["prumerge", "downsample", "vanilla", "dart"])
    assert (others["mean_tokens"] - 24).abs().max() <= 0.5
    assert cells.loc["downsample", "mean_tokens"] == 16


def test_costs_of_a_choice_before_the_first_layer_are_counted_and_measured(cells):
    assert (cells[["prefill_seconds", "token_seconds", "peak_bytes"]] > 0).all(axis=None)
    # At one count per layer what is above pooling is the choosing: CLIP's projection, cosines, the greedy steps.
    assert cells.loc["trim", "flops"] > cells.loc["visionzip", "flops"] > cells.loc["pool", "flops"]
    assert cells.loc["cdpruner", "flops"] > cells.loc["visionzip", "flops"]


def test_the_seconds_are_those_of_a_spooled_measurement_of_the_method(place, cells):
    (group,) = (place / "home/spool").iterdir()
    costs = [cost for _, _, line in Spool(group).lines() for cost in line.get("costs", ())]
    for name in BEFORE:
        mine = [cost for cost in costs if cost["method"].startswith(f"{name}/")]
        assert mine, name
        assert all(cost["layer"] == 0 for cost in mine)
        assert cells.loc[name, "prefill_seconds"] == pytest.approx(np.median([cost["prefill"] for cost in mine]))


@pytest.mark.parametrize("name", MERGING)
def test_merged_rows_come_from_areas(cells, name):
    found = read_evidence(evidence_of(cells, name))
    for row, area_V in enumerate(found.areas(range(20))):
        rows = set(area_V.tolist()) - {0}
        assert rows
        assert max(rows) <= found.merged(row)
        assert len(rows) == found.merged(row) - (name == "visionzip")  # [CLS] comes from no place
        share_V = found.shares([row])[0]
        assert share_V.sum() == pytest.approx(found.kept(row).sum() + len(rows))


def test_methods_that_merge_nothing_have_no_areas(cells):
    for name in ("cdpruner", "pdrop", "dart", "fastv", "sum"):
        assert read_evidence(evidence_of(cells, name)).file is None


def test_the_comparison_says_whose_means_differ_and_has_fronts_over_methods(output):
    words = " ".join(output.split())
    assert "note: mean visual tokens per layer differ within a budget: at 24 tokens " in words
    assert "(prumerge options=adaptive=True), 16.0 (downsample) and 24.0 (9 others)" in words
    assert "Accuracy beside cost: the Pareto fronts" in words


def test_a_resumed_study_answers_nothing_again(place, output):
    before = sorted((path, path.stat().st_size) for path in (place / "home").rglob("*.spool"))
    assert invoke("evaluate", place, clip=str(place / "clip")).exit_code == 0
    assert sorted((path, path.stat().st_size) for path in (place / "home").rglob("*.spool")) == before


def test_the_plan_shows_each_layer_and_answers_nothing(place, output):
    runs = len(MlflowClient().search_runs(["0", "1"]))
    spooled = sorted((path, path.stat().st_size) for path in (place / "home").rglob("*.spool"))
    done = invoke("evaluate", place, "--plan", clip=str(place / "clip"), tokens="20", limit="4")
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert "tokens 20 each image decides (mean_tokens says what came of it): prumerge (adaptive=True)" in lines
    assert "tokens 20 16 in layers 1-4 (mean 16.00): downsample" in lines
    assert "tokens 20 20 in layers 1-4 (mean 20.00): pool, cdpruner, trim, visionzip" in lines
    assert any(line.startswith("time about ") for line in lines)
    assert len(MlflowClient().search_runs(["0", "1"])) == runs
    assert sorted((path, path.stat().st_size) for path in (place / "home").rglob("*.spool")) == spooled


def refused(done: Result) -> str:
    """The one line that the command line prints before it ends with exit code 2."""
    assert isinstance(done.exception, HeadwiseError)
    assert "\n" not in str(done.exception)
    return str(done.exception)


@pytest.mark.parametrize("name", ["cdpruner", "trim"])
def test_without_a_clip_the_command_ends_before_the_run(place, output, name):
    runs = len(MlflowClient().search_runs(["0", "1"]))
    words = refused(invoke("evaluate", place, strategy=name))
    assert words.startswith(f"{name}: needs CLIP's text tower")
    assert len(MlflowClient().search_runs(["0", "1"])) == runs


@pytest.mark.parametrize(
    ("clip", "words"),
    [("nowhere", "clip: .*nowhere has no readable config.json"), ("model", "is a 'llava' checkpoint, not a full CLIP")],
)
def test_a_clip_that_is_none_ends_before_the_run(place, output, clip, words):
    runs = len(MlflowClient().search_runs(["0", "1"]))
    assert re.search(words, refused(invoke("evaluate", place, strategy="trim", clip=str(place / clip))))
    assert len(MlflowClient().search_runs(["0", "1"])) == runs
