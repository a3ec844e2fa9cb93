"""How long `headwise compare` takes over thousands of cell runs in an sqlite store.

    python bench/compare_scale.py --cells 3000 --questions 200 --json

The store is synthetic: one cell run is logged through headwise, and its database rows are copied under new
ids, with the scores of simulated answers. No model is measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headwise import tracking
from headwise.benchmarks import benchmark, named_sets
from headwise.stats import Outcomes, headline
from headwise.study.names import STRATEGIES

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = named_sets()["published"]
KEYED = ("params", "metrics", "latest_metrics", "tags")
# Puts a cell's verdicts into a folder; their score.
Write = Callable[[dict[str, object], Path], float]
CATEGORIES = {"pope": ("random", "popular", "adversarial"), "mme": ("existence", "count", "color", "OCR")}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=3000)
    options.add_argument("--questions", type=int, default=200, help="per benchmark")
    options.add_argument("--keep", type=Path, help="folder in which to create and keep the store")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(given.keep or folder)
        began = time.perf_counter()
        study = make_store(grid(given.cells), made_up(given.questions))
        print(f"store of {given.cells} cells: {time.perf_counter() - began:.1f} s", file=sys.stderr)
        figures = {"cells": given.cells, "questions": given.questions} | timed_compare(study)
    print(json.dumps(figures) if given.json else LINE.format(**figures, mebibytes=figures["peak_bytes"] / 2**20))


LINE = "compare: {seconds:.1f} s, {cpu_seconds:.1f} s of processor time, peak {mebibytes:.0f} MiB"


def make_store(cells: list[dict[str, object]], write: Write) -> str:
    """An mlflow.db and artifacts in the working folder with one study of these cells; its run id.

    `write` puts a cell's verdicts into a folder and gives their score.
    """
    with tracking.open_study({"strategy": "all"}) as study:
        cell = {"benchmark": "x", "strategy": "x", "tokens": 1, "heads": 1}
        template = tracking.log_cell(
            study,
            params=cell | {"model": "made-up", "layer": 2, "seed": 0},
            metrics={"score": 0.0, "samples": 1, "failed": 0, "missing": 0, "kept_tokens": 1, "seconds": 1.0},
            tags={},
            folder=Path(tempfile.mkdtemp()),
            dataset={"name": "made-up", "digest": "0", "source": "bench"},
            note="made up",
        )
    copy_runs(template, cells, write)
    return study.run_id


def grid(cells: int) -> list[dict[str, object]]:
    """The first `cells` of a large ablation: benchmarks × strategies × tokens × heads."""
    tokens, heads = range(200, 60, -10), range(32, 1, -2)
    names = [{"benchmark": name, "strategy": "vanilla", "tokens": 576, "heads": 32} for name in BENCHMARKS]
    for count, number, strategy, name in itertools.product(tokens, heads, STRATEGIES, BENCHMARKS):
        names.append({"benchmark": name, "strategy": strategy, "tokens": count, "heads": number})
    return names[:cells]


def made_up(questions: int) -> Write:
    """Verdicts of cells that find the same questions hard."""
    random = np.random.default_rng(0)
    difficulty = random.random(questions)

    def write(cell: dict[str, object], folder: Path) -> float:
        right = difficulty < 0.5 + random.normal(0, 0.05) + random.normal(0, 0.1, questions)
        name = str(cell["benchmark"])
        write_verdicts(folder, name, right)
        return score_of(name, right)

    return write


def copy_runs(template: str, cells: list[dict[str, object]], write: Write) -> None:
    """Copy the template's rows once per cell, then mark the template as FAILED."""
    with sqlite3.connect("mlflow.db") as database:
        rows = {table: _rows(database, table, template) for table in ("runs", *KEYED)}
        where = Path(rows["runs"][0]["artifact_uri"])
        for cell in cells:
            run_id = uuid.uuid4().hex
            folder = where.parents[1] / run_id / "artifacts"
            changed = cell | {"score": write(cell, folder), "run_uuid": run_id, "artifact_uri": str(folder)}
            for table, found in rows.items():
                _insert(database, table, [_changed(table, row, changed) for row in found])
        database.execute("update runs set status = 'FAILED' where run_uuid = ?", [template])


def _rows(database: sqlite3.Connection, table: str, run_id: str) -> list[dict[str, object]]:
    found = database.execute(f"select * from {table} where run_uuid = ?", [run_id])
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def _changed(table: str, row: dict[str, object], new: dict[str, object]) -> dict[str, object]:
    row = row | {"run_uuid": new["run_uuid"]}
    if table == "runs":
        return row | {"artifact_uri": new["artifact_uri"]}
    known = row["key"] in new
    return row | {"value": new[str(row["key"])] if table != "params" else str(new[str(row["key"])])} if known else row


def _insert(database: sqlite3.Connection, table: str, rows: list[dict[str, object]]) -> None:
    names = list(rows[0])
    places = ", ".join("?" * len(names))
    sql = f"insert into {table} ({', '.join(names)}) values ({places})"
    database.executemany(sql, [[row[name] for name in names] for row in rows])


def score_of(name: str, right: np.ndarray) -> float:
    """The score of the verdicts of `write_verdicts`; compare rejects runs whose logged score differs."""
    number, categories = np.arange(len(right)), len(CATEGORIES.get(name, ("",)))
    aggregate = benchmark(name).aggregate
    questions = {
        "question_id": number.astype(str),
        "image": (number // 2).astype(str),
        "category": (number // 2 % categories).astype(str),
        "truth": np.where(number % 2, "no", "yes"),
    }
    outcomes = Outcomes.of(aggregate, right[None].astype(np.float32), questions)
    return float(headline(outcomes).observed()[0])


def write_verdicts(folder: Path, benchmark: str, right: np.ndarray) -> None:
    """A verdicts.parquet as `score` writes it: two questions per image, truths alternately yes and no."""
    folder.mkdir(parents=True)
    number = np.arange(len(right))
    truth = np.where(number % 2, "no", "yes")
    categories = np.array(CATEGORIES.get(benchmark, ("",)))
    text = {
        "question_id": number.astype(str),
        "image": (number // 2).astype(str),
        "category": categories[number // 2 % len(categories)],
        "status": np.full(len(right), "ok"),
        "prediction": np.where(right, truth, np.where(number % 2, "yes", "no")),
        "truth": truth,
    }
    columns = {name: pa.array(values, pa.string()).dictionary_encode() for name, values in text.items()}
    columns["correct"] = pa.array(right.astype(np.float32))
    pq.write_table(pa.table(columns), folder / "verdicts.parquet")


# The command line, then its peak memory: what the system says of a child counts the parent that it was forked from.
WITH_PEAK = """
import sys
from headwise.cli import main
try:
    main()
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), end="", file=sys.stderr)
"""


def timed_compare(study: str) -> dict[str, float]:
    """The command as a user types it, start-up included: wall and processor seconds, and its peak memory in bytes."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", WITH_PEAK, "compare", "--study", study, "--json"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stderr, end="", file=sys.stderr)
    if done.returncode:
        sys.exit(f"compare ended with exit code {done.returncode}")
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": int(done.stderr.split()[-2]) * 1024}


if __name__ == "__main__":
    main()
