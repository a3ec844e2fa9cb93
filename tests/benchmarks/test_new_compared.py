"""The new benchmarks through scoring, logging, comparison and report: golden answers beside worse ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from headwise import tracking
from headwise.benchmarks import benchmark, default_names
from headwise.cli import headwise
from headwise.records import Answer
from headwise.scoring.score import read_answers, score_records, write_verdicts

GOLDEN = Path(__file__).resolve().parents[1] / "golden/benchmarks"
NAMES = [name for name in default_names() if (GOLDEN / name).is_dir()]


def cell(study, folder: Path, name: str, strategy: str, said: list[Answer]) -> float:
    """Score answers and log them as a cell; its score."""
    bundle = GOLDEN / name / "bundle"
    card, verdicts = score_records(name, bundle, said)
    files = folder / name / strategy
    write_verdicts(files, verdicts)
    (files / "answers.jsonl").write_text("".join(json.dumps(vars(answer)) + "\n" for answer in said))
    params = {"model": "m", "benchmark": name, "strategy": strategy, "tokens": 64, "heads": 8, "data_dir": str(bundle)}
    tracking.log_cell(
        study,
        params=params | {"layer": 2, "budget": "average", "score_dtype": "float64", "seed": 0},
        metrics=card.as_metrics() | {"kept_tokens": 64},
        tags={},
        folder=files,
        dataset={"name": name, "digest": "d", "source": "golden"},
        note="golden",
    )
    return float(card.score or 0)


@pytest.fixture
def logged(store, monkeypatch):
    """A study of every new benchmark: the golden answers as vanilla, and a cell that says nothing to every third.

    A third cell has only two of them.
    """
    monkeypatch.setenv("HEADWISE_CACHE", str(store / "cache"))
    scores = {}
    with tracking.open_study({"strategy": ["sum"]}) as study:
        for name in NAMES:
            golden = [answer for answer in read_answers(GOLDEN / name / "answers.jsonl") if isinstance(answer, Answer)]
            worse = [Answer(**vars(a) | {"text": a.text if n % 3 else ""}) for n, a in enumerate(golden)]
            lacking = {"variance": worse[:1] + golden[1:]} if name in ("seed", "vizwiz") else {}
            for strategy, said in {"vanilla": golden, "sum": worse, **lacking}.items():
                scores[name, strategy] = cell(study, store / "files", name, strategy, said)
    return scores


def test_compare_finds_the_scorers_scores_and_the_report_shows_every_benchmark(logged, store):
    result = CliRunner().invoke(
        headwise, ["compare", "--include-incomplete", "--report", "--json"], catch_exceptions=False
    )
    found = json.loads(result.stdout)
    assert list(found["benchmarks"]) == NAMES
    for name in NAMES:
        cells = {row["strategy"]: row for row in found["benchmarks"][name]["cells"]}
        for strategy in ("vanilla", "sum"):
            assert cells[strategy]["score"] == pytest.approx(logged[name, strategy], abs=1e-4), name
            assert cells[strategy]["low"] <= cells[strategy]["score"] <= cells[strategy]["high"]
        assert found["benchmarks"][name]["unit"] == benchmark(name).unit
    (mean,) = [row for row in found["overall"]["cells"] if row["strategy"] == "sum"]
    assert list(mean["benchmarks"]) == NAMES
    assert mean["score"] == pytest.approx(sum(mean["benchmarks"].values()) / len(NAMES))
    assert not [row for row in found["overall"]["cells"] if row["strategy"] == "variance"]
    (page,) = store.rglob("report.html")
    table = page.read_text(encoding="utf-8").split("<caption>Percent of vanilla by benchmark</caption>")[1]
    rows = re.findall(r"<tr>.*?</tr>", table.split("</table>")[0], re.S)
    assert all(f"{name}, %</button>" in rows[0] for name in NAMES)
    (lacking,) = [row for row in rows if "variance" in row]
    percents = re.findall(r'data-value="([^"]*)"', lacking)[4:]
    known = {name: value for name, value in zip([*NAMES, "mean"], percents, strict=True) if value}
    assert list(known) == ["seed", "vizwiz"]
    assert float(known["seed"]) == pytest.approx(100 * logged["seed", "variance"] / logged["seed", "vanilla"])
