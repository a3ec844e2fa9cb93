"""The page of all methods on the embedded study is made of what a comparison found, and the committed one is whole."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml
from click.testing import CliRunner

from headwise.cli import headwise

ROOT = Path(__file__).resolve().parents[2]
STUDY = "--config methods --strategy fastv,visionzip,mmtok --controls vanilla,pool --tokens 225,195 --limit 4"
NUMBER = re.compile(r"\d+\.\d \(|\d{3,4} \(")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
        spec = importlib.util.spec_from_file_location("methods_table", ROOT / "tools/methods_table.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@pytest.fixture(scope="module")
def found(tmp_path_factory, empty_store) -> dict:
    """What `headwise compare --json` says of two methods and a control on two benchmarks."""
    folder = tmp_path_factory.mktemp("found")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("HEADWISE_HOME", str(folder / "home"))
        assert CliRunner().invoke(headwise, ["evaluate", *STUDY.split(), "--benchmark", "gqa,pope"]).exit_code == 0
        return json.loads(CliRunner().invoke(headwise, ["compare", "--json", "--no-report"]).stdout)


def rows_of(page: str, heading: str) -> list[list[str]]:
    part = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[field.strip() for field in line.strip("|").split("|")] for line in lines]


def test_every_cell_has_one_row_under_its_budget_best_first(tool, found):
    page = tool.page(found, "*source*")
    assert [row[0] for row in rows_of(page, "Unpruned")[2:]] == ["`vanilla`"]
    for tokens in (225, 195):
        header, _, *rows = rows_of(page, f"{tokens} tokens")
        assert header == ["method", "mean, %", "", "GQA", "POPE", "tokens seen", "FLOPs", "KV bytes", "front"]
        assert {row[0] for row in rows} == {"`fastv`", "`visionzip`", "`mmtok`", "*pool*"}
        means = [float(row[1].split()[0]) for row in rows]
        assert means == sorted(means, reverse=True)
        assert {row[5] for row in rows} == {f"{tokens}.0"}
    assert page.endswith("*source*\n")


def test_scores_intervals_and_best_sets_are_those_of_the_comparison(tool, found):
    page = tool.page(found, "")
    for cell in found["overall"]["cells"]:
        if cell["tokens"] != 195:
            continue
        row = next(row for row in rows_of(page, "195 tokens") if cell["strategy"] in row[0])
        assert row[1].startswith(f"{cell['score']:.1f} ({cell['low']:.1f} to")
        assert (row[2] == "✓") == cell["best_at_budget"]
    best = [cell["strategy"] for cell in found["overall"]["cells"] if cell["tokens"] == 225 and cell["best_at_budget"]]
    [line] = [line for line in page.split("## 225")[1].split("## 195")[0].splitlines() if line.startswith("Best set")]
    assert set(re.findall(r"`(\w+)`", line)) == set(best)


def test_seconds_are_shown_where_they_are_asked_for(tool, found):
    assert rows_of(tool.page(found, "", seconds=True), "225 tokens")[0][8:10] == ["prefill", "each token"]


def test_one_benchmark_has_no_mean_and_no_page(tool, found):
    with pytest.raises(click.ClickException, match="no mean over benchmarks"):
        tool.page(found | {"overall": None}, "")


def test_methods_that_read_the_question_stand_beside_those_that_do_not(tool, found):
    """Both are methods before the language model; the last column is read off the best sets, benchmark by benchmark."""
    _, _, *rows = rows_of(tool.page(found, ""), "Does reading the question help?")
    assert [row[:2] for row in rows] == [[n, b] for n in ("225", "195") for b in ("GQA", "POPE", "mean, %")]
    parts = {"GQA": found["benchmarks"]["gqa"], "POPE": found["benchmarks"]["pope"], "mean, %": found["overall"]}
    for tokens, title, reads, blind, tied in rows:
        cells = {cell["strategy"]: cell for cell in parts[title]["cells"] if cell["tokens"] == int(tokens)}
        assert reads.startswith(f"`mmtok` {cells['mmtok']['score']:.1f}")
        assert blind.startswith(f"`visionzip` {cells['visionzip']['score']:.1f}")
        assert ("reads it" in tied) == cells["mmtok"]["best_at_budget"]
        assert ("does not" in tied) == cells["visionzip"]["best_at_budget"]


def test_one_kind_of_method_alone_is_not_compared(tool, found):
    blind = {"benchmarks": {name: _without(part, "mmtok") for name, part in found["benchmarks"].items()}}
    page = tool.page(found | blind | {"overall": _without(found["overall"], "mmtok")}, "")
    assert "Does reading the question help?" not in page


def _without(part: dict, strategy: str) -> dict:
    return part | {"cells": [cell for cell in part["cells"] if cell["strategy"] != strategy]}


@pytest.mark.parametrize("name", ["methods", "methods-few-tokens"])
def test_the_committed_page_has_every_cell_of_its_study_and_says_where_it_is_from(tool, name):
    page = (ROOT / "docs" / tool.PAGES[name]).read_text(encoding="utf-8")
    assert page.startswith(f"{tool.TITLES[name]}\n{tool.READING}")
    study = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text(encoding="utf-8"))
    expected = {*study["strategy"], *study["controls"]} - {"vanilla"}
    for tokens in study["tokens"]:
        rows = rows_of(page, f"{tokens} tokens")[2:]
        assert {row[0].strip("`*") for row in rows} == expected
        assert all(NUMBER.match(row[1]) for row in rows)
    limit = study["limit"]
    assert re.search(rf"^\*{limit} questions of each benchmark; commit [0-9a-f]+; .+; `headwise evaluate", page, re.M)
