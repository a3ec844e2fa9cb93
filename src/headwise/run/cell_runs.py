"""What a cell's run says about itself: parameters, metrics, files, dataset and a line of summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from headwise import tracking
from headwise.benchmarks import benchmark as benchmark_of
from headwise.benchmarks.files import coverage
from headwise.methods import METHODS
from headwise.methods.stages import before_method, check_cell, for_image, image_decides, mean_tokens
from headwise.models.checkpoint import Checkpoint
from headwise.records import Scorecard
from headwise.run.cell_files import CellFolder, Measured
from headwise.run.costs import at_mean, count_costs
from headwise.run.tasks import Task
from headwise.study.cells import Cell
from headwise.study.names import role_of
from headwise.system.provenance import provenance

if TYPE_CHECKING:
    from headwise.run.evaluate import Job


def write_provenance(job: Job, task: Task, folder: CellFolder) -> None:
    """Write the resolved configuration (`config.yaml`) and versions (`versions.json`) beside the answers."""
    config = job.study.model_dump() | {"cell": cell_params(job, task, folder.cell)}
    (folder.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder.folder / "versions.json").write_text(json.dumps(provenance(), indent=2), encoding="utf-8")


def log_cell_folder(
    job: Job,
    study: tracking.StudyRun,
    task: Task,
    folder: CellFolder,
    card: Scorecard,
    key: Mapping[str, str],
    between: tuple[float, float],
) -> str:
    """Log a scored cell as a run of its own; its run id. `key` says what it was scored by (`score.key_tags`)."""
    tags = {"headwise.source": "evaluate", "headwise.group": task.group, "headwise.answers": task.key(folder.cell)}
    tags |= {**answered_by(job), **key, "headwise.role": role(folder.cell.strategy)}
    if folder.measured:
        tags["headwise.measured_on"] = folder.measured.device
    return tracking.log_cell(
        study,
        params=cell_params(job, task, folder.cell),
        metrics=card.as_metrics() | _engine_metrics(job, task, folder),
        tags=tags,
        folder=folder.folder,
        dataset=_dataset(task),
        note=summary(task.name, folder.cell, card),
        seconds_range=between,
    )


def role(strategy: str) -> str:
    """What the cell is in a comparison: `reference` (unpruned), `control` or `method`, as its method says."""
    return METHODS[strategy].role if strategy in METHODS else role_of(strategy)


def answered_by(job: Job) -> dict[str, str]:
    """What answered, where the study may have asked for `auto`; a model on a GPU in `auto` is as its files are."""
    device = job.placement.kind(job.study)
    dtype = "float32" if (job.study.dtype, device) == ("auto", "cpu") else job.study.dtype
    return {"headwise.device": device, "headwise.dtype": dtype}


def cell_params(job: Job, task: Task, cell: Cell) -> dict[str, Any]:
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
        **({} if cell.query == "last_token" else {"query": cell.query}),
        **({"options": _options(task, cell)} if cell.options else {}),
        **({"clip": cell.clip} if cell.clip else {}),
        "limit": study.limit,
        "dtype": study.dtype,
        "device": study.device,
        "max_new_tokens": study.max_new_tokens,
        **({"compile": True} if study.compile else {}),
        "prompt": job.checkpoint.prompt_version,
        **job.checkpoint.image_options,
        **({"box_space": bench.box_space} if (bench := benchmark_of(task.name)).boxes else {}),
        "data_dir": study.data_dir,
        "data_digest": task.data_digest,
    }


def _options(task: Task, cell: Cell) -> str:
    """A method's options as one parameter; a CLIP is named by its content, which is what changes an answer."""
    clip = [f"clip@{task.clips.get(cell.clip, '')[:8]}"] if cell.clip else []
    return ",".join([*([cell.options_text] if cell.options_text else []), *clip])


def _engine_metrics(job: Job, task: Task, folder: CellFolder) -> dict[str, float]:
    metrics: dict[str, float] = {"degenerate_rankings": folder.degenerate, "seconds": folder.seconds}
    checkpoint = at_mean(job.checkpoint, folder.visual)
    if checkpoint.geometry.visual is not None:
        metrics |= _budget_metrics(checkpoint, folder, ragged=job.checkpoint.geometry.visual is None)
    if folder.seconds > 0:
        metrics["samples_per_second"] = len(task.samples) / folder.seconds
    if folder.measured:
        metrics |= measured_metrics(folder.measured)
    if folder.agreement is not None:
        metrics["float16_agreement"] = folder.agreement
    return metrics


def _budget_metrics(checkpoint: Checkpoint, folder: CellFolder, *, ragged: bool) -> dict[str, float]:
    """What T came to, and its costs. Counted over the questions where each image decides, or images differ in V.

    `checkpoint`: as it sees an image of mean size; `ragged`: whether that is a mean.
    """
    geometry = checkpoint.geometry
    cell = for_image(folder.cell, geometry.visual) if ragged else folder.cell
    kept: float | None = check_cell(cell, geometry)
    mean, counted = mean_tokens(cell, geometry), None
    counted_rows = image_decides(cell, geometry) or (ragged and before_method(cell.strategy) is not None)
    if ragged or counted_rows:
        kept = folder.rows if folder.rows is not None else kept
    if counted_rows and folder.rows is not None:
        mean = counted = folder.rows
    assert kept is not None
    metrics = {"kept_tokens": kept, "mean_visual_tokens": mean, "mean_tokens": mean}
    return metrics | count_costs(checkpoint, cell, counted)


def measured_metrics(measured: Measured) -> dict[str, float]:
    """Costs of one question alone, and how many questions they are medians of."""
    return {
        "prefill_seconds": measured.prefill_seconds,
        "token_seconds": measured.token_seconds,
        "peak_bytes": measured.peak_bytes,
        "measured_questions": measured.questions,
    }


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
    partial = coverage(benchmark_of(benchmark).categories, card.metrics)
    of = f" of {partial}" if partial else ""
    return f"{benchmark} {cell.name}: {score} over {card.samples} questions{of}" + (f" ({lost})" if lost else "")
