"""A study from configuration to finished cell runs: evaluate, score, log.

What a user can get wrong is found before a run is opened or a weight is loaded. Answers are on disk
before they are logged, so that logging can be repeated (`headwise sync`).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from headwise import tracking
from headwise.budget import mean_tokens
from headwise.config import Cell, Study, check_cell
from headwise.data import data_folder
from headwise.efficiency import costs
from headwise.evaluate import Answerer, Task, missing_cells, plan
from headwise.home import spool_folder, work_folder
from headwise.model import PROMPT_VERSION, Checkpoint, Vlm, find_checkpoint
from headwise.provenance import provenance
from headwise.records import Scorecard, read_answers
from headwise.results import ANSWERS, CellFolder, write_cells
from headwise.score import score_records, write_verdicts
from headwise.spool import Spool


@dataclass
class Job:
    """A checked study: its checkpoint, grid and tasks. Building one loads no weights and opens no run."""

    study: Study
    checkpoint: Checkpoint
    cells: list[Cell]
    tasks: list[Task]

    @classmethod
    def of(cls, study: Study) -> Job:
        checkpoint = find_checkpoint(study.model)
        cells = study.cells(checkpoint.geometry)
        data_dir = data_folder(study.data_dir, study.benchmark)
        return cls(study, checkpoint, cells, plan(study, checkpoint, cells, data_dir))

    @cached_property
    def answerer(self) -> Answerer:
        """The loaded model, on first use: a study whose answers are all on disk never loads it."""
        vlm = Vlm(self.checkpoint, self.study.dtype, self.study.device)
        return Answerer(vlm, self.study.max_new_tokens)

    def params(self) -> dict[str, Any]:
        """What the study's run records: the configuration as it was resolved."""
        return self.study.model_dump(exclude_none=True)


def evaluate_study(job: Job, study: tracking.Study, console: Console) -> list[str]:
    """Answer, score and log every cell of the study; the run ids of the cells.

    Cells with failed questions are logged as incomplete and named on the console.
    """
    run_ids = []
    with _bar(console) as bar:
        for task in job.tasks:
            started = time.time()
            failures = _answer(job, task, bar)
            folders, scores = [], []
            with tempfile.TemporaryDirectory(dir=work_folder()) as out:
                spool = Spool(spool_folder(task.group))
                folders = write_cells(task, spool, failures, Path(out), job.checkpoint.geometry)
                row = bar.add_task(f"{task.name}: log", total=len(folders))
                for folder in folders:
                    card = _score(job, task, folder)
                    run_ids.append(_log(job, study, task, folder, card, (started, time.time())))
                    scores.append(card)
                    bar.advance(row)
                bar.remove_task(row)
            _report_failures(console, task, failures, spool.damaged)
    return run_ids


def _answer(job: Job, task: Task, bar: Progress) -> dict[int, str]:
    """Answer what is missing; failed questions with their reason. Loads the model only where it is needed."""
    spool = Spool(spool_folder(task.group))
    if not missing_cells(task, spool):
        return {}
    row = bar.add_task(f"{task.name}: {len(task.cells)} cells", total=len(task.samples))
    return job.answerer.answer(task, spool, lambda done, total: bar.update(row, completed=done, total=total))


def _score(job: Job, task: Task, folder: CellFolder) -> Scorecard:
    """Score the cell's answers and write verdicts and configuration beside them."""
    records = read_answers(folder.folder / ANSWERS)
    card, verdicts = score_records(task.name, task.data_dir, records, job.study.limit, source=str(ANSWERS))
    write_verdicts(folder.folder, verdicts)
    config = job.study.model_dump() | {"cell": _params(job, task, folder.cell)}
    (folder.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder.folder / "versions.json").write_text(json.dumps(provenance(), indent=2), encoding="utf-8")
    return card


def _log(
    job: Job, study: tracking.Study, task: Task, folder: CellFolder, card: Scorecard, between: tuple[float, float]
) -> str:
    return tracking.log_cell(
        study,
        params=_params(job, task, folder.cell),
        metrics=card.as_metrics() | _engine_metrics(job, task, folder),
        tags={"headwise.source": "evaluate", "headwise.group": task.group, "headwise.answers": task.key(folder.cell)},
        folder=folder.folder,
        dataset=_dataset(task),
        note=summary(task.name, folder.cell, card),
        seconds_range=between,
    )


def _params(job: Job, task: Task, cell: Cell) -> dict[str, Any]:
    """Everything that changes the cell's answers."""
    study = job.study
    return {
        "model": study.model,
        "model_digest": job.checkpoint.digest,
        "benchmark": task.name,
        "strategy": cell.strategy,
        "tokens": cell.tokens,
        "heads": cell.heads or None,
        "layer": cell.layer,
        "budget": cell.budget,
        "score_dtype": cell.score_dtype,
        "seed": cell.seed,
        "limit": study.limit,
        "dtype": study.dtype,
        "device": study.device,
        "max_new_tokens": study.max_new_tokens,
        "prompt": PROMPT_VERSION,
        "data_dir": study.data_dir,
        "data_digest": task.data_digest,
    }


def _engine_metrics(job: Job, task: Task, folder: CellFolder) -> dict[str, float]:
    geometry = job.checkpoint.geometry
    kept = check_cell(folder.cell, geometry)
    mean = mean_tokens(kept, layers=geometry.layers, visual=geometry.visual, layer=folder.cell.layer)
    metrics = {
        "kept_tokens": kept,
        "mean_visual_tokens": mean,
        "degenerate_rankings": folder.degenerate,
        "seconds": folder.seconds,
        **costs(job.checkpoint, folder.cell.layer, kept),
    }
    if folder.seconds > 0:
        metrics["samples_per_second"] = len(task.samples) / folder.seconds
    if folder.agreement is not None:
        metrics["float16_agreement"] = folder.agreement
    return metrics


def _dataset(task: Task) -> dict[str, Any]:
    profile = {"questions": len(task.samples), "images": len({sample.image for sample in task.samples})}
    return {
        "name": task.name,
        "digest": task.data_digest,
        "source": str(task.data_dir),
        "profile": json.dumps(profile),
    }


def summary(benchmark: str, cell: Cell, card: Scorecard) -> str:
    """One line that says what the cell is and what it scored."""
    score = "no score" if card.score is None else f"{card.score:.2f}"
    counts = {"failed": card.failed, "missing": card.missing, "unparsed": card.unparsed}
    lost = ", ".join(f"{value} {name}" for name, value in counts.items() if value)
    return f"{benchmark} {cell.name}: {score} over {card.samples} questions" + (f" ({lost})" if lost else "")


def _report_failures(console: Console, task: Task, failures: Mapping[int, str], damaged: int) -> None:
    if failures:
        first = next(iter(failures.values()))
        console.print(f"{task.name}: {len(failures)} questions failed, its cells are incomplete; first: {first}")
    if damaged:
        console.print(f"{task.name}: {damaged} damaged lines in the spool were answered again")


def _bar(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
