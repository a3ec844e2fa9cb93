"""The vision tower as a patch classifier: one half of stage 1 (contrast.py is the other)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from tools.embedded.loop import Metrics
from tools.embedded.render import SIDE, render
from tools.embedded.scenes import Scene
from tools.embedded.symbols import FIELDS, is_foreground
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
        return self.states(pixels)[:, 1:]

    def states(self, pixels: Tensor) -> Tensor:
        """(B, 3, 192, 192) → (B, 577, width), [CLS] first."""
        states: Tensor = self.tower(pixels, output_hidden_states=True).hidden_states[-1]
        return states


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
