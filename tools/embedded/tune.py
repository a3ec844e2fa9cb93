"""Stage 5: questions about images. The tower is frozen, so its features are computed once and cached on disk.

Training prunes no tokens and does not guide the layer whose attention the study reads.
"""

from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn

from tools.embedded.align import Aligner
from tools.embedded.batches import PREFIX, make_batch, moved
from tools.embedded.captions import caption_batch
from tools.embedded.curve import read_log
from tools.embedded.decoder import Batch, Watch
from tools.embedded.language import SceneDecoder, lagging
from tools.embedded.loop import Metrics, Stage, optimizers_for, rank, run_stage
from tools.embedded.losses import accuracy_by_kind, answer_loss, guide_loss, guided_layers
from tools.embedded.questions import KINDS
from tools.embedded.scenes import Scene, random_scene
from tools.embedded.tower import to_pixels

HELD_OUT = 64  # the first scenes are for evaluation
LOOK_WEIGHT = 0.1
BACKGROUND = 24  # cells of clutter and of background sampled per step, each representing many


class Student(nn.Module):
    """The modules trained in stage 5: projector and decoder."""

    def __init__(self, aligner: Aligner, scene_decoder: SceneDecoder) -> None:
        super().__init__()
        self.projector, self.scene_decoder = aligner.projector, scene_decoder

    def forward(
        self, batch: Batch, features_BND: Tensor, watch: Watch | None = None
    ) -> tuple[Tensor, dict[int, Tensor]]:
        result: tuple[Tensor, dict[int, Tensor]] = self.scene_decoder(batch, self.projector(features_BND), watch)
        return result


def scene_number(i: int) -> Scene:
    return random_scene(Random(f"tune/{i}"))


@torch.inference_mode()
def cached_features(folder: Path, aligner: Aligner, count: int, name: str) -> np.ndarray:
    """(count, 576, width) float16 tower features, cached on disk by name and count."""
    path = folder / f"{name}-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        width = aligner.classifier.tower.config.hidden_size
        part = path.with_suffix(".part")
        store = np.lib.format.open_memmap(part, "w+", np.float16, (count, 576, width))
        for start in range(0, count, 16):
            scenes = [scene_number(i) for i in range(start, min(count, start + 16))]
            store[start : start + len(scenes)] = aligner.classifier.features(to_pixels(scenes)).numpy()
        store.flush()
        part.replace(path)
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


def rows_of(data: Batch, features: np.ndarray, numbers: list[int]) -> Tensor:
    """Tower features of a batch's sampled cells; padding gets those of the first cell."""
    cells = (data.positions_BN - PREFIX).clamp_min(0).numpy()
    return torch.from_numpy(np.stack([features[i][row] for i, row in zip(numbers, cells, strict=True)])).float()


def train_tune(
    folder: Path,
    aligner: Aligner,
    scene_decoder: SceneDecoder,
    features: np.ndarray,
    steps: int = 700,
    guide: bool = True,
    seed: int = 4,
) -> Student:
    """Projector and decoder on images; `guide` supervises where layer 4 looks."""
    torch.manual_seed(seed)
    student = Student(aligner, scene_decoder)
    shares = lagging(read_log(folder, "tune")[-1:])

    def step_fn(step: int) -> tuple[Tensor, Metrics]:
        rng = Random(f"tune/{seed}/{step}/{rank()}")
        numbers = [rng.randrange(HELD_OUT, len(features)) for _ in range(4)]
        scenes = [scene_number(i) for i in numbers]
        if step % 5 == 4:
            data = caption_batch(rng, scenes, 12, BACKGROUND)
        else:
            data, _ = make_batch(rng, scenes, 12, shares, BACKGROUND)
        rows = rows_of(data, features, numbers)
        return student_loss(student, moved(rng, data), rows, guide)

    def evaluate() -> Metrics:
        measured = held_out(student, features)
        shares.update(lagging([measured]))
        return measured

    optimizers = optimizers_for(student, muon_rate=4e-3, adam_rate=1.5e-3)
    run_stage(Stage("tune", folder, student, optimizers, step_fn, steps, evaluate, every=50))
    return student


def student_loss(student: Student, data: Batch, rows: Tensor, guide: bool = True) -> tuple[Tensor, Metrics]:
    logits, watched = student(data, rows, guided_layers(data))
    answer = answer_loss(logits, data.targets_BMT)
    return answer + LOOK_WEIGHT * guide_loss(logits, watched, data, guide), {"answer": answer.item()}


def held_out(student: Student, features: np.ndarray, scenes: int = 24) -> Metrics:
    """Accuracy per kind on held-out scenes."""
    found: dict[str, list[float]] = {}
    rng = Random("tune/held out")
    with torch.no_grad():
        for start in range(0, scenes, 8):
            numbers = list(range(start, start + 8))
            shares = dict.fromkeys(KINDS, 1.0)
            data, asked = make_batch(rng, [scene_number(i) for i in numbers], 20, shares, BACKGROUND)
            logits, _ = student(moved(rng, data), rows_of(data, features, numbers))
            kinds = [[question.kind for question in row] for row in asked]
            for kind, values in accuracy_by_kind(logits, data, kinds).items():
                found.setdefault(kind, []).extend(values)
    means = {kind: sum(values) / len(values) for kind, values in sorted(found.items())}
    return means | {"mean": sum(means.values()) / len(means)}
