"""Stage 1: vision and text tower together, by patch labels and by contrast.

Four losses: what each patch shows (tower.py), which caption belongs to which image (CLIP's, on [CLS]), what image and
caption list (text_tower.py), and which patches show what a phrase names (the same projection as CLIP's, on patches).
"""

from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn

from headwise.models.tower import Tower
from tools.embedded.loop import Metrics, Stage, optimizers_for, rank, run_stage
from tools.embedded.measure import among_top, found, unseen_scenes
from tools.embedded.scenes import Scene, random_scene
from tools.embedded.symbols import cell_labels, is_foreground
from tools.embedded.text_tower import AWAY, TextTower
from tools.embedded.texts import LURES, OTHERS, false_caption, full_caption, inventory, phrases_of
from tools.embedded.tower import PatchClassifier, classification_loss, to_pixels, tower_config

IMAGE_WEIGHT, PATCH_WEIGHT, INVENTORY_WEIGHT = 0.5, 0.25, 0.1


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
        """The losses against texts: what belongs to the image, and what is where in it."""
        embedded_BNE = self.embed(states_BNC)
        told = [*scenes, *(random_scene(rng) for _ in range(OTHERS))]
        captions = [full_caption(scene, rng) for scene in told]
        captions += [false_caption(scene, rng) for scene in scenes for _ in range(LURES)]
        phrases = phrases_of(scenes, rng)
        captions_TE = self.text.texts(captions)
        image = self.text.image_loss(embedded_BNE[:, 0], captions_TE)
        has_TL = torch.stack([inventory(scene) for scene in told])
        listed = self.text.inventory_loss(embedded_BNE[:, 0], has_TL[: len(scenes)])
        read = self.text.inventory_loss(captions_TE[: len(told)], has_TL)
        patch = self.text.patch_loss(embedded_BNE[:, 1:], self.text.texts(phrases.texts), phrases)
        loss = IMAGE_WEIGHT * image + PATCH_WEIGHT * patch + INVENTORY_WEIGHT * (listed + read)
        parts = {"image": image, "patch": patch, "listed": listed, "read": read}
        return loss, {name: part.item() for name, part in parts.items()}


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
def measure(towers: Towers) -> Metrics:
    """What `measure_checkpoint` will find, so far; see there."""
    rng = Random("tower/held out/texts")
    scenes = unseen_scenes()
    front_BV = torch.from_numpy(is_foreground(np.stack([cell_labels(scene) for scene in scenes])))
    signals = Tower(towers.classifier.tower, nn.Identity(), -1)
    visions = [
        vision
        for start in range(0, len(scenes), 16)
        for vision in signals.signals(to_pixels(scenes[start : start + 16]), ("attention_HV", "deep_layer_V"))
    ]
    embedded_BNE = towers.embed(torch.stack([vision.hidden_NC for vision in visions]))
    logits_BB = embedded_BNE[:, 0] @ towers.text.texts([full_caption(scene, rng) for scene in scenes]).T
    right = torch.arange(len(scenes))
    phrases = phrases_of(scenes, rng, 4)
    cosine_PV = (embedded_BNE[phrases.scene_P, 1:] @ towers.text.texts(phrases.texts)[..., None])[..., 0]
    return {
        "retrieval": min(float((logits_BB.argmax(axis) == right).float().mean()) for axis in (0, 1)),
        "foreground": among_top(torch.stack([vision.attention_HV.mean(0) for vision in visions]), front_BV),
        "received": among_top(torch.stack([vision.deep_layer_V for vision in visions]), front_BV),
        "named": found(AWAY * cosine_PV, phrases.cells_PN),
        "against": found(-AWAY * cosine_PV, phrases.cells_PN),
    }
