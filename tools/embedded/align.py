"""Stages 3 and 4: align vision features with the decoder's embedding space.

`fit` trains the projector alone, on cached features; `align` then trains tower and projector together at a low
rate, with the patch classification loss: with an untrained projector, the tower forgot the shapes it had learned.
"""

from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from tools.embedded.batches import fresh_scenes
from tools.embedded.contrast import Towers
from tools.embedded.export import llava_config
from tools.embedded.language import SceneDecoder
from tools.embedded.loop import Metrics, Stage, optimizers_for, rank, run_stage
from tools.embedded.scenes import Scene
from tools.embedded.symbols import cell_labels, is_foreground
from tools.embedded.tower import BACKGROUND_WEIGHT, PatchClassifier, classification_loss, to_pixels


class Aligner(nn.Module):
    """Both towers and the projector; the text tower follows what the vision tower becomes."""

    def __init__(self, towers: Towers, scene_decoder: SceneDecoder) -> None:
        super().__init__()
        self.towers = towers
        self.projector = LlavaMultiModalProjector(llava_config(towers.classifier, scene_decoder.decoder))

    @property
    def classifier(self) -> PatchClassifier:
        """The vision tower with its label heads."""
        return self.towers.classifier

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 192, 192) → (B, 576, D)"""
        visual: Tensor = self.projector(self.classifier.features(pixels))
        return visual


def unexplained(visual: Tensor, labels: np.ndarray, scene_decoder: SceneDecoder) -> tuple[Tensor, Metrics]:
    """Unexplained share of the targets' variance, weighted towards the foreground."""
    with torch.no_grad():
        target = scene_decoder.cell_vectors(torch.from_numpy(labels))
    front = torch.from_numpy(is_foreground(labels))
    weight = torch.where(front, 1.0, BACKGROUND_WEIGHT)
    error = (visual - target).square().mean(-1) / target[front].var()
    loss = (error * weight).sum() / weight.sum()
    return loss, {"unexplained": loss.item(), "foreground": error[front].mean().item()}


def train_align(
    folder: Path, aligner: Aligner, scene_decoder: SceneDecoder, steps: int = 220, batch: int = 12, seed: int = 3
) -> Aligner:
    """Train tower and projector together, starting from a fitted projector."""

    def step_fn(step: int) -> tuple[Tensor, Metrics]:
        rng = Random(f"align/{seed}/{step}/{rank()}")
        scenes = fresh_scenes(rng, batch)
        labels = np.stack([cell_labels(scene) for scene in scenes])
        states = aligner.classifier.states(to_pixels(scenes))
        features = states[:, 1:]
        missed, metrics = unexplained(aligner.projector(features), labels, scene_decoder)
        named, right = classification_loss(aligner.classifier, features, labels)
        contrast, against = aligner.towers.contrast(states, scenes, rng)
        return 16 * missed + 0.3 * named + 0.1 * contrast, metrics | {"shape": right["shape"]} | against

    optimizers = optimizers_for(aligner, muon_rate=1.5e-3, adam_rate=7e-4)
    run_stage(Stage("align", folder, aligner, optimizers, step_fn, steps, every=25, warmup=10))
    return aligner


def fit_projector(
    folder: Path,
    aligner: Aligner,
    scene_decoder: SceneDecoder,
    features: np.ndarray,
    scenes: list[Scene],
    steps: int = 1500,
) -> None:
    """Train the projector alone, on 1,024 cells per step, drawn from the foreground and a sixth of the rest."""
    labels = np.stack([cell_labels(scene) for scene in scenes])
    front = is_foreground(labels)
    drawn = front | (np.random.default_rng(0).random(front.shape) < 1 / 6)
    rows, marks = torch.from_numpy(np.array(features)[drawn]), labels[drawn]

    def step_fn(step: int) -> tuple[Tensor, Metrics]:
        chosen = np.random.default_rng([step, rank()]).integers(0, len(marks), 1024)
        return unexplained(aligner.projector(rows[chosen].float()), marks[chosen], scene_decoder)

    optimizers = optimizers_for(aligner.projector, muon_rate=0.0, adam_rate=4e-3)
    run_stage(Stage("fit", folder, aligner.projector, optimizers, step_fn, steps, every=250))
