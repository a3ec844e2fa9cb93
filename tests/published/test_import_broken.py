"""One broken file in a tree of answers is named and passed over; numbers that no table holds stay outside."""

from __future__ import annotations

import json
import os
import time

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from headwise import tracking
from headwise.cli import headwise
from headwise.published.importer.logs import read_logs
from headwise.published.importer.sources import find_sources
from headwise.records import write_jsonl

PROMPT = "\nAnswer the question using a single word or phrase."
GQA = "gqa/answers/llava_gqa_testdev_balanced/llava-v1.5-7b/ablation_a"
ROWS = [
    {"question_id": "100", "prompt": "Is it red?" + PROMPT, "text": "yes"},
    {"question_id": "101", "prompt": "What is left of it?" + PROMPT, "text": "box"},
]


def cell(root, name="vtn_64_8_sparsity", rows=ROWS, file="merge.jsonl"):
    folder = root / GQA / name
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / file, rows)
    return folder / file


def imported(root, bundle):
    options = ["--data-dir", str(bundle), "--experiment", "x", "--json"]
    result = CliRunner().invoke(headwise, ["import", str(root), *options])
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


def line(text: str) -> str:
    return f'{{"question_id": "100", "prompt": "Is it red?", "text": {text}}}\n'


@pytest.mark.parametrize(
    "content",
    [
        line("[" * 100_000 + "]" * 100_000).encode(),
        line("9" * 5000).encode(),
        line(r'"\ud800"').encode(),
        b"\xff\xfe\x00broken",
        b"\x00" * 100,
        b"not json\n",
        b"[1]\n",
    ],
    ids=["nested", "digits", "surrogate", "binary", "zeros", "text", "array"],
)
def test_one_bad_file_is_named_and_the_rest_is_taken(store, bundle, tmp_path, content):
    cell(tmp_path / "answers")
    cell(tmp_path / "answers", "vtn_64_8_sum").write_bytes(content)
    report = imported(tmp_path / "answers", bundle)
    assert [row["strategy"] for row in report["logged"]] == ["sparsity"]
    (issue,) = report["issues"]
    assert "vtn_64_8_sum" in issue["where"] or issue["where"] == "gqa-64-8-sum"
    assert len(issue["what"].splitlines()) == 1


def test_a_file_that_cannot_be_opened_is_passed_over(store, bundle, tmp_path):
    cell(tmp_path / "answers")
    path = cell(tmp_path / "answers", "vtn_64_8_sum")
    path.unlink()
    path.mkdir()
    report = imported(tmp_path / "answers", bundle)
    assert ([row["strategy"] for row in report["logged"]], len(report["issues"])) == (["sparsity"], 1)


def test_a_billion_chunks_are_not_listed(tmp_path):
    cell(tmp_path, rows=ROWS[:1], file="999999999_0.jsonl")
    issues, started = [], time.perf_counter()
    assert find_sources(tmp_path, "m", issues.append) == []
    assert time.perf_counter() - started < 2
    named = ", ".join(f"999999999_{part}.jsonl" for part in (1, 2, 3))
    assert f"1 of 999999999 chunks; missing: {named} and 999999995 more" in issues[0].what


@pytest.mark.parametrize("names", [("2_0", "2_1", "2_2"), ("1_0", "01_0"), ("0_0",)])
def test_a_chunk_beyond_the_last_one_is_reported(tmp_path, names):
    for name in names:
        cell(tmp_path, rows=ROWS[:1], file=f"{name}.jsonl")
    issues = []
    assert find_sources(tmp_path, "m", issues.append) == []
    assert "is none of the chunks" in issues[0].what


@pytest.mark.parametrize("name", ["vtn_99999999999999999999_8_sum", "vtn_64_99999999999999999999_sum"])
def test_numbers_beyond_any_table_are_reported(store, bundle, tmp_path, name):
    cell(tmp_path / "answers")
    cell(tmp_path / "answers", name)
    report = imported(tmp_path / "answers", bundle)
    assert [row["strategy"] for row in report["logged"]] == ["sparsity"]
    assert "99999999999999999999 tokens or heads are more than 2147483647" in report["issues"][0]["what"]
    assert len(tracking.find_cells(experiment="x")) == 1


def test_a_log_of_endless_numbers_is_reported(tmp_path):
    (tmp_path / "eval.log").write_text(f"eval vtn_{'9' * 5000}_8_sum\nBinary: 1%\nOpen: 1%\nAccuracy: 50.00%\n")
    issues = []
    assert read_logs(tmp_path, "m", issues.append) == []
    assert "more than 2147483647" in issues[0].what


def test_imported_cells_say_by_what_they_were_scored(store, bundle, tmp_path):
    cell(tmp_path / "answers")
    cell(tmp_path / "answers", "vtn_64_8_sum", rows=ROWS[:1])
    imported(tmp_path / "answers", bundle)
    cells = tracking.find_cells(experiment="x", include_incomplete=True)
    assert set(cells["tags.headwise.scorer"]) == {"gqa/1"}
    assert cells["tags.headwise.labels_digest"].nunique() == 1
    key = bundle / "gqa/data/testdev_balanced_questions.json"
    key.write_text(key.read_text().replace('"answer": "box"', '"answer": "dog"'))
    cell(tmp_path / "answers", "vtn_64_8_variance")
    imported(tmp_path / "answers", bundle)
    mended = tracking.find_cells(experiment="x").set_index("strategy")["tags.headwise.labels_digest"]
    assert mended["variance"] != mended["sparsity"]


def test_scoring_again_leaves_a_contradicted_import_contradicted(store, bundle, tmp_path):
    wrong = [ROWS[0], ROWS[1] | {"text": "dog"}]
    cell(tmp_path / "answers", rows=wrong)
    printed = "eval vtn_64_8_sparsity\nBinary: 1%\nOpen: 1%\nAccuracy: 100.00%\n"
    (tmp_path / "answers/eval.log").write_text(printed)
    imported(tmp_path / "answers", bundle)
    run = tracking.find_cells(experiment="x", include_incomplete=True)["run_id"].item()

    def rescored() -> tuple[str, bool]:
        done = CliRunner().invoke(headwise, ["score", "--run", run, "--data-dir", str(bundle), "--json"])
        assert done.exit_code == 0, done.exception
        status = tracking.find_cells(run_ids=[run])["tags.headwise.status"].item()
        return status, json.loads(done.stdout)[0]["complete"]

    assert rescored() == ("contradicted", False)
    note = MlflowClient().get_run(run).data.tags["mlflow.note.content"]
    assert note == "gqa-64-8-sparsity: 50.00 over 2 questions, scored anew. Contradicted: its log says 100.0."
    shown = CliRunner().invoke(headwise, ["score", "--run", run, "--data-dir", str(bundle)])
    assert "contradicted" in shown.stdout
    key = bundle / "gqa/data/testdev_balanced_questions.json"
    key.write_text(key.read_text().replace('"answer": "box"', '"answer": "dog"'))
    os.utime(key, ns=(1, 1))
    assert rescored() == ("complete", True)  # by the mended key it scores what its log says
