"""Roles and axes: methods without heads, controls of plug-ins and queries are compared like the strategies of old."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from headwise import tracking
from headwise.analysis.analyse import Analysis, analyse
from headwise.analysis.comparison import load_comparison
from headwise.analysis.roles import roles
from headwise.report.as_json import as_json
from headwise.report.publish import write_report
from headwise.report.text import markdown, print_analysis
from headwise.system.terminal import plain_console
from tests.analysis.conftest import QUESTIONS, log

METHODS = ("fastv", "pdrop", "visionzip", "my_method")
CELLS = [
    ("vanilla", 576, None, "reference", {}),
    *(("random_tokens", tokens, None, None, {}) for tokens in (192, 64)),
    *(("pool", tokens, None, "control", {"mean": tokens + 20.0}) for tokens in (192, 64)),
    *((name, tokens, heads, None, {}) for name in ("sum", "sparsity") for tokens in (192, 64) for heads in (16, 8)),
    ("sum", 64, 8, None, {"query": "text_tokens_only"}),
    *((name, tokens, None, "method", {}) for name in METHODS for tokens in (192, 64)),
    ("pdrop", 270, None, None, {"budget": "published"}),
]
VISUAL = 16


@dataclass(frozen=True)
class Mixed:
    analysis: Analysis
    folder: Path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    folder = tmp_path_factory.mktemp("mixed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.chdir(folder)
        with tracking.open_study({"strategy": "mixed"}) as study:
            for name in ("gqa", "pope"):
                for strategy, tokens, heads, role, more in CELLS:
                    log(study, folder, name, strategy, min(tokens, 576), heads, role=role, **more)
        comparison = load_comparison(study=study.run_id)
        for row in comparison.cells.itertuples():
            write_files(Path(tracking.local_file(row.artifact_uri, "")), row)
        yield Mixed(analyse(comparison), folder)


def write_files(folder: Path, row) -> None:
    """Answers, and evidence as each kind of cell has it: heads, several stages, merged rows."""
    lines = [{"question_id": str(n), "prompt": f"Q{n}?", "text": "yes"} for n in range(QUESTIONS)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rng = np.random.default_rng(len(row.configuration))
    kept = np.packbits(rng.random((QUESTIONS, VISUAL)) < 0.5, axis=1)
    heads = np.packbits(rng.random((QUESTIONS, 32)) < 0.25, axis=1) if not pd.isna(row.heads) else np.zeros((1, 4))
    content = {"heads_NH": np.resize(heads, (QUESTIONS, 4)).astype(np.uint8), "kept_NV": kept}
    if row.strategy in ("pdrop", "visionzip"):
        merged = np.full(QUESTIONS, 3 * (row.strategy == "visionzip"))
        content |= {"stage_layers": np.array([2, 8]), "stages_GNV": np.stack([kept, kept])}
        content["merged_GN"] = np.stack([merged, merged])
    np.savez_compressed(folder / "evidence.npz", head_count=32, visual=VISUAL, **content)


@pytest.fixture(scope="module")
def drawn(mixed):
    return write_report(mixed.analysis, mixed.folder, run_links={}, links={})


def test_roles_are_the_runs_own_and_by_name_where_they_say_none():
    cells = pd.DataFrame({"strategy": ["vanilla", "all_heads", "pool", "pool", "unknown"]})
    assert roles(cells).tolist() == ["reference", "control", "method", "method", "method"]
    cells["tags.headwise.role"] = [None, None, "control", None, None]
    assert roles(cells).tolist() == ["reference", "control", "control", "method", "method"]


def test_two_queries_of_one_strategy_are_two_cells(mixed):
    cells = mixed.analysis.comparison.of("gqa")
    names = cells.loc[cells["strategy"] == "sum", "configuration"].tolist()
    assert {"64/8/sum average", "64/8/sum average text_tokens_only"} <= set(names)
    assert not any("run again later" in note for note in mixed.analysis.comparison.notes)


def test_what_a_plug_in_logs_as_heads_distinguishes_its_cells(mixed, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    with tracking.open_study({"strategy": "mine"}) as study:
        for heads in (16, 8):
            log(study, tmp_path, "gqa", "my_heads", 192, heads, role="method")
    cells = load_comparison(study=study.run_id).cells
    assert cells["configuration"].tolist() == ["192/16/my_heads", "192/8/my_heads"]


def test_methods_without_heads_stand_in_every_table(mixed):
    tables = mixed.analysis.tables
    headless = mixed.analysis.score_tables["gqa"].parts()[1]
    assert [name.split()[0] for name in headless.values] == ["fastv", "my_method", "pdrop", "pdrop", "visionzip"]
    assert list(headless.controls) == ["vanilla", "random_tokens average", "pool average"]
    assert set(tables["strategies"]["strategy"]) == {"sum", "sparsity", *METHODS}
    wins = tables["wins"].set_index("strategy")
    assert wins.loc["fastv", "rows"] == wins.loc["visionzip", "rows"] == 4  # two benchmarks, two budgets
    assert "pool" not in wins.index
    retained = tables["retained"].set_index(["benchmark", "tokens"])["pool"]
    assert retained.notna().tolist() == [False, True, True] * 2  # none at 270


def test_a_method_is_recommended_and_a_control_never(mixed):
    table = mixed.analysis.recommendation
    assert table["recommended"].tolist() == ["270/pdrop published", "192/fastv average", "64/fastv average"]
    doubt = "pool among them: its choice of tokens not shown to help"
    assert table["verdict"].str.endswith(doubt).tolist() == [False, True, True]


def test_a_budget_that_gives_unlike_numbers_of_tokens_is_named(mixed):
    (note,) = [note for note in mixed.analysis.comparison.notes if note.startswith("mean visual tokens")]
    assert "at 192 tokens 212.0 (pool average) and 192.0 (7 others)" in note
    assert "270" not in note


def test_console_markdown_and_json_show_them(mixed):
    console = plain_console(width=120, record=True)
    print_analysis(mixed.analysis, console)
    assert "methods without heads" in console.export_text()
    page = markdown(mixed.analysis, {})
    assert sum(line.startswith("| tokens | fastv") for line in page.splitlines()) == 3  # gqa, pope, overall
    cells = as_json(mixed.analysis, "run")["benchmarks"]["gqa"]["cells"]
    found = {cell["strategy"]: cell["role"] for cell in cells}
    assert (found["pool"], found["my_method"], found["vanilla"]) == ("control", "method", "reference")
    json.dumps(cells)


def test_report_draws_them_and_counts_merged_rows(mixed, drawn):
    kept = drawn.tables["overlap_kept_gqa"].set_index("strategy")
    assert list(kept.columns) == ["sum", "sparsity", "fastv", "my_method", "pdrop", "visionzip"]
    assert kept.loc["fastv", "sum"] == kept.loc["sum", "fastv"] > 0
    assert list(drawn.tables["overlap_heads_gqa"].columns[1:]) == ["sum", "sparsity"]
    texts = [text.get_text() for axes in drawn.figures["tokens_gqa.png"].axes for text in axes.texts]
    assert {text.split()[0] for text in texts} == {*METHODS, "sum", "sparsity"}
    part = json.loads(drawn.html.split('id="samples-data">')[1].split("</script>")[0])[0]
    shown = part["samples"][0]
    row = next(n for n, name in enumerate(part["cells"]) if "visionzip" in name)
    assert shown["merged"][row] == 3
    assert [layer for layer, _ in shown["stages"][row]] == [2, 8]


def test_a_study_of_methods_without_heads_alone_has_figures_and_one_table(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    with tracking.open_study({"strategy": "methods"}) as study:
        for strategy, tokens in (("vanilla", 576), ("fastv", 192), ("pdrop", 192)):
            log(study, tmp_path, "gqa", strategy, tokens, None)
    analysis = analyse(load_comparison(study=study.run_id))
    (table,) = analysis.score_tables["gqa"].parts()
    assert not table.by_heads
    report = write_report(analysis, tmp_path, run_links={}, links={})
    assert {"tokens_gqa.png", "best_set_gqa.png"} <= set(report.figures)
    assert not {"heat_maps_gqa.png", "head_frequency_gqa.png"} & set(report.figures)
    assert MlflowClient().get_run(study.run_id).info.status == "FINISHED"
