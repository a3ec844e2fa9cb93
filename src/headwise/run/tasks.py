"""What a study has to answer: questions, cells, and the fingerprints that answers are kept under.

Three fingerprints together name everything that changes an answer: the group (weights, machine, precision,
length, benchmark, versions of prompt, engine and libraries), the question (wording and the image's content) and
the cell (its settings and its strategy's version). What changes no answer is in none of them: how many questions
are asked, which device, how many processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headwise.benchmarks import benchmark
from headwise.benchmarks.benchmark import Benchmark
from headwise.engine.version import ENGINE_VERSION
from headwise.errors import ConfigError
from headwise.methods.heads import version_of
from headwise.methods.stages import before_method
from headwise.models.checkpoint import Checkpoint
from headwise.records import Sample
from headwise.run.settings import StudySettings
from headwise.run.spool import Spool
from headwise.study.budget import is_share
from headwise.study.cells import Cell, fingerprint
from headwise.study.digests import image_digests

if TYPE_CHECKING:
    from headwise.models.vision import VisionShape

LIBRARIES = ("torch", "transformers", "tokenizers", "pillow", "numpy")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One benchmark under a study's cells. `questions` are the samples' fingerprints, in the same order.

    `clips`: the digest of each CLIP checkpoint that a cell's method reads. `family`: that of the checkpoint, which may
    take no picture of some shape.
    """

    name: str
    data_dir: Path
    samples: list[Sample]
    questions: list[str]
    cells: list[Cell]
    group: str
    clips: Mapping[str, str] = field(default_factory=dict)
    family: str = "llava"

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark of that name."""
        return benchmark(self.name)

    @property
    def data_digest(self) -> str:
        """Digest of all questions and images of this run."""
        return fingerprint(self.questions)

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Where each question stands; a benchmark may ask the same twice."""
        places: dict[str, list[int]] = {}
        for place, question in enumerate(self.questions):
            places.setdefault(question, []).append(place)
        return places

    def key(self, cell: Cell) -> str:
        """What the cell's answers are kept under: a CLIP counts by its content, options only where there are any."""
        settings = asdict(cell)
        options = settings.pop("options")
        if options:
            digests = {"clip": self.clips.get(cell.clip, cell.clip)} if cell.clip else {}
            settings["options"] = sorted({**dict(options), **digests}.items())
        return fingerprint(settings, version_of(cell.strategy))

    def answered(self, spool: Spool) -> np.ndarray:
        """Which answers the spool holds: bool [questions, cells]."""
        column = {self.key(cell): place for place, cell in enumerate(self.cells)}
        done = np.zeros((len(self.samples), len(self.cells)), dtype=bool)
        for _, _, row in spool.lines():
            columns = [column[key] for key in row["answers"] if key in column]
            for place in self.places.get(row["question"], ()):
                done[place, columns] = True
        return done


def check_before(checkpoint: Checkpoint, cells: Sequence[Cell], allow_pickle: bool = False) -> dict[str, str]:
    """What methods before the language model need of checkpoints, before any is loaded; digests of the CLIPs.

    ModelError where the tower is none that they read, or a CLIP is absent or of another width.
    """
    if all(before_method(cell.strategy) is None for cell in cells):
        return {}
    from headwise.models.vision import clip_digest, vision_shape

    shape = vision_shape(checkpoint)
    for cell in cells:
        _check_tiles(cell, shape)
    width = shape.width
    names = dict.fromkeys(cell.clip for cell in cells if cell.clip)
    return {name: clip_digest(name, width, allow_pickle) for name in names}


def _check_tiles(cell: Cell, shape: VisionShape) -> None:
    """ConfigError for a number of tokens that an image of the most tiles could not share among them."""
    method = before_method(cell.strategy)
    if method is None or method.tiled != "each" or shape.tiles == 1 or is_share(cell.tokens):
        return
    least = shape.tiles * method.least(shape.side**2, method.options(**dict(cell.options)))
    if cell.tokens < least:
        raise ConfigError(
            f"tokens: {cell.tokens} is too few for {method.name}, which keeps as many of every tile, and an image has "
            f"up to {shape.tiles}; the smallest feasible budget is {least}"
        )


def plan(
    study: StudySettings,
    checkpoint: Checkpoint,
    cells: Sequence[Cell],
    data_dir: Path,
    device: str,
    clips: Mapping[str, str] | None = None,
) -> list[Task]:
    """The study's benchmarks with their questions; `device` is cpu or cuda. DataError where a file is missing."""
    dtype = "float32" if (study.dtype, device) == ("auto", "cpu") else study.dtype
    tasks = []
    for name in study.benchmark:
        samples = benchmark(name).samples(data_dir, study.limit)
        versions = checkpoint.prompt_version, ENGINE_VERSION, libraries()
        compiled = ("compiled",) if study.compile else ()  # a study without it is kept under what it always was
        options = study.max_new_tokens, name, *checkpoint.image_parts, *compiled
        parts = checkpoint.digest, *versions, device, dtype, *options
        tasks.append(
            Task(
                name=name,
                data_dir=data_dir,
                samples=samples,
                questions=question_keys(name, data_dir, samples),
                cells=list(cells),
                group=fingerprint(*parts),
                clips=clips or {},
                family=checkpoint.family,
            )
        )
    return tasks


def question_keys(name: str, data_dir: Path, samples: Sequence[Sample]) -> list[str]:
    """A fingerprint a sample: its name, its wording, and its image's content (`absent` where there is none).

    DataError for an image whose name leaves its folder.
    """
    paths = {sample.image: benchmark(name).image_path(data_dir, sample) for sample in samples}
    digests = dict(zip(paths, image_digests(list(paths.values())), strict=True))
    return [fingerprint(sample.sample_id, sample.image, digests[sample.image]) for sample in samples]


@cache
def libraries() -> list[str]:
    """Versions of the libraries under an answer."""
    return [f"{name} {version(name)}" for name in LIBRARIES]
