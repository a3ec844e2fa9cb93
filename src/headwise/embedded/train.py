"""The whole recipe: tower → language → align → tune → checkpoint, each stage resumable in `work`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from headwise.embedded.align import Aligner, train_align
from headwise.embedded.export import assemble, save
from headwise.embedded.language import Speaker, start_decoder, train_language
from headwise.embedded.loop import in_parallel
from headwise.embedded.tower import Namer, tower_config, train_tower
from headwise.embedded.tune import Student, cached_features, train_tune

STEPS = {"tower": 475, "language": 1500, "align": 300, "tune": 600}
SCENES = 3000  # images of the last stage


def train_all(out: Path, work: Path, scale: float = 1.0, processes: int = 2, scenes: int = SCENES) -> None:
    """Run what is left of every stage, then write the checkpoint to `out`."""
    steps = {name: max(1, round(count * scale)) for name, count in STEPS.items()}
    run = _runner(work, processes)
    run(train_tower, work, steps["tower"])
    run(train_language, work, steps["language"])
    run(_align, work, steps["align"])
    cached_features(work, load_aligner(work), scenes)
    run(_tune, work, steps["tune"], scenes)
    export(work, out)


def _runner(work: Path, processes: int) -> Callable[..., Any]:
    if processes == 1:
        return lambda function, *arguments: function(*arguments)
    return lambda function, *arguments: in_parallel(processes, work, function, *arguments)


def _align(work: Path, steps: int) -> None:
    train_align(work, load_namer(work), load_speaker(work), steps)


def _tune(work: Path, steps: int, scenes: int) -> None:
    aligner = load_aligner(work)
    train_tune(work, aligner, load_speaker(work), cached_features(work, aligner, scenes), steps)


def export(work: Path, out: Path) -> None:
    """The checkpoint from the state of the last stage."""
    aligner = load_aligner(work)
    student = Student(aligner, load_speaker(work))
    _load(student, work, "tune")
    save(assemble(aligner.namer, student.projector, student.speaker.decoder), out)


def load_namer(work: Path) -> Namer:
    return _load(Namer(tower_config()), work, "tower")


def load_speaker(work: Path) -> Speaker:
    return _load(start_decoder(), work, "language")


def load_aligner(work: Path) -> Aligner:
    return _load(Aligner(load_namer(work), load_speaker(work)), work, "align")


def _load(module: Any, work: Path, stage: str) -> Any:
    saved = torch.load(work / f"{stage}.pt", weights_only=True)
    module.load_state_dict(saved["modules"])
    return module


