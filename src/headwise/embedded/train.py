"""The whole recipe: tower → align → language → fit → tune → checkpoint, each stage resumable in `work`."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from headwise.embedded.align import Aligner, train_align
from headwise.embedded.export import assemble, save
from headwise.embedded.language import Speaker, start_decoder, train_language
from headwise.embedded.loop import in_parallel
from headwise.embedded.tower import Namer, tower_config, train_tower
from headwise.embedded.tune import Student, cached_features, fit_projector, train_tune

STEPS = {"tower": 475, "align": 350, "language": 700, "fit": 200, "tune": 400}
SCENES = 1500  # images of the last two stages
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def train_all(out: Path, work: Path, scale: float = 1.0, processes: int = 2, scenes: int = SCENES) -> None:
    """Run what is left of every stage, then write the checkpoint to `out`."""
    steps = {name: max(1, round(count * scale)) for name, count in STEPS.items()}
    run = _runner(work, processes)
    run(train_tower, work, steps["tower"])
    run(_align, work, steps["align"])
    run(train_language, work, steps["language"])
    cached_features(work, load_aligner(work), scenes)
    run(_fit, work, steps["fit"], scenes)
    run(_tune, work, steps["tune"], scenes)
    export(work, out)


def _runner(work: Path, processes: int) -> Callable[..., object]:
    if processes == 1:
        return lambda function, *arguments: function(*arguments)
    return lambda function, *arguments: in_parallel(processes, work, function, *arguments)


def _align(work: Path, steps: int) -> None:
    train_align(work, load_namer(work), start_decoder(), steps)


def _fit(work: Path, steps: int, scenes: int) -> None:
    aligner = load_aligner(work)
    fit_projector(work, aligner, load_speaker(work), cached_features(work, aligner, scenes), steps)


def _tune(work: Path, steps: int, scenes: int) -> None:
    aligner = load_fitted(work)
    train_tune(work, aligner, load_speaker(work), cached_features(work, aligner, scenes), steps)


def export(work: Path, out: Path, tuned: bool = True) -> None:
    """The checkpoint from the state of the last stage."""
    aligner, speaker = load_fitted(work), load_speaker(work)
    if tuned:
        _load(Student(aligner, speaker), work, "tune")
    save(assemble(aligner.namer, aligner.projector, speaker.decoder), out)


def load_namer(work: Path) -> Namer:
    return _load(Namer(tower_config()), work, "tower")


def load_speaker(work: Path) -> Speaker:
    return _load(start_decoder(), work, "language")


def load_aligner(work: Path) -> Aligner:
    return _load(Aligner(load_namer(work), start_decoder()), work, "align")


def load_fitted(work: Path) -> Aligner:
    aligner = load_aligner(work)
    _load(aligner.projector, work, "fit")
    return aligner


def _load(module: ModuleT, work: Path, stage: str) -> ModuleT:
    saved = torch.load(work / f"{stage}.pt", weights_only=True)
    module.load_state_dict(saved["modules"])
    return module
