"""What a finished checkpoint's [CLS] attention and text tower find, measured with headwise's own signals and methods.

Nothing here reads the training state: the tower, CLIP's folder and CDPruner's relevance are those that a study runs.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel, LlavaForConditionalGeneration

from headwise.methods._clip import CLIP_SIGNALS
from headwise.methods.cdpruner import CDPruner
from headwise.methods.contract import Vision
from headwise.models.clip_text import ClipText
from headwise.models.tower import Tower
from tools.embedded.loop import Metrics
from tools.embedded.scenes import Scene, random_scene
from tools.embedded.symbols import cell_labels, is_foreground
from tools.embedded.texts import Phrases, full_caption, phrases_of
from tools.embedded.tower import to_pixels

HELD_OUT = 64
TOP = 64  # the smallest budget of the study
SIGNALS = {"attention_HV", "deep_layer_V", "hidden_NC", "projected_VD", *CLIP_SIGNALS[:2]}


def unseen_scenes(count: int = HELD_OUT) -> list[Scene]:
    """Scenes that no stage draws."""
    rng = Random("tower/held out")
    return [random_scene(rng) for _ in range(count)]


@torch.inference_mode()
def measure_checkpoint(model: Path, count: int = HELD_OUT) -> Metrics:
    """Of a LLaVA folder with its CLIP in `clip/`.

    `retrieval`: share of captions and images that find each other among `count`, the lower of the two. `foreground`:
    share of foreground patches among the TOP by mean [CLS] attention, over chance; `received`: by the attention that
    patches receive from all, which HiPrune reads. `named`: share of the patches of
    what a text names among the TOP by CDPruner's relevance, over chance; `against`: by its opposite.
    """
    scenes = unseen_scenes(count)
    visions = _visions(model, scenes)
    front_BV = torch.from_numpy(is_foreground(np.stack([cell_labels(scene) for scene in scenes])))
    phrases = phrases_of(scenes, Random("tower/phrases"), 4)
    relevance_PV = _relevance(model / "clip", visions, phrases)
    return {
        "retrieval": _retrieval(model / "clip", scenes),
        "foreground": among_top(torch.stack([vision.attention_HV.mean(0) for vision in visions]), front_BV),
        "received": among_top(torch.stack([vision.deep_layer_V for vision in visions]), front_BV),
        "named": found(relevance_PV, phrases.cells_PN),
        "against": found(-relevance_PV, phrases.cells_PN),
    }


def among_top(score_BV: Tensor, wanted_BV: Tensor) -> float:
    """Share of wanted patches among the TOP by score, over their share of the image."""
    share = wanted_BV.gather(1, score_BV.topk(TOP).indices).float().mean()
    return float(share / wanted_BV.float().mean())


def found(score_PV: Tensor, cells_PV: Tensor) -> float:
    """Mean share of the cells that are among the TOP by score, over chance."""
    inside = cells_PV.gather(1, score_PV.topk(TOP).indices).sum(1) / cells_PV.sum(1)
    return float(inside.mean()) * score_PV.shape[1] / TOP


def _visions(model: Path, scenes: list[Scene]) -> list[Vision]:
    llava = LlavaForConditionalGeneration.from_pretrained(model).eval().model
    tower = Tower(llava.vision_tower, llava.multi_modal_projector, llava.config.vision_feature_layer)
    return [
        vision
        for start in range(0, len(scenes), 16)
        for vision in tower.signals(to_pixels(scenes[start : start + 16]), SIGNALS)
    ]


def _relevance(clip: Path, visions: list[Vision], phrases: Phrases) -> Tensor:
    text = ClipText(str(clip), visions[0].hidden_NC.shape[1])
    method, rows = CDPruner(), []
    for words, number in zip(phrases.texts, phrases.scene_P.tolist(), strict=True):
        text_ME = text.embed(method.text(words), method.text_encoder)
        vision = replace(visions[number], text_ME=text_ME, visual_projection_EC=text.visual_projection_EC)
        rows.append(method.similarity(vision))
    return torch.stack(rows)


def _retrieval(clip: Path, scenes: list[Scene]) -> float:
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), AutoTokenizer.from_pretrained(clip)
    rng = Random("tower/captions")
    given = tokenizer([full_caption(scene, rng) for scene in scenes], padding=True, return_tensors="pt")
    texts = {"input_ids": given.input_ids, "attention_mask": given.attention_mask}
    logits_BB = model(pixel_values=to_pixels(scenes), **texts).logits_per_image
    right = torch.arange(len(scenes))
    return min(float((logits_BB.argmax(axis) == right).float().mean()) for axis in (0, 1))
