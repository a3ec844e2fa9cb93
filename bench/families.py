"""A family at random weights and middling size, with pictures and questions: what `grid.py --family` times.

The configuration is the golden files' with a wider and deeper decoder; the cells are shares of V and H. The baseline
is the engine with one cell and one question at a time, every optimization off, the image encoded anew.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from headwise.engine import Engine, Optimizations, Question
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.contract import ImageOptions
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_families import FAMILIES, write_tiny

__all__ = ["FAMILIES", "FamilyWork"]

DECODER = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 12, "head_dim": 64}
SIZES = [(150, 150), (220, 100), (110, 200)]
QUESTIONS = ("Is there a w5 ?", "What is w9 w11 ?", "Is w20 a w21 ?", "What is there ?", "Is there w30 w31 w32 ?")
SHARES, HEADS = (0.5, 0.3333, 0.2222), (0.75, 0.5, 0.25)
STRATEGIES = ("sparsity", "sum", "variance", "top_k_sum")
ALONE = Optimizations(**dict.fromkeys(Optimizations.__dataclass_fields__, False))


def write_middling(name: str, folder: Path) -> Path:
    """The tiny checkpoint's files with a larger decoder of random weights."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    write_tiny(name, folder)
    config = AutoConfig.from_pretrained(folder)
    text = config.text_config
    for key, value in DECODER.items():
        if key != "head_dim" or hasattr(text, "head_dim"):
            setattr(text, key, value)
    if getattr(text, "layer_types", None):
        text.layer_types = ["full_attention"] * DECODER["num_hidden_layers"]
    rope = getattr(text, "rope_parameters", None) or {}
    if "mrope_section" in rope:
        pairs = (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads) // 2
        rope["mrope_section"] = [part * pairs // sum(rope["mrope_section"]) for part in rope["mrope_section"]]
    vision = config.vision_config
    if hasattr(vision, "out_hidden_size"):
        vision.out_hidden_size = DECODER["hidden_size"]
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    return folder


class FamilyWork:
    """Questions about a few pictures, and cells, on one family."""

    def __init__(self, name: str) -> None:
        folder = write_middling(name, Path(tempfile.mkdtemp()))
        checkpoint = find_checkpoint(str(folder))
        if "min_pixels" in checkpoint.image_options:
            checkpoint = checkpoint.seen_as(ImageOptions(min_pixels=256, max_pixels=64 * 64 * 4))
        self.vlm = Vlm(checkpoint)
        self.decoder = Decoder(self.vlm.model)
        self.cells = [
            Cell(strategy=strategy, tokens=share, heads=heads, budget="kept")
            for strategy in STRATEGIES
            for share in SHARES
            for heads in HEADS
        ]
        rng = np.random.default_rng(0)
        self.pictures = [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]
        self.questions = len(self.pictures) * len(QUESTIONS)
        self.steps = 6

    def grid(self) -> dict[tuple[int, int, int], list[int]]:
        """Answers by (picture, question, cell), all at once."""
        pixels = [self.vlm.prepare(picture) for picture in self.pictures]
        asked = [
            Question(place, self.vlm.question(text), f"{place}/{number}")
            for place in range(len(pixels))
            for number, text in enumerate(QUESTIONS)
        ]
        engine = Engine(self.decoder, self.vlm.system(), self.cells, self.vlm.visual, self.steps)
        found = engine.answer(self.vlm.encode_images(pixels), asked)
        return {
            (*divmod(row, len(QUESTIONS)), column): branch.tokens
            for row, branches in enumerate(found)
            for column, branch in enumerate(branches)
        }

    def one_by_one(self, every: int = 1) -> dict[tuple[int, int, int], list[int]]:
        """The same, each answer alone: image, prompt and choice computed anew; every n-th of them."""
        said = {}
        places = [(p, q, c) for p in range(len(SIZES)) for q in range(len(QUESTIONS)) for c in range(len(self.cells))]
        for place, number, column in places[::every]:
            image = self.vlm.encode_images([self.vlm.prepare(self.pictures[place])])[0]
            cells = [self.cells[column]]
            engine = Engine(self.decoder, self.vlm.system(), cells, self.vlm.visual, self.steps, ALONE)
            question = Question(0, self.vlm.question(QUESTIONS[number]), f"{place}/{number}")
            said[place, number, column] = engine.answer([image], [question])[0][0].tokens
        return said
