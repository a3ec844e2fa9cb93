"""What runs on a worker's host: one loaded checkpoint that answers the windows it is sent.

Ray is not imported here; `ray.py` makes an actor of this class.
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import headwise
from headwise.engine.version import ENGINE_VERSION
from headwise.errors import DataError, HeadwiseError
from headwise.methods.heads import version_of
from headwise.models import FAMILIES
from headwise.models.checkpoint import Checkpoint, find_checkpoint
from headwise.run.answering import Answerer, Source, image_paths
from headwise.run.executors import Work
from headwise.run.executors.local import failures_of
from headwise.run.placement import Placement
from headwise.run.settings import StudySettings
from headwise.run.tasks import check_before, libraries, question_keys
from headwise.study import plugins
from headwise.study.versions import carried

# The content of images by name; None for one that could not be read.
Images = dict[str, bytes | None]
NO_DATA = Path(os.devnull)


@dataclass(frozen=True)
class Orders:
    """What every worker is told once: the study, where its model is, on which kind of device it is run.

    `folder` is the driver's working folder, for paths that are relative; `plugins` are the files it has loaded.
    """

    study: StudySettings
    model: str
    kind: str
    allow_pickle: bool
    folder: Path = field(default_factory=Path.cwd)
    plugins: Mapping[Path, bytes] = field(default_factory=plugins.sources)


@dataclass(frozen=True)
class Hello:
    """Who a worker is. `problem` says why it cannot answer at all."""

    host: str
    process: int
    identity: dict[str, str]
    problem: str = ""
    node: str = ""

    def differs(self, expected: dict[str, str]) -> str:
        """What keeps its answers from being those of the driver; empty where nothing does."""
        if self.problem:
            return self.problem
        wrong = [name for name, value in expected.items() if self.identity.get(name) != value]
        return "; ".join(f"its {name} is {self.identity.get(name)}, here it is {expected[name]}" for name in wrong)


def identity(checkpoint: Checkpoint, study: StudySettings, kind: str, allow_pickle: bool = False) -> dict[str, str]:
    """All of a process that its answers hang on: weights, code and libraries, and the kind of device.

    HeadwiseError where it lacks what the study names: a method, a CLIP.
    """
    cells = study.cells(checkpoint.geometry)
    clips = check_before(checkpoint, cells, allow_pickle)
    family = carried(checkpoint.prompt_version, type(FAMILIES[checkpoint.family]))
    methods = {f"{name} {version_of(name)}" for name in (cell.strategy for cell in cells)}
    return {
        "checkpoint": checkpoint.digest,
        "headwise": f"{headwise.__version__} (code {_code_digest()})",
        "versions": ", ".join([f"engine {ENGINE_VERSION}", f"{checkpoint.family} {family}", *libraries()]),
        "methods": ", ".join(sorted(methods)),
        **({"clip": ", ".join(f"{name} {digest}" for name, digest in clips.items())} if clips else {}),
        "device": kind,
    }


class Worker:
    """Answers windows. Two may be under way: images of one are prepared while the other has the device."""

    def __init__(self, orders: Orders) -> None:
        """Remember the orders; the checkpoint is loaded for the first window."""
        self.orders = orders
        self._turn = threading.Lock()
        self._checkpoint: Checkpoint | None = None
        self._answerer: Answerer | None = None

    def hello(self) -> Hello:
        """Find the checkpoint, without loading it, and say what this worker is."""
        who = socket.gethostname(), os.getpid()
        try:
            self._enter()
            found = find_checkpoint(self.orders.model, self.orders.allow_pickle)
            self._checkpoint = found.seen_as(self.orders.study.image_limits)
            kind = self._placement().kind(self.orders.study)
            return Hello(*who, identity(self._checkpoint, self.orders.study, kind, self.orders.allow_pickle))
        except HeadwiseError as error:
            return Hello(*who, {}, str(error))

    def load(self) -> None:
        """Load the checkpoint that was found."""
        self._loaded()

    def answer(self, work: Work, images: Images | None) -> tuple[list[dict[str, Any]], dict[int, str]]:
        """The window's lines for the spool and its failures; without `images` they are read from this host's data."""
        with self._turn:
            answerer = self._loaded()
        sources: dict[str, Source] = {}
        if images is None:
            self._check_data(work)
            sources |= image_paths(work.task, work.window)
        else:
            sources |= {name: None if content is None else io.BytesIO(content) for name, content in images.items()}
        prepared = answerer.prepare(work.window, sources, work.task.cells)
        with self._turn:
            lines = answerer.answer(work.task, prepared)
        return lines, failures_of(work, prepared)

    def _enter(self) -> None:
        """Be where the driver is, as far as this host has that, and know its plug-ins."""
        if self.orders.folder.is_dir():
            os.chdir(self.orders.folder)
        plugins.load_sources(self.orders.plugins)

    def _placement(self) -> Placement:
        device = "cpu" if self.orders.kind == "cpu" else "cuda:0"  # Ray shows a worker its own GPU only
        return Placement(devices=(device,), allow_pickle=self.orders.allow_pickle)

    def _loaded(self) -> Answerer:
        if self._answerer is None:
            if self._checkpoint is None:
                raise HeadwiseError("worker: was asked to answer before it was asked who it is")
            vlm = self._placement().load(self._checkpoint, self.orders.study)
            study = self.orders.study
            self._answerer = Answerer(
                vlm, study.max_new_tokens, allow_pickle=self.orders.allow_pickle, compiled=study.compile
            )
        return self._answerer

    def _check_data(self, work: Work) -> None:
        """DataError where this host's images are not those that the study was planned with."""
        task = work.task
        found = question_keys(task.name, task.data_dir, task.samples)
        for sample, key, planned in zip(task.samples, found, task.questions, strict=True):
            if key != planned:
                path = task.benchmark.image_path(task.data_dir, sample)
                raise DataError(
                    f"data: {path} on {socket.gethostname()} is not what it is where the study was started; "
                    "without --data-on-workers images are sent from there"
                )


def parcel(work: Work, data_on_workers: bool = False) -> Work:
    """The window with its own questions and no others; a worker that is sent its images learns of no data folder."""
    task, places = work.task, work.window.places
    own = replace(
        task,
        data_dir=task.data_dir if data_on_workers else NO_DATA,
        samples=[task.samples[place] for place in places],
        questions=[task.questions[place] for place in places],
    )
    return Work(own, replace(work.window, places=list(range(len(places)))))


def images_of(work: Work) -> Images:
    """The content of the window's images."""
    return {name: _content(path) for name, path in image_paths(work.task, work.window).items()}


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None  # the questions about it fail, with the reason that reading it once more will give


def _code_digest() -> str:
    """Digest of the installed package's source."""
    root = Path(headwise.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]
