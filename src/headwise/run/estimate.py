"""What a study will cost, before it is run: work counted from shapes, time from a few questions answered."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from headwise.engine import ImageRows
from headwise.methods.stages import before_method, for_image, seen, stages_of
from headwise.models.checkpoint import Checkpoint, Vlm
from headwise.run.choosing import before_flops
from headwise.run.costs import at_mean, choosing_flops, layer_flops
from headwise.run.evaluate import Job
from headwise.run.layers import layer_lines
from headwise.run.reducing import Pixels
from headwise.run.tasks import Task
from headwise.study.cells import Cell
from headwise.study.names import needs_tokens
from headwise.system.reading import read_image

PROBE_QUESTIONS = 4
SPOOL_BYTES = 180
# Bytes of one answer in the spool and in a cell's artifacts, beside the bit sets of heads and tokens.
ARTIFACT_BYTES = 260


@dataclass(frozen=True, kw_only=True)
class Work:
    """FLOPs of the decoder: what questions and cells share, what their branches add, and the original way's total."""

    shared: float
    branches: float
    original: float

    @property
    def total(self) -> float:
        """FLOPs of the study: shared work and branches."""
        return self.shared + self.branches


def count_work(
    checkpoint: Checkpoint, cells: Sequence[Cell], images: int, questions: int, lengths: tuple[int, int]
) -> Work:
    """Work of `questions` about `images` under `cells`; `lengths` are positions before and after the image.

    An upper bound: cells that keep the same tokens share a branch, and stages above the first, which only the data
    can tell. Answers of one token are assumed, and drafts that hold.
    """
    shape, visual = checkpoint.shape, checkpoint.geometry.visual
    before, after = lengths
    layers = shape["layers"]
    stages = [stages_of(cell, checkpoint.geometry) for cell in cells]
    # The trunk is run up to the last layer at which a cell drops its first token; unpruned cells go on from there.
    # Cells that choose before the first layer have prefixes of their own.
    inside = [each for each in stages if not each or each[0].layer]
    pruned = [each for each in inside if each and each[-1].rows < visual]
    trunk = max((each[0].layer for each in pruned), default=cells[0].layer) if inside else 0
    per_image = (layers if len(pruned) < len(inside) else trunk) * layer_flops(shape, visual, before)
    per_question = trunk * layer_flops(shape, after, before + visual)
    branches = alone = of_images = 0.0
    for cell, each in zip(cells, stages, strict=True):
        counts = seen(each, checkpoint.geometry)
        choosing = choosing_flops(shape, cell, checkpoint.geometry, before + after) + before_flops(checkpoint, cell)
        alone += sum(layer_flops(shape, before + count + after) for count in counts) + choosing
        if (method := before_method(cell.strategy)) is not None:
            prefix = layers * layer_flops(shape, each[0].rows, before) + choosing
            of_images += 0 if method.question_dependent else prefix
            branches += layers * layer_flops(shape, after, before + each[0].rows)
            branches += prefix if method.question_dependent else 0
        elif each and each[-1].rows < visual:
            above = counts[each[0].layer :]
            branches += sum(layer_flops(shape, count + after, before) for count in above) + choosing
        else:
            branches += (layers - trunk) * layer_flops(shape, after, before + visual)
    return Work(
        shared=images * per_image + questions * per_question,
        branches=questions * branches + images * of_images,
        original=questions * alone,
    )


def plan_lines(job: Job) -> list[tuple[str, str]]:
    """The plan as label and value: cells, questions, FLOPs, time, memory, disk. Loads the model for the time."""
    vlm = job.answerer.vlm
    lengths = len(job.answerer.system_MD), _mean_question(vlm, job.tasks)
    checkpoint, cells = _at_mean(job)
    works = [count_work(checkpoint, cells, _images(task), len(task.samples), lengths) for task in job.tasks]
    shared, branches = sum(work.shared for work in works), sum(work.branches for work in works)
    original = sum(work.original for work in works)
    seconds, flops = _probe(job, checkpoint, cells, lengths)
    questions = sum(len(task.samples) for task in job.tasks)
    answers = questions * len(job.cells)
    pruned = sum(needs_tokens(cell.strategy) for cell in job.cells)
    bit_bytes = (checkpoint.geometry.visual + checkpoint.geometry.heads) / 6
    return [
        ("cells", f"{len(job.cells)} ({pruned} pruned) on {len(job.tasks)} benchmarks"),
        (
            "questions",
            ", ".join(f"{task.name} {len(task.samples):,} on {_images(task):,} images" for task in job.tasks),
        ),
        ("answers", f"{answers:,}"),
        *_image_line(job, checkpoint),
        *layer_lines(cells, checkpoint.geometry),
        ("shared work", f"{shared:.3g} FLOP"),
        ("branch work", f"{branches:.3g} FLOP (at most: equal branches run once)"),
        ("one by one", f"{original:.3g} FLOP, {original / (shared + branches):.1f} times as much"),
        (
            "time",
            f"about {_duration(seconds * (shared + branches) / flops)} (from {seconds:.1f} s of this study, answered)",
        ),
        ("memory", f"{_bytes(_peak(vlm))} at that"),
        ("disk", f"about {_bytes(answers * (SPOOL_BYTES + ARTIFACT_BYTES + 2 * bit_bytes))}"),
    ]


def _image_line(job: Job, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Of what image the counts are, where images differ in V."""
    if job.checkpoint.geometry.visual is not None:
        return []
    first = "the first image" if len(job.tasks) == 1 else "mean of each benchmark's first image"
    return [("image", f"{checkpoint.geometry.visual:,} visual tokens ({first}; other images have other numbers)")]


def _probe(job: Job, checkpoint: Checkpoint, cells: Sequence[Cell], lengths: tuple[int, int]) -> tuple[float, float]:
    """Seconds and FLOPs of answering the first questions of every benchmark, after one warm-up."""
    seconds = flops = 0.0
    for number, task in enumerate([job.tasks[0], *job.tasks]):
        samples = [sample for sample in task.samples if sample.image == task.samples[0].image][:PROBE_QUESTIONS]
        started = time.perf_counter()
        path = task.benchmark.image_path(task.data_dir, samples[0])
        pixels: Pixels = job.answerer.reducer.prepare(read_image(path), job.cells)
        job.answerer.branches(job.cells, {samples[0].image: pixels}, samples)
        if number:
            seconds += time.perf_counter() - started
            flops += count_work(checkpoint, cells, 1, len(samples), lengths).total
    return seconds, flops


def _at_mean(job: Job) -> tuple[Checkpoint, list[Cell]]:
    """Checkpoint and cells on an image of mean size: of the first image of each benchmark, where images differ in V."""
    if job.checkpoint.geometry.visual is not None:
        return job.checkpoint, job.cells
    vlm, counts = job.answerer.vlm, []
    for task in job.tasks:
        path = task.benchmark.image_path(task.data_dir, task.samples[0])
        counts += [ImageRows.whole(image).visual for image in vlm.encode_images([vlm.prepare(read_image(path))])]
    visual = round(sum(counts) / len(counts))
    return at_mean(job.checkpoint, visual), [for_image(cell, visual) for cell in job.cells]


def _images(task: Task) -> int:
    return len({sample.image for sample in task.samples})


def _mean_question(vlm: Vlm, tasks: Sequence[Task]) -> int:
    prompts = [sample.prompt for task in tasks for sample in task.samples[:50]]
    return round(sum(len(vlm.question_ids(prompt)) for prompt in prompts) / len(prompts))


def _peak(vlm: Vlm) -> int:
    """Bytes the process (or its GPU) has held at most."""
    if vlm.device.type == "cuda":
        return torch.cuda.max_memory_allocated(vlm.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
