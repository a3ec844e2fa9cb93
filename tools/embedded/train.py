"""The whole recipe: tower → language → fit → align → tune → checkpoint, each stage resumable in `work`."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from tools.embedded.align import Aligner, fit_projector, train_align
from tools.embedded.contrast import Towers, train_towers
from tools.embedded.export import assemble, save, save_clip
from tools.embedded.language import SceneDecoder, start_decoder, train_language
from tools.embedded.loop import in_parallel
from tools.embedded.tune import Student, cached_features, scene_number, train_tune

STEPS = {"tower": 1400, "language": 4600, "fit": 1500, "align": 500, "tune": 1400}
SCENES = 1920  # images of the last stage
FIT_SCENES = 256
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def train_all(
    out: Path, work: Path, scale: float = 1.0, processes: int = 2, scenes: int = SCENES, guide: bool = True
) -> None:
    """Run the remaining steps of every stage, then write the checkpoint to `out`.

    `guide`: supervise the attention of layer 4 (see language.py).
    """
    steps = {name: max(1, round(count * scale)) for name, count in STEPS.items()}
    run = _runner(work, processes)
    run(train_towers, work, steps["tower"])
    run(train_language, work, steps["language"], guide)
    _fit(work, steps["fit"], min(scenes, FIT_SCENES))
    run(_align, work, steps["align"])
    cached_features(work, load_aligner(work), scenes, "tune")
    run(_tune, work, steps["tune"], scenes, guide)
    export(work, out)


def _runner(work: Path, processes: int) -> Callable[..., object]:
    if processes == 1:
        return lambda function, *arguments: function(*arguments)
    return lambda function, *arguments: in_parallel(processes, work, function, *arguments)


def _fit(work: Path, steps: int, count: int) -> None:
    scene_decoder = load_scene_decoder(work)
    aligner = Aligner(load_towers(work), scene_decoder)
    features = cached_features(work, aligner, count, "fit")
    fit_projector(work, aligner, scene_decoder, features, [scene_number(i) for i in range(count)], steps)


def _align(work: Path, steps: int) -> None:
    scene_decoder = load_scene_decoder(work)
    aligner = Aligner(load_towers(work), scene_decoder)
    _load(aligner.projector, work, "fit")
    train_align(work, aligner, scene_decoder, steps)


def _tune(work: Path, steps: int, scenes: int, guide: bool) -> None:
    aligner = load_aligner(work)
    features = cached_features(work, aligner, scenes, "tune")
    train_tune(work, aligner, load_scene_decoder(work), features, steps, guide)


def export(work: Path, out: Path, tuned: bool = True) -> None:
    """The checkpoint from the state of the last stage."""
    aligner, scene_decoder = load_aligner(work), load_scene_decoder(work)
    if tuned:
        _load(Student(aligner, scene_decoder), work, "tune")
    save(assemble(aligner.classifier, aligner.projector, scene_decoder.decoder), out)
    save_clip(aligner.classifier, aligner.towers.text, out / "clip")


def load_towers(work: Path) -> Towers:
    return _load(Towers(), work, "tower")


def load_scene_decoder(work: Path) -> SceneDecoder:
    return _load(start_decoder(), work, "language")


def load_aligner(work: Path) -> Aligner:
    return _load(Aligner(load_towers(work), start_decoder()), work, "align")


def _load(module: ModuleT, work: Path, stage: str) -> ModuleT:
    saved = torch.load(work / f"{stage}.pt", weights_only=True)
    module.load_state_dict(saved["modules"])
    return module
