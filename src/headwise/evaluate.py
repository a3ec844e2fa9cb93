"""Samples × cells → answers: what is not in the spool yet is answered, then every cell gets its folder.

Questions are taken in windows of whole images, so that the shared prefix of an image stays together;
each finished window is spooled before the next begins.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from headwise.benchmarks import benchmark
from headwise.benchmarks.benchmark import Benchmark
from headwise.config import Cell, Study, fingerprint
from headwise.engine import Branch, Engine, Levers, Question
from headwise.engine.decoder import Decoder
from headwise.errors import DataError
from headwise.model import PROMPT_VERSION, Checkpoint, Vlm, pick_device, read_image
from headwise.records import Sample
from headwise.spool import Spool

WINDOW_QUESTIONS = {"cpu": 12, "cuda": 64}
AHEAD = 4
SOURCES = ("engine", "heads", "model.py", "evaluate.py")

Progress = Callable[[int, int], None]
"""Called with questions done and questions in all."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One benchmark under a study's cells: its questions, and the fingerprints its answers are kept under."""

    name: str
    data_dir: Path
    samples: list[Sample]
    cells: list[Cell]
    group: str
    data_digest: str

    @property
    def benchmark(self) -> Benchmark:
        return benchmark(self.name)

    def key(self, cell: Cell) -> str:
        return fingerprint(asdict(cell))


def plan(study: Study, checkpoint: Checkpoint, cells: Sequence[Cell], data_dir: Path) -> list[Task]:
    """The study's benchmarks with their questions. DataError where a file is missing."""
    tasks = []
    for name in study.benchmark:
        samples = benchmark(name).samples(data_dir, study.limit)
        digest = data_digest(name, data_dir, samples)
        machine = pick_device(study.device).type, study.dtype
        group = fingerprint(
            checkpoint.digest, PROMPT_VERSION, machine, study.max_new_tokens, name, digest, code_digest()
        )
        tasks.append(
            Task(name=name, data_dir=data_dir, samples=samples, cells=list(cells), group=group, data_digest=digest)
        )
    return tasks


def data_digest(name: str, data_dir: Path, samples: Sequence[Sample]) -> str:
    """Digest of the questions and of their images' sizes on disk (-1 for one that is missing)."""
    digest = hashlib.sha256()
    for sample in samples:
        path = benchmark(name).image_path(data_dir, sample)
        size = path.stat().st_size if path.is_file() else -1
        digest.update(f"{sample.question_id}\0{sample.prompt}\0{sample.image}\0{size}\n".encode())
    return digest.hexdigest()[:16]


@cache
def code_digest() -> str:
    """Digest of the code that makes an answer, and of the libraries under it."""
    digest = hashlib.sha256(f"{torch.__version__} {transformers.__version__}".encode())
    root = Path(__file__).parent
    for source in SOURCES:
        path = root / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class Answerer:
    """Answers a task's open questions with one loaded checkpoint; engines are kept a set of cells."""

    def __init__(self, vlm: Vlm, max_new_tokens: int, levers: Levers | None = None) -> None:
        self.vlm, self.max_new_tokens, self.levers = vlm, max_new_tokens, levers
        self.decoder = Decoder(vlm.model)
        self.system_MD = vlm.system()
        self._engines: dict[tuple[Cell, ...], Engine] = {}

    def engine(self, cells: Sequence[Cell]) -> Engine:
        key = tuple(cells)
        if key not in self._engines:
            self._engines[key] = Engine(
                self.decoder, self.system_MD, cells, self.vlm.visual, self.max_new_tokens, self.levers
            )
        return self._engines[key]

    def answer(self, task: Task, spool: Spool, progress: Progress = lambda done, total: None) -> dict[int, str]:
        """Answer and spool what is missing; the questions that failed, with the reason."""
        failures: dict[int, str] = {}
        done, total = 0, len(task.samples)
        missing = missing_cells(task, spool)
        with ThreadPoolExecutor(max_workers=2) as pool:
            done = total - len(missing)
            progress(done, total)
            for window in self._windows(task, missing, pool):
                self._answer_window(task, window, spool, failures)
                done += len(window.places)
                progress(done, total)
        spool.close()
        return failures

    def _windows(self, task: Task, missing: dict[int, tuple[int, ...]], pool: ThreadPoolExecutor) -> Iterator[Window]:
        """Windows with their images being decoded AHEAD of time."""
        size = WINDOW_QUESTIONS["cuda" if self.vlm.device.type == "cuda" else "cpu"]
        waiting: list[Window] = []
        for places, cells in _window_places(task, missing, size):
            images = list(dict.fromkeys(task.samples[place].image for place in places))
            first = {task.samples[place].image: task.samples[place] for place in reversed(places)}
            paths = [task.benchmark.image_path(task.data_dir, first[image]) for image in images]
            pixels = [pool.submit(self._pixels, path) for path in paths]
            waiting.append(Window(places, [task.cells[cell] for cell in cells], images, pixels))
            if len(waiting) > AHEAD:
                yield waiting.pop(0)
        yield from waiting

    def _pixels(self, path: Path) -> Tensor | DataError:
        try:
            return self.vlm.prepare(read_image(path))
        except DataError as error:
            return error

    def _answer_window(self, task: Task, window: Window, spool: Spool, failures: dict[int, str]) -> None:
        started = time.perf_counter()
        pixels = {image: future.result() for image, future in zip(window.images, window.pixels, strict=True)}
        good = [image for image, pixel in pixels.items() if isinstance(pixel, Tensor)]
        places = []
        for place in window.places:
            pixel = pixels[task.samples[place].image]
            if isinstance(pixel, DataError):
                failures[place] = str(pixel)
            else:
                places.append(place)
        if not places:
            return
        visual_IVD = self.vlm.encode_images([pixels[image] for image in good])  # type: ignore[misc]
        questions = [self._question(task.samples[place], good) for place in places]
        rows = self.engine(window.cells).answer(visual_IVD, questions)
        seconds = (time.perf_counter() - started) / (len(places) * len(window.cells))
        for place, branches in zip(places, rows, strict=True):
            answers = {
                task.key(cell): self._record(branch, seconds)
                for cell, branch in zip(window.cells, branches, strict=True)
            }
            spool.append({"i": place, "q": task.samples[place].question_id, "a": answers})

    def _question(self, sample: Sample, images: Sequence[str]) -> Question:
        return Question(images.index(sample.image), self.vlm.question(sample.prompt), sample.sample_id)

    def _record(self, branch: Branch, seconds: float) -> dict[str, Any]:
        """One answer as it is spooled: text, seconds, degenerate ranking, and bit sets of heads and kept tokens."""
        tokens = [token for token in branch.tokens if token not in self.decoder.eos]
        heads = [] if branch.heads_K is None else branch.heads_K.tolist()
        return {
            "t": self.vlm.text(tokens),
            "s": round(seconds, 6),
            "d": int(branch.degenerate),
            "g": branch.agreement,
            "h": bits(heads, self.decoder.attention_heads),
            "k": bits(branch.kept_R.tolist(), self.vlm.visual),
            "m": round(branch.margin, 4),
        }


@dataclass(frozen=True)
class Window:
    """Questions answered together: their places in the task, the cells they lack, and their images being read."""

    places: list[int]
    cells: list[Cell]
    images: list[str]
    pixels: list[Future[Tensor | DataError]]


def missing_cells(task: Task, spool: Spool) -> dict[int, tuple[int, ...]]:
    """Places that lack answers, with the cells they lack (indices into the task's cells)."""
    column = {task.key(cell): place for place, cell in enumerate(task.cells)}
    done = np.zeros((len(task.samples), len(task.cells)), dtype=bool)
    for _, _, row in spool.lines():
        for key in row["a"]:
            if key in column and row["i"] < len(done):
                done[row["i"], column[key]] = True
    open_places = np.flatnonzero(~done.all(axis=1))
    return {int(place): tuple(np.flatnonzero(~done[place]).tolist()) for place in open_places}


def _window_places(
    task: Task, missing: dict[int, tuple[int, ...]], size: int
) -> Iterator[tuple[list[int], tuple[int, ...]]]:
    """Windows of about `size` questions: all open questions of an image together, all lacking the same cells."""
    by_image: dict[tuple[tuple[int, ...], str], list[int]] = {}
    for place, cells in missing.items():
        by_image.setdefault((cells, task.samples[place].image), []).append(place)
    for cells, members in groupby(by_image.items(), key=lambda item: item[0][0]):
        window: list[int] = []
        for _, places in members:
            if window and len(window) + len(places) > size:
                yield window, cells
                window = []
            window += places
        yield window, cells


def bits(members: Sequence[int], size: int) -> str:
    """A set of 0..size-1 as base64 of its bits, first bit highest."""
    flags = np.zeros(size, dtype=bool)
    flags[list(members)] = True
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def unpacked(text: str) -> np.ndarray:
    """The packed bytes [ceil(size / 8)] of `bits`."""
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8)
