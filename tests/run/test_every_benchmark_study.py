"""Every benchmark of its own file through a whole study: pictures, answers, scores, comparison, report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from PIL import Image
from tiny_llava import write_tiny_llava

from headwise.benchmarks import BENCHMARKS, default_names
from headwise.cli import headwise
from headwise.records import read_jsonl

GOLDEN = Path(__file__).resolve().parents[1] / "golden/benchmarks"
NAMES = [name for name in default_names() if (GOLDEN / name).is_dir()]
SETTINGS = {
    "benchmark": ",".join(NAMES), "strategy": "sparsity", "controls": "vanilla", "tokens": 8, "heads": 2,
    "budget": "kept", "limit": 2, "max_new_tokens": 128,
}  # fmt: skip


@pytest.fixture
def drawn(tmp_path) -> Path:
    """The golden bundles in one folder, a picture drawn for each of their images."""
    folder = tmp_path / "drawn"
    for name in NAMES:
        shutil.copytree(GOLDEN / name / "bundle", folder, dirs_exist_ok=True)
        bench = BENCHMARKS[name]
        if not bench.image_folder.startswith("inside"):
            for number, sample in enumerate(bench.samples(folder, limit=2)):
                path = bench.image_path(folder, sample)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (60, 40), (number, 99, 90)).save(path, "PNG")
    return folder


def run(*words: str) -> str:
    result = CliRunner().invoke(headwise, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def cells(store, drawn, monkeypatch):
    monkeypatch.setenv("HEADWISE_CACHE", str(store / "cache"))
    given = SETTINGS | {"model": write_tiny_llava(store / "model"), "data_dir": drawn}
    run("evaluate", *[word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))])
    client = MlflowClient()
    everything = [each.experiment_id for each in client.search_experiments()]
    return client.search_runs(everything, "tags.`headwise.kind` = 'cell'")


def test_a_study_of_every_benchmark_from_pictures_to_report(cells, drawn, store):
    assert sorted(cell.data.params["benchmark"] for cell in cells) == sorted(NAMES * 2)
    for cell in cells:
        name = cell.data.params["benchmark"]
        answers = Path(MlflowClient().download_artifacts(cell.info.run_id, "answers.jsonl"))
        asked = {sample.key for sample in BENCHMARKS[name].samples(drawn, limit=2)}
        assert {(str(row["question_id"]), row["prompt"]) for row in read_jsonl(answers)} == asked
        files = ("--answers", str(answers), "--data-dir", str(drawn), "--limit", "2", "--json")
        scored = json.loads(run("score", "--benchmark", name, *files))
        assert scored["complete"], name
        assert cell.data.metrics["score"] == scored["score"], name
    found = json.loads(run("compare", "--report", "--json"))
    assert list(found["benchmarks"]) == NAMES
    (page,) = store.rglob("report.html")
    data = page.read_text(encoding="utf-8").split('id="samples-data">')[1].split("</script>")[0]
    shown = json.loads(data)
    assert [part["benchmark"] for part in shown] == NAMES
    assert all(sample["image"] for part in shown for sample in part["samples"])
    assert {part["benchmark"] for part in shown if part["samples"][0]["boxes"]} == {"refcoco"}
