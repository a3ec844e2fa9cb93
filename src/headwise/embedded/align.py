"""Stage 2: the tower learns to say what it sees in the decoder's words, and the projector with it.

The target of a cell is the sum of the starting vectors of its labels, so that what the decoder will look for
lies in straight directions of the features. `fit` later moves the projector to the vectors the decoder ended
with; the tower stays as it is, so its features are computed once.
"""

from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from headwise.embedded.batches import fresh_scenes
from headwise.embedded.export import llava_config
from headwise.embedded.language import Speaker
from headwise.embedded.loop import Metrics, Stage, optimizers_for, rank, run_stage
from headwise.embedded.symbols import cell_labels, is_foreground
from headwise.embedded.tower import BACKGROUND_WEIGHT, Namer, to_pixels


class Aligner(nn.Module):
    def __init__(self, namer: Namer, speaker: Speaker) -> None:
        super().__init__()
        self.namer = namer
        self.projector = LlavaMultiModalProjector(llava_config(namer, speaker.decoder))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 192, 192) → (B, 576, D)"""
        visual: Tensor = self.projector(self.namer.features(pixels))
        return visual


def unexplained(visual_BND: Tensor, labels: np.ndarray, speaker: Speaker) -> tuple[Tensor, Metrics]:
    """Share of the targets' variance that is missed, the foreground counting most."""
    with torch.no_grad():
        target = speaker.cell_vectors(torch.from_numpy(labels))
    front = torch.from_numpy(is_foreground(labels))
    weight = torch.where(front, 1.0, BACKGROUND_WEIGHT)
    error = (visual_BND - target).square().mean(-1) / target[front].var()
    loss = (error * weight).sum() / weight.sum()
    return loss, {"unexplained": loss.item(), "foreground": error[front].mean().item()}


def train_align(
    folder: Path, namer: Namer, speaker: Speaker, steps: int = 350, batch: int = 12, seed: int = 3
) -> Aligner:
    torch.manual_seed(seed)
    aligner = Aligner(namer, speaker)

    def step_fn(step: int) -> tuple[Tensor, Metrics]:
        scenes = fresh_scenes(Random(f"align/{seed}/{step}/{rank()}"), batch)
        labels = np.stack([cell_labels(scene) for scene in scenes])
        return unexplained(aligner(to_pixels(scenes)), labels, speaker)

    optimizers = optimizers_for(aligner, muon_rate=4e-3, adam_rate=2e-3)
    run_stage(Stage("align", folder, aligner, optimizers, step_fn, steps, every=25))
    return aligner
