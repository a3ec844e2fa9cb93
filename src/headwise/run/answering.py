"""Samples × cells → answers: what is not in the spool yet is answered and spooled.

Questions are taken in windows of whole images, so that the shared prefix of an image stays together. How
windows are cut depends on the questions alone, and a window is answered whole: a restarted study and one
that several workers share run the same computations, and so give the same answers to the last bit.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from headwise.engine import Branch, Engine, Optimizations, Question
from headwise.engine.alone import CostProbe
from headwise.engine.compiled import compile_layers
from headwise.errors import DataError
from headwise.methods.stages import StageKept, before_method
from headwise.models import FAMILIES
from headwise.models.checkpoint import Vlm
from headwise.models.contract import Picture
from headwise.models.decoder import Decoder
from headwise.records import Sample
from headwise.run.reducing import Chosen, Pixels, Reducer, Reductions, pack_area
from headwise.run.tasks import Task
from headwise.study.cells import Cell
from headwise.study.grids import Grid, as_numbers
from headwise.system.reading import read_image

WINDOW_QUESTIONS = {"cpu": 12, "cuda": 64}
# Rows of prefixes that are in memory side by side, as a multiple of `memory.stack_tokens`: on a CPU, elsewhere.
ROWS_OF_STACK = {True: 8.0, False: 0.5}

# Where an image is read from: a file, its bytes, or nothing where it could not be read at all.
Source = Path | BinaryIO | None


@dataclass(frozen=True)
class Window:
    """Questions answered together: their places in the task, and which answers lack: bool [places, cells].

    `costs`: whether costs may be measured on one of them.
    """

    places: list[int]
    lacking: np.ndarray
    costs: bool = True

    @property
    def open_places(self) -> list[int]:
        """The places of questions that lack an answer."""
        return [self.places[row] for row in np.flatnonzero(self.lacking.any(axis=1))]


@dataclass(frozen=True)
class Prepared:
    """A window and its prepared images by name, those that could be read; `unreadable` says why others could not."""

    window: Window
    pixels: dict[str, Pixels]
    unreadable: dict[str, str]


@dataclass(frozen=True, eq=False)
class Answered:
    """One question's branches, and per cell what was chosen before the language model (None: nothing was).

    `grids`: where the image's tokens lie in its padded square, where the family says it.
    """

    branches: list[Branch]
    chosen: tuple[Chosen | None, ...]
    grids: tuple[Grid, ...] = ()


class Answerer:
    """Answers a task's open questions with one loaded checkpoint; one engine is kept per set of cells."""

    def __init__(
        self,
        vlm: Vlm,
        max_new_tokens: int,
        optimizations: Optimizations | None = None,
        allow_pickle: bool = False,
        compiled: bool = False,
    ) -> None:
        """Encode the prompt before the image once, and start measuring costs.

        Args:
            vlm: the loaded checkpoint.
            max_new_tokens: bound on an answer's length, in tokens.
            optimizations: what the engine may share; None for all of it.
            allow_pickle: whether CLIP text towers in pickle files are loaded.
            compiled: whether the decoder's norms and MLPs are compiled.
        """
        self.reducer = Reducer(vlm, allow_pickle)
        self.vlm, self.max_new_tokens, self.optimizations = vlm, max_new_tokens, optimizations
        self.decoder = Decoder(vlm.model)
        if compiled:
            compile_layers(self.decoder)
        self.system_MD = vlm.system()
        self.cost_probe = CostProbe(vlm.model, self.decoder)
        self._engines: dict[tuple[Cell, ...], Engine] = {}

    def engine(self, cells: Sequence[Cell]) -> Engine:
        """The engine of these cells, made on first use and kept."""
        key = tuple(cells)
        if key not in self._engines:
            self._engines[key] = Engine(
                self.decoder, self.system_MD, cells, self.vlm.visual, self.max_new_tokens, self.optimizations
            )
        return self._engines[key]

    def prepare(self, window: Window, sources: Mapping[str, Source], cells: Sequence[Cell]) -> Prepared:
        """Read and prepare the window's images for the cells, by name; it can be done ahead of the device."""
        pixels, unreadable = {}, {}
        for name, source in sources.items():
            try:
                if source is None:
                    raise DataError(f"cannot read image {name}")
                image = read_image(source)  # type: ignore[arg-type]  # Pillow takes both
                pixels[name] = self.reducer.prepare(image, cells)
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
        answered = [each for part in self._parts(cells, pixels, samples) for each in self.branches(cells, pixels, part)]
        took = time.perf_counter() - started
        seconds = took / (len(rows) * len(cells))
        lines: list[dict[str, Any]] = []
        for row, found in zip(rows, answered, strict=True):
            wanted = [number for number, column in enumerate(columns) if window.lacking[row, column]]
            if wanted:
                answers = {
                    task.key(cells[number]): self._record(found.branches[number], seconds, found.chosen[number])
                    for number in wanted
                }
                where = {"grids": as_numbers(found.grids)} if found.grids else {}
                lines.append({"question": task.questions[window.places[row]], "answers": answers, **where})
        self.cost_probe.answering += took
        if window.costs and self.cost_probe.due(task.name):
            lines[0]["costs"] = self._costs(task.name, cells, pixels[samples[0].image], samples[0])
        return lines

    def branches(
        self, cells: Sequence[Cell], pixels: Mapping[str, Pixels], samples: Sequence[Sample]
    ) -> list[Answered]:
        """What each cell answers to each question; `pixels` are the questions' images by name."""
        images = list(dict.fromkeys(sample.image for sample in samples))
        shown = [pixels[image] for image in images]
        reductions = self.reducer.window(cells, shown)
        chosen = [reductions.of(images.index(sample.image), sample.prompt) for sample in samples]
        questions = [
            self._question(images.index(sample.image), sample, row) for sample, row in zip(samples, chosen, strict=True)
        ]
        visual = self._visual(shown, reductions)
        found = self.engine(cells).answer(visual, questions)
        grids = [each.grids if isinstance(each, Picture) else () for each in visual]
        squares = [
            tuple(grid.in_square(*pixels.size) for grid in each) for each, pixels in zip(grids, shown, strict=True)
        ]
        return [
            Answered(each, row, squares[question.image])
            for each, row, question in zip(found, chosen, questions, strict=True)
        ]

    def _visual(self, pixels: Sequence[Pixels], reductions: Reductions) -> Sequence[Tensor | Picture]:
        """Whole images as embeddings; where every cell has rows of its own, they only say how many places there are."""
        projected_IVD = reductions.projected_IVD
        if projected_IVD is not None and all(before_method(cell.strategy) for cell in reductions.cells):
            return projected_IVD
        return list(self.vlm.encode_images([each.whole for each in pixels]))

    def _parts(
        self, cells: Sequence[Cell], pixels: Mapping[str, Pixels], samples: Sequence[Sample]
    ) -> Iterator[list[Sample]]:
        """The questions of whole images, as many as may have all their prefixes in memory side by side.

        Cells that prune inside the language model share one prefix per image, so a window of theirs is one part.
        """
        before = [(cell, method) for cell in cells if (method := before_method(cell.strategy)) is not None]
        limit = self.engine(cells).stack_tokens * ROWS_OF_STACK[self.vlm.device.type == "cpu"]
        part: list[Sample] = []
        rows = 0
        for name, group in groupby(samples, key=lambda sample: sample.image):
            asked = list(group)
            visual = self.reducer.visual(pixels[name]) if before else 0
            more = sum(
                self.reducer.tokens(cell, visual) * (len(asked) if method.question_dependent else 1)
                for cell, method in before
            )
            if part and rows + more > limit:
                yield part
                part, rows = [], 0
            part, rows = part + asked, rows + more
        yield part

    def _costs(self, benchmark: str, cells: Sequence[Cell], pixels: Pixels, sample: Sample) -> list[dict[str, Any]]:
        """Costs of the cells alone, measured on this question: what a spool line holds of them."""
        reductions = self.reducer.window(cells, [pixels])
        choices = [reductions.again(column, 0, sample.prompt) for column in range(len(cells))]
        image = self.vlm.encode_images([pixels.whole])[0]
        question_QD = self.vlm.question(sample.prompt)
        return self.cost_probe.measure(benchmark, self.engine(cells), image, question_QD, choices)

    def _question(self, image: int, sample: Sample, chosen: Sequence[Chosen | None]) -> Question:
        rows = tuple(None if each is None else each.rows for each in chosen)
        return Question(image, self.vlm.question(sample.prompt), sample.sample_id, rows)

    def _record(self, branch: Branch, seconds: float, chosen: Chosen | None = None) -> dict[str, Any]:
        """One answer as it is spooled: text, seconds, degenerate ranking, and bit sets of heads and kept tokens.

        `visual`: V of the image, where it is not the same for all. `stages`, where there is more to say than `kept`:
        every stage as [layer, bit set of the places left, merged rows]. `area`, where a merged row comes from visual
        tokens: for each token the row that it is in (`reducing.pack_area`).
        """
        tokens = [token for token in branch.tokens if token not in self.decoder.eos]
        visual = branch.visual if self.vlm.visual is None else self.vlm.visual
        heads = [] if branch.heads_K is None else branch.heads_K.tolist()
        several = len(branch.stages) > 1 or any(len(stage.kept) > len(branch.kept_R) for stage in branch.stages)
        return {
            **({"stages": [self._stage(stage, visual) for stage in branch.stages]} if several else {}),
            **({"area": area} if (area := _area(branch, chosen)) else {}),
            "text": self.vlm.text(tokens),
            "seconds": round(seconds, 6),
            "degenerate": int(branch.degenerate or (chosen is not None and chosen.degenerate)),
            "agreement": branch.agreement,
            "heads": bits(heads, self.decoder.attention_heads),
            "kept": bits(branch.kept_R.tolist(), visual),
            **({"visual": visual} if self.vlm.visual is None else {}),
            "margin": round(branch.margin, 4),
        }

    def _stage(self, stage: StageKept, visual: int) -> list[Any]:
        """A stage's rows: places ascend and merged rows stand behind them, so a set and a number say it all."""
        places = [place for place in stage.kept.tolist() if place >= 0]
        return [stage.layer, bits(places, visual), len(stage.kept) - len(places)]


def _area(branch: Branch, chosen: Chosen | None) -> str:
    """Where merged rows come from, packed: rows made before the language model, or inside it. Empty: from nowhere."""
    if chosen is not None:
        return "" if chosen.area == "-" else chosen.area
    return "" if branch.area_V is None or not branch.area_V.any() else pack_area(branch.area_V.cpu().numpy())


def image_paths(task: Task, window: Window) -> dict[str, Path]:
    """Where the window's images lie, by name, in the order in which they first appear."""
    samples = {task.samples[place].image: task.samples[place] for place in window.places}
    return {name: task.benchmark.image_path(task.data_dir, sample) for name, sample in samples.items()}


def open_windows(task: Task, done: np.ndarray, device: str) -> list[Window]:
    """The task's windows that lack an answer, in order; `done` is bool [questions, cells].

    Costs are not measured on the first of several: a study's first answers come before that.
    """
    cut = [Window(places, ~done[places]) for places in _cut(task, WINDOW_QUESTIONS.get(device, 64))]
    windows = [window for window in cut if window.lacking.any()]
    if len(windows) > 1:
        windows[0] = replace(windows[0], costs=False)
    return windows


def _cut(task: Task, size: int) -> Iterator[list[int]]:
    """All questions in windows of about `size`, those on one image together, images as they first appear.

    The first window is a third of that: first answers come soon, and so does what is wrong.
    """
    by_image: dict[str, list[int]] = {}
    for place, sample in enumerate(task.samples):
        by_image.setdefault(sample.image, []).append(place)
    window: list[int] = []
    most = size // 3
    for places in by_image.values():
        if window and len(window) + len(places) > most:
            yield window
            window, most = [], size
        window = window + places
    if window:
        yield window


def unreadable(task: Task, done: np.ndarray) -> dict[int, str]:
    """The questions without all their answers whose image cannot be read or is not taken, with the reason."""
    failures, family = {}, FAMILIES[task.family]
    for place in np.flatnonzero(~done.all(axis=1)).tolist():
        try:
            image = read_image(task.benchmark.image_path(task.data_dir, task.samples[place]))
            if reason := family.refuses(image.size):
                failures[place] = f"{family.title} takes no such image: {reason}"
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
