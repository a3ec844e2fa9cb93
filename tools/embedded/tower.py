"""Stage 1: train the vision tower as a patch classifier (a CLIP tower without its text encoder)."""

from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from tools.embedded.loop import Metrics, Stage, optimizers_for, rank, run_stage
from tools.embedded.render import SIDE, render
from tools.embedded.scenes import Scene, random_scene
from tools.embedded.symbols import FIELDS, cell_labels, is_foreground
from tools.embedded.vocabulary import CELL

IMAGE_MEAN = (0.5, 0.5, 0.45)
IMAGE_STD = (0.3, 0.3, 0.3)
BACKGROUND_WEIGHT = 0.1  # five cells in six are background, which is learned quickly


def tower_config(width: int = 96, layers: int = 3) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=CELL,
        projection_dim=width,
        hidden_act="gelu",
    )


class PatchClassifier(nn.Module):
    """The tower and one linear classifier per label field; only the tower is kept."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(config)
        self.heads = nn.ModuleDict({name: nn.Linear(config.hidden_size, size) for name, size in FIELDS.items()})

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, 192, 192) → (B, 576, width): LLaVA's input with `vision_feature_layer=-1`, CLS dropped."""
        return self.tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]


def to_pixels(scenes: list[Scene]) -> Tensor:
    """(B, 3, 192, 192) float32, normalised as the saved image processor does."""
    images = torch.from_numpy(np.stack([render(scene) for scene in scenes])).float() / 255
    return ((images - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)).permute(0, 3, 1, 2)


def classification_loss(
    classifier: PatchClassifier, features_BNC: Tensor, labels_BNF: np.ndarray
) -> tuple[Tensor, Metrics]:
    """Cross-entropy of every label field, and each field's accuracy on the foreground."""
    foreground = torch.from_numpy(is_foreground(labels_BNF)).flatten()
    weight = torch.where(foreground, 1.0, BACKGROUND_WEIGHT)
    targets = torch.from_numpy(labels_BNF).flatten(0, 1)
    total, right = torch.zeros(()), {}
    for i, (name, head) in enumerate(classifier.heads.items()):
        logits = head(features_BNC).flatten(0, 1)
        loss = F.cross_entropy(logits, targets[:, i], reduction="none")
        total = total + (loss * weight).sum() / weight.sum()
        right[name] = (logits.argmax(-1) == targets[:, i])[foreground].float().mean().item()
    return total, right


def train_tower(folder: Path, steps: int = 500, batch: int = 12, seed: int = 1) -> PatchClassifier:
    torch.manual_seed(seed)
    classifier = PatchClassifier(tower_config())

    def step_fn(step: int) -> tuple[Tensor, Metrics]:
        rng = Random(f"tower/{seed}/{step}/{rank()}")
        scenes = [random_scene(rng) for _ in range(batch)]
        labels = np.stack([cell_labels(scene) for scene in scenes])
        return classification_loss(classifier, classifier.features(to_pixels(scenes)), labels)

    optimizers = optimizers_for(classifier, muon_rate=1e-2, adam_rate=2e-3)
    run_stage(Stage("tower", folder, classifier, optimizers, step_fn, steps, every=25))
    return classifier
