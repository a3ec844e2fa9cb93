"""Stage 1: vision and text tower together, by patch labels and by contrast.

Three losses: what each patch shows (tower.py), which caption belongs to which image (CLIP's, on [CLS]), and which
patches show what a phrase names (the same projection as CLIP's, on patches).
"""

from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn

from headwise.models.tower import Tower
from tools.embedded.loop import Metrics, Stage, optimizers_for, rank, run_stage
from tools.embedded.scenes import Scene, random_scene
from tools.embedded.symbols import cell_labels, is_foreground
from tools.embedded.text_tower import AWAY, LURES, TextTower, false_caption, full_caption, phrases_of
from tools.embedded.tower import PatchClassifier, classification_loss, to_pixels, tower_config

HELD_OUT = 64
TOP = 64  # the smallest budget of the study
IMAGE_WEIGHT, PATCH_WEIGHT = 0.5, 0.25


class Towers(nn.Module):
    """The patch classifier and the text tower."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = PatchClassifier(tower_config())
        self.text = TextTower()

    def embed(self, states_BNC: Tensor) -> Tensor:
        """Unit embeddings [B, 577, E] in CLIP's space."""
        return self.text.visual(self.classifier.tower.post_layernorm(states_BNC))

    def contrast(self, states_BNC: Tensor, scenes: list[Scene], rng: Random) -> tuple[Tensor, Metrics]:
        """The two losses against texts."""
        embedded_BNE = self.embed(states_BNC)
        captions = [full_caption(scene, rng) for scene in scenes]
        captions += [false_caption(scene, rng) for scene in scenes for _ in range(LURES)]
        phrases = phrases_of(scenes, rng)
        image = self.text.image_loss(embedded_BNE[:, 0], self.text.texts(captions))
        patch = self.text.patch_loss(embedded_BNE[:, 1:], self.text.texts(phrases.texts), phrases)
        return IMAGE_WEIGHT * image + PATCH_WEIGHT * patch, {"image": image.item(), "patch": patch.item()}


def train_towers(folder: Path, steps: int = 1500, batch: int = 12, seed: int = 1) -> Towers:
    """Both towers from scratch, on fresh scenes."""
    torch.manual_seed(seed)
    towers = Towers()

    def step_fn(step: int) -> tuple[Tensor, Metrics]:
        rng = Random(f"tower/{seed}/{step}/{rank()}")
        scenes = [random_scene(rng) for _ in range(batch)]
        labels = np.stack([cell_labels(scene) for scene in scenes])
        states = towers.classifier.states(to_pixels(scenes))
        named, right = classification_loss(towers.classifier, states[:, 1:], labels)
        contrast, metrics = towers.contrast(states, scenes, rng)
        return named + contrast, right | metrics

    optimizers = optimizers_for(towers, muon_rate=1e-2, adam_rate=2e-3)
    evaluate = lambda: measure(towers)  # noqa: E731
    run_stage(Stage("tower", folder, towers, optimizers, step_fn, steps, evaluate, every=50))
    return towers


@torch.inference_mode()
def measure(towers: Towers, count: int = HELD_OUT) -> Metrics:
    """What methods can see on scenes that no step has drawn.

    `retrieval`: share of captions and images that find each other among `count`, the lower of the two. `foreground`:
    share of foreground patches among the TOP by mean [CLS] attention, over chance. `named`, `towards`: share of the
    patches of what a phrase names among the TOP by CDPruner's relevance (minus the cosine), and by the cosine itself,
    over chance.
    """
    rng = Random("tower/held out")
    scenes = [random_scene(rng) for _ in range(count)]
    front_BV = torch.from_numpy(is_foreground(np.stack([cell_labels(scene) for scene in scenes])))
    signals = Tower(towers.classifier.tower, nn.Identity(), -1)
    attention, states = [], []
    for start in range(0, count, 16):
        pixels = to_pixels(scenes[start : start + 16])
        found = signals.signals(pixels, ("attention_HV",))
        attention += [each.attention_HV.mean(0) for each in found]
        states += [each.hidden_NC for each in found]
    embedded_BNE = towers.embed(torch.stack(states))
    found_BB = embedded_BNE[:, 0] @ towers.text.texts([full_caption(scene, rng) for scene in scenes]).T
    right = torch.arange(count)
    retrieval = min(float((found_BB.argmax(axis) == right).float().mean()) for axis in (0, 1))
    top_BV = torch.stack(attention).topk(TOP).indices
    foreground = front_BV.gather(1, top_BV).float().mean() / front_BV.float().mean()
    phrases = phrases_of(scenes, rng, 4)
    cosine_PV = (embedded_BNE[phrases.scene_P, 1:] @ towers.text.texts(phrases.texts)[..., None])[..., 0]
    return {
        "retrieval": retrieval,
        "foreground": float(foreground),
        "named": _found(AWAY * cosine_PV, phrases.cells_PN),
        "towards": _found(cosine_PV, phrases.cells_PN),
    }


def _found(score_PV: Tensor, cells_PV: Tensor) -> float:
    """Mean share of the cells among the TOP by score, over chance."""
    inside = cells_PV.gather(1, score_PV.topk(TOP).indices).sum(1) / cells_PV.sum(1)
    return float(inside.mean()) * score_PV.shape[1] / TOP
