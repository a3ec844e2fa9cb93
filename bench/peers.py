"""headwise beside its peers, in one run: the embedded checkpoint on the embedded POPE and GQA, one machine.

    python bench/peers.py [--limit 60] [--lmms /path/to/venv/bin/python] [--json]

transformers' `generate` at batch 1, unpruned and under FastV's rule (the rows leave inside `generate`, by hooks);
lmms-eval's `llava_hf`, unpruned, since it cannot prune, by the interpreter of an environment of its own
(bench/peers-requirements.txt); headwise with one cell, unpruned and under FastV's rule, and with the 63 of the default
grid, to which both are added. Loading and a first question are not counted; images are prepared anew in every row. A
peer that cannot be run is named with the reason. Equal answers are counted against transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import describe
from peer_transformers import LAYER, TOKENS, Transformers

from headwise.embedded import MODEL_DIR
from headwise.records import Sample
from headwise.run.answering import open_windows
from headwise.run.evaluate import Job
from headwise.run.executors import Work
from headwise.run.settings import StudySettings, load_settings
from headwise.run.tasks import Task
from headwise.study.cells import Cell

ROOT = Path(__file__).parents[1]
BENCHMARKS = ("pope", "gqa")
VANILLA = Cell(strategy="vanilla", tokens=576)
FASTV = Cell(strategy="fastv", tokens=TOKENS, layer=LAYER, budget="kept")


def timed(call: Callable[[], object]) -> tuple[object, dict[str, float]]:
    wall, busy = time.perf_counter(), time.process_time()
    result = call()
    return result, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - busy}


def transformers_row(model: Transformers, asked: Sequence[tuple[Sample, Path]]) -> tuple[list[str], dict[str, float]]:
    model.answer(asked[0][0].prompt, asked[0][1])
    return timed(lambda: [model.answer(sample.prompt, image).strip() for sample, image in asked])


def headwise_row(job: Job, cells: Sequence[Cell]) -> tuple[list[list[str]], dict[str, float]]:
    """Every question under these cells, through the windows, workers and records of a study; [cells][questions]."""
    tasks = [replace(task, cells=list(cells)) for task in job.tasks]
    work = [Work(task, window) for task in tasks for window in windows(task)]
    with job.executor(lambda line: print(line, file=sys.stderr)) as executor:
        list(executor.answered(work[:1]))
        lines, spent = timed(lambda: [line for done in executor.answered(work) for line in done.lines])
    said = {line["question"]: line["answers"] for line in lines}
    keys = [(task, task.key(cell)) for cell in cells for task in tasks]
    texts = [[said[q][key]["text"].strip() for q in task.questions] for task, key in keys]
    return [sum(texts[n : n + len(tasks)], []) for n in range(0, len(texts), len(tasks))], spent


def windows(task: Task):
    return open_windows(task, np.zeros((len(task.samples), len(task.cells)), dtype=bool), "cpu")


def lmms_row(python: str | None, asked: Sequence[tuple[Sample, Path]]) -> tuple[list[str], dict[str, float]] | str:
    """lmms-eval's answers and seconds, or why there are none."""
    if python is None:
        return "no interpreter given (--lmms; bench/peers-requirements.txt says what it needs)"
    with tempfile.TemporaryDirectory() as folder:
        for name in BENCHMARKS:
            rows = [
                {"question": sample.prompt, "answer": "", "image": str(image)}
                for sample, image in asked
                if sample.benchmark == name
            ]
            Path(folder, f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        out = Path(folder, "out.json")
        command = [python, str(ROOT / "bench/peers/lmms.py"), str(MODEL_DIR), str(out)]
        quiet = {"HF_HUB_OFFLINE": "1", "HF_HOME": folder, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""}
        try:
            done = subprocess.run(
                command, cwd=folder, env=os.environ | quiet, capture_output=True, text=True, check=False
            )
        except OSError as error:
            return f"{python}: {error.strerror}"
        if done.returncode or not out.exists():
            return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        found = json.loads(out.read_text())
    said = [text.strip() for name in BENCHMARKS for text in found["answers"][f"embedded_{name}"]]
    return said, {name: found[name] for name in ("seconds", "cpu_seconds")}


def row(peer: str, cells: int, questions: int, spent: dict[str, float], equal: Sequence[int]) -> dict[str, object]:
    per_second = questions / spent["seconds"]
    return {
        "peer": peer,
        "cells": cells,
        "questions per second": per_second,
        "questions x cells per second": per_second * cells,
        **spent,
        "equal": sum(equal),
        "compared": questions * len(equal),
    }


def equal(said: Sequence[str], expected: Sequence[str]) -> int:
    return sum(a == b for a, b in zip(said, expected, strict=True))


def study(limit: int) -> StudySettings:
    given = {"benchmark": ",".join(BENCHMARKS), "limit": limit, "controls": "none", "device": "cpu"}
    return load_settings(str(ROOT / "configs/default.yaml"), given)


def measured(limit: int, lmms: str | None, grid: int | None) -> dict[str, object]:
    job = Job.of(study(limit))
    asked = [(s, task.benchmark.image_path(task.data_dir, s)) for task in job.tasks for s in task.samples]
    count, model = len(asked), Transformers()
    plain, spent = transformers_row(model, asked)
    rows = [row("transformers generate, unpruned", 1, count, spent, [])]
    with model.fastv():
        pruned, spent = transformers_row(model, asked)
    rows.append(row("transformers generate, FastV", 1, count, spent, []))
    absent = {}
    found = lmms_row(lmms, asked)
    if isinstance(found, str):
        absent["lmms-eval llava_hf, unpruned"] = found
    else:
        rows.append(row("lmms-eval llava_hf, unpruned", 1, count, found[1], [equal(found[0], plain)]))
    for name, cell, expected in (("unpruned", VANILLA, plain), ("FastV", FASTV, pruned)):
        (said,), spent = headwise_row(job, [cell])
        rows.append(row(f"headwise, {name}", 1, count, spent, [equal(said, expected)]))
    cells = [VANILLA, FASTV, *job.cells[:grid]]
    texts, spent = headwise_row(job, cells)
    same = [equal(texts[0], plain), equal(texts[1], pruned)]
    rows.append(row(f"headwise, grid of {len(cells) - 2}, unpruned, FastV", len(cells), count, spent, same))
    return {"questions": count, "rows": rows, "not run": absent, "machine": describe(torch.device("cpu"))}


def as_text(found: dict) -> str:
    lines = [f"{'':42}{'cells':>6}{'questions/s':>13}{'x cells/s':>11}{'cpu s':>8}  equal answers"]
    for each in found["rows"]:
        same = f"{each['equal']} of {each['compared']}" if each["compared"] else "(compared with)"
        rates = f"{each['questions per second']:13.2f}{each['questions x cells per second']:11.2f}"
        lines.append(f"{each['peer']:42}{each['cells']:6}{rates}{each['cpu_seconds']:8.1f}  {same}")
    return "\n".join([*lines, *(f"{name}: not run: {why}" for name, why in found["not run"].items())])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--limit", type=int, default=60, help="questions per benchmark")
    options.add_argument("--lmms", metavar="PYTHON", help="interpreter of an environment with lmms-eval")
    options.add_argument("--grid", type=int, help="only the first cells of the default grid")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    found = measured(given.limit, given.lmms, given.grid)
    print(json.dumps(found) if given.json else as_text(found))


if __name__ == "__main__":
    main()
