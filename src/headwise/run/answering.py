"""Samples × cells → answers: what is not in the spool yet is answered and spooled.

Questions are taken in windows of whole images, so that the shared prefix of an image stays together. How
windows are cut depends on the questions alone, and a window is answered whole: a restarted study and one
that several workers share run the same computations, and so give the same answers to the last bit.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from headwise.engine import Branch, Engine, Optimizations, Question
from headwise.engine.alone import CostProbe
from headwise.errors import DataError
from headwise.methods.stages import StageKept
from headwise.models.checkpoint import Vlm
from headwise.models.decoder import Decoder
from headwise.records import Sample
from headwise.run.tasks import Task
from headwise.study.cells import Cell
from headwise.system.reading import read_image

WINDOW_QUESTIONS = {"cpu": 12, "cuda": 64}

Source = Path | BinaryIO | None
"""Where an image is read from: a file, its bytes, or nothing where it could not be read at all."""


@dataclass(frozen=True)
class Window:
    """Questions answered together: their places in the task, and which answers lack: bool [places, cells]."""

    places: list[int]
    lacking: np.ndarray

    @property
    def open_places(self) -> list[int]:
        """The places of questions that lack an answer."""
        return [self.places[row] for row in np.flatnonzero(self.lacking.any(axis=1))]


@dataclass(frozen=True)
class Prepared:
    """A window and its prepared images by name, those that could be read; `unreadable` says why others could not."""

    window: Window
    pixels: dict[str, Tensor]
    unreadable: dict[str, str]


class Answerer:
    """Answers a task's open questions with one loaded checkpoint; engines are kept a set of cells."""

    def __init__(self, vlm: Vlm, max_new_tokens: int, optimizations: Optimizations | None = None) -> None:
        self.vlm, self.max_new_tokens, self.optimizations = vlm, max_new_tokens, optimizations
        self.decoder = Decoder(vlm.model)
        self.system_MD = vlm.system()
        self.cost_probe = CostProbe(vlm.model, self.decoder)
        self._engines: dict[tuple[Cell, ...], Engine] = {}

    def engine(self, cells: Sequence[Cell]) -> Engine:
        key = tuple(cells)
        if key not in self._engines:
            self._engines[key] = Engine(
                self.decoder, self.system_MD, cells, self.vlm.visual, self.max_new_tokens, self.optimizations
            )
        return self._engines[key]

    def prepare(self, window: Window, sources: Mapping[str, Source]) -> Prepared:
        """Read and prepare the window's images, by name; needs no turn at the device, so it can be done ahead."""
        pixels, unreadable = {}, {}
        for name, source in sources.items():
            try:
                if source is None:
                    raise DataError(f"cannot read image {name}")
                pixels[name] = self.vlm.prepare(read_image(source))  # type: ignore[arg-type]  # Pillow takes both
            except DataError as error:
                unreadable[name] = str(error)
        return Prepared(window, pixels, unreadable)

    def answer(self, task: Task, prepared: Prepared) -> list[dict[str, Any]]:
        """The window's lines for the spool. A question whose image cannot be read stays without an answer."""
        started = time.perf_counter()
        window, pixels = prepared.window, prepared.pixels
        rows = [row for row, place in enumerate(window.places) if task.samples[place].image in pixels]
        lacking = window.lacking[rows]
        if not lacking.any():
            return []
        columns = np.flatnonzero(lacking.any(axis=0)).tolist()
        cells = [task.cells[column] for column in columns]
        samples = [task.samples[window.places[row]] for row in rows]
        visual_IVD = self.vlm.encode_images(list(pixels.values()))
        questions = [self._question(sample, list(pixels)) for sample in samples]
        branches = self.engine(cells).answer(visual_IVD, questions)
        took = time.perf_counter() - started
        seconds = took / (len(rows) * len(cells))
        lines: list[dict[str, Any]] = []
        for row, found in zip(rows, branches, strict=True):
            wanted = [number for number, column in enumerate(columns) if window.lacking[row, column]]
            if wanted:
                answers = {task.key(cells[number]): self._record(found[number], seconds) for number in wanted}
                lines.append({"q": task.questions[window.places[row]], "a": answers})
        lines[0] |= self._costs(task.name, cells, visual_IVD, questions[0], took)
        return lines

    def _costs(
        self, benchmark: str, cells: Sequence[Cell], visual_IVD: Tensor, question: Question, took: float
    ) -> dict[str, Any]:
        """Costs of the cells alone, measured on this question, where it is time to: what a spool line holds of them."""
        self.cost_probe.answering += took
        if not self.cost_probe.due(benchmark):
            return {}
        engine, image = self.engine(cells), visual_IVD[question.image]
        return {"c": self.cost_probe.costs(benchmark, engine, image, question.embeds_QD)}

    def _question(self, sample: Sample, images: Sequence[str]) -> Question:
        return Question(images.index(sample.image), self.vlm.question(sample.prompt), sample.sample_id)

    def _record(self, branch: Branch, seconds: float) -> dict[str, Any]:
        """One answer as it is spooled: text, seconds, degenerate ranking, and bit sets of heads and kept tokens.

        `z`, where there is more to say than `k`: every stage as [layer, bit set of the places left, merged rows].
        """
        tokens = [token for token in branch.tokens if token not in self.decoder.eos]
        heads = [] if branch.heads_K is None else branch.heads_K.tolist()
        several = len(branch.stages) > 1 or any(len(stage.kept) > len(branch.kept_R) for stage in branch.stages)
        return {
            **({"z": [self._stage(stage) for stage in branch.stages]} if several else {}),
            "t": self.vlm.text(tokens),
            "s": round(seconds, 6),
            "d": int(branch.degenerate),
            "g": branch.agreement,
            "h": bits(heads, self.decoder.attention_heads),
            "k": bits(branch.kept_R.tolist(), self.vlm.visual),
            "m": round(branch.margin, 4),
        }

    def _stage(self, stage: StageKept) -> list[Any]:
        """A stage's rows: places ascend and merged rows stand behind them, so a set and a number say it all."""
        places = [place for place in stage.kept.tolist() if place >= 0]
        return [stage.layer, bits(places, self.vlm.visual), len(stage.kept) - len(places)]


def image_paths(task: Task, window: Window) -> dict[str, Path]:
    """Where the window's images lie, by name, in the order in which they first appear."""
    samples = {task.samples[place].image: task.samples[place] for place in window.places}
    return {name: task.benchmark.image_path(task.data_dir, sample) for name, sample in samples.items()}


def open_windows(task: Task, done: np.ndarray, device: str) -> list[Window]:
    """The task's windows that lack an answer, in order; `done` is bool [questions, cells]."""
    windows = [Window(places, ~done[places]) for places in _cut(task, WINDOW_QUESTIONS.get(device, 64))]
    return [window for window in windows if window.lacking.any()]


def _cut(task: Task, size: int) -> Iterator[list[int]]:
    """All questions in windows of about `size`, those on one image together, images as they first appear."""
    by_image: dict[str, list[int]] = {}
    for place, sample in enumerate(task.samples):
        by_image.setdefault(sample.image, []).append(place)
    window: list[int] = []
    for places in by_image.values():
        if window and len(window) + len(places) > size:
            yield window
            window = []
        window = window + places
    if window:
        yield window


def unreadable(task: Task, done: np.ndarray) -> dict[int, str]:
    """The questions without all their answers whose image cannot be read, with the reason."""
    failures = {}
    for place in np.flatnonzero(~done.all(axis=1)).tolist():
        try:
            read_image(task.benchmark.image_path(task.data_dir, task.samples[place]))
        except DataError as error:
            failures[place] = str(error)
    return failures


def bits(members: Sequence[int], size: int) -> str:
    """A set of 0..size-1 as base64 of its bits, first bit highest."""
    flags = np.zeros(size, dtype=bool)
    flags[list(members)] = True
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def unpacked(text: str) -> np.ndarray:
    """The packed bytes [ceil(size / 8)] of `bits`."""
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8)
