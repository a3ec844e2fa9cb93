"""One study of many cells × many questions: planned, spooled, scored and compared, with made-up answers.

    python bench/study_scale.py [--cells 300] [--fraction 0.1] [--keep FOLDER] [--json]

A stand-in bundle with this fraction of the official 28,862 questions, the embedded checkpoint's shape, and that many
cells. Planning, the spool, cell files, the scorer, verdict files and `headwise compare` are the project's own; only the
answers are made up, and the runs of the store are copies of one (compare_scale.py), since logging is MLflow's time.
Prints seconds, processor seconds and the peak memory of each step, and the bytes on disk.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from compare_scale import make_store, timed_compare
from full_size import write_bundle
from rich.console import Console

from headwise.records import read_answers
from headwise.run.answer_tasks import answer_tasks
from headwise.run.answering import bits
from headwise.run.cell_files import ANSWERS, write_cells
from headwise.run.evaluate import Job
from headwise.run.executors import Answered, Work
from headwise.run.progress import StudyBar
from headwise.run.settings import load_settings
from headwise.run.spool import Spool
from headwise.scoring.score import score_records, write_verdicts
from headwise.study.names import STRATEGIES
from headwise.system.cache import spool_folder

HEADS = range(4, 32, 3)
WORDS = ("yes", "no", "circle", "star", "heart", "moon", "fish", "house")
KINDS = 64  # different answers that are drawn from


class MadeUp:
    """An executor whose answers are drawn from a few kinds, each as long as real ones are."""

    workers = 1

    def __init__(self, heads: int, visual: int) -> None:
        self.random = np.random.default_rng(0)
        self.kinds = [self._kind(number, heads, visual) for number in range(KINDS)]

    def _kind(self, number: int, heads: int, visual: int) -> dict[str, Any]:
        chosen, kept = (sorted(self.random.choice(size, size // 4, replace=False)) for size in (heads, visual))
        sets = {"heads": bits(chosen, heads), "kept": bits(kept, visual)}
        measured = {"seconds": 0.012345, "degenerate": 0, "agreement": 0.75, **sets, "margin": 12.3456}
        return {"text": WORDS[number % len(WORDS)], **measured}

    def answered(self, work: Iterable[Work]) -> Iterator[Answered]:
        keys: dict[str, list[str]] = {}
        for each in work:
            task = each.task
            own = keys.setdefault(task.name, [task.key(cell) for cell in task.cells])
            lines = []
            for place in each.window.places:
                drawn = self.random.integers(KINDS, size=len(own)).tolist()
                answers = {key: self.kinds[kind] for key, kind in zip(own, drawn, strict=True)}
                lines.append({"question": task.questions[place], "answers": answers})
            yield Answered(each, lines)


class Steps:
    """Seconds and peak memory of each step of this process."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    def measure(self, name: str, call: Callable[[], Any]) -> Any:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before, wall, busy = _memory("VmRSS"), time.perf_counter(), time.process_time()
        result = call()
        seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - busy}
        self.found[name] = seconds | {
            "peak_mib": _memory("VmHWM") / 2**20,
            "grown_mib": (_memory("VmHWM") - before) / 2**20,
        }
        print(name, {key: round(value, 1) for key, value in self.found[name].items()}, file=sys.stderr, flush=True)
        return result


def _memory(name: str) -> int:
    """VmRSS (now) or VmHWM (the peak) of this process in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def plan(cells: int) -> Job:
    """A job of `cells` cells, the unpruned model first."""
    tokens = [64 + number for number in range(-(-cells // (len(STRATEGIES) * len(HEADS))))]
    given = {"model": "embedded", "data_dir": "eval", "benchmark": "textvqa,mme,gqa,pope", "controls": "vanilla"}
    given |= {"strategy": "all", "tokens": ",".join(map(str, tokens)), "heads": ",".join(map(str, HEADS))}
    job = Job.of(load_settings(None, given | {"budget": "kept", "device": "cpu"}))
    few = job.cells[:cells]
    return replace(job, cells=few, tasks=[replace(task, cells=few) for task in job.tasks])


def spool(job: Job) -> None:
    """Answer every window and append it to the spool."""
    geometry = job.checkpoint.geometry
    executor = MadeUp(geometry.heads, geometry.visual)
    with StudyBar(Console(stderr=True, quiet=True), job.questions) as bar:
        for _ in answer_tasks(job.tasks, "cpu", executor, bar):
            pass


def score(job: Job) -> dict[tuple[str, str], tuple[Path, float]]:
    """Cell files and verdicts of every cell, as a study does before it logs; folder and score by benchmark and cell."""
    found = {}
    for task in job.tasks:
        out = Path("scored").resolve()
        for each in write_cells(task, Spool(spool_folder(task.group)), {}, out, job.checkpoint.geometry):
            records = read_answers(each.folder / ANSWERS)
            card, verdicts = score_records(task.name, task.data_dir, records, source=ANSWERS)
            write_verdicts(each.folder, verdicts)
            found[task.name, each.cell.name] = each.folder, card.score
            for file in each.folder.iterdir():  # what compare does not read would fill the disk
                if file.name != "verdicts.parquet":
                    file.unlink()
    return found


def store(job: Job, scored: dict[tuple[str, str], tuple[Path, float]]) -> str:
    """A tracking store of these cells; the study's run id."""

    def write(cell: dict[str, object], folder: Path) -> float:
        made, value = scored[str(cell["benchmark"]), names[cell["strategy"], cell["tokens"], cell["heads"]]]
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, folder)
        return value

    names = {(cell.strategy, cell.tokens, cell.heads): cell.name for cell in job.cells}
    rows = [
        {"benchmark": task.name, "strategy": cell.strategy, "tokens": cell.tokens, "heads": cell.heads}
        for task in job.tasks
        for cell in task.cells
    ]
    return make_store(rows, write)


def measured(cells: int, fraction: float) -> dict[str, object]:
    steps = Steps()
    write_bundle(Path("eval"), fraction)
    job = steps.measure("plan", lambda: plan(cells))
    steps.measure("spool", lambda: spool(job))
    spooled = sum(path.stat().st_size for path in Path(".headwise/spool").rglob("*.spool"))
    scored = steps.measure("score", lambda: score(job))
    study = steps.measure("store (copied runs)", lambda: store(job, scored))
    shutil.rmtree(".headwise")
    found = timed_compare(study)
    peak = found.pop("peak_bytes") / 2**20
    steps.found["compare"] = found | {"peak_mib": peak}
    return {"cells": len(job.cells), "questions": job.questions, "spool_bytes": spooled, "steps": steps.found}


def as_text(found: dict[str, Any]) -> str:
    head = f"{found['cells']} cells x {found['questions']} questions, spool of {found['spool_bytes'] / 2**30:.2f} GiB"
    lines = [
        f"{name:22}{step['seconds']:9.1f} s{step['cpu_seconds']:9.1f} cpu s{step['peak_mib']:9.0f} MiB"
        for name, step in found["steps"].items()
    ]
    return "\n".join([head, *lines])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--cells", type=int, default=300)
    options.add_argument("--fraction", type=float, default=0.1, help="of the official questions")
    options.add_argument("--keep", type=Path, help="folder in which to create and keep everything")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    os.environ.pop("HEADWISE_HOME", None)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(given.keep or folder)
        found = measured(given.cells, given.fraction)
    print(json.dumps(found) if given.json else as_text(found))


if __name__ == "__main__":
    main()
