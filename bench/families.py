"""Checkpoints of random weights of each family, larger than those of the tests, and questions about random pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from headwise.records import Sample

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_families import FAMILIES, write_tiny

__all__ = ["FAMILIES", "SETTINGS", "made_groups", "write_checkpoint"]

HIDDEN, LAYERS = 192, 8
TILE = 64
SIZES = [(320, 240), (200, 300), (256, 256), (480, 160)]
QUESTIONS, WORDS = 6, 24
# Questions are made up; the benchmark only says that answers may be short.
SETTINGS = {"tokens": "0.333,0.222,0.111", "heads": "0.75,0.5,0.25", "budget": "kept"}
SETTINGS |= {"max_new_tokens": "8", "benchmark": "gqa"}
PINPOINTS = [[64, 128], [128, 64], [128, 128], [64, 192], [192, 64]]
PATCHES = {"shortest_edge": 4096, "longest_edge": 24_576}


def write_checkpoint(name: str, folder: Path) -> dict[str, Any]:
    """Save a family's checkpoint of 8 layers; the settings of a study that runs it."""
    write_tiny(name, folder)
    _change(folder / "config.json", _wider)
    _change(folder / "preprocessor_config.json", _larger)
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    qwen = name.startswith("qwen")
    limits = {"min_pixels": PATCHES["shortest_edge"], "max_pixels": PATCHES["longest_edge"]} if qwen else {}
    return {"model": str(folder), **limits}


def made_groups(images: int) -> list[tuple[Image.Image, list[Sample]]]:
    """Pictures of random pixels, each with several questions of random words."""
    rng, groups = np.random.default_rng(0), []
    for number in range(images):
        width, height = SIZES[number % len(SIZES)]
        picture = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        asked = [" ".join(f"w{word}" for word in rng.integers(0, 200, WORDS)) for _ in range(QUESTIONS)]
        named = [
            Sample(benchmark="bench", question_id=f"{number}-{place}", image=str(number), prompt=text)
            for place, text in enumerate(asked)
        ]
        groups.append((picture, named))
    return groups


def _change(path: Path, change: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _wider(config: dict[str, Any]) -> None:
    """A wider and deeper decoder, its heads of the same size and grouped alike; tiles of 64 pixels."""
    text, vision = config["text_config"], config["vision_config"]
    size = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
    shared = text["num_attention_heads"] // text["num_key_value_heads"]
    heads = HIDDEN // size
    text |= {"hidden_size": HIDDEN, "intermediate_size": 3 * HIDDEN, "num_hidden_layers": LAYERS, "dtype": "float32"}
    text |= {"num_attention_heads": heads, "num_key_value_heads": heads // shared, "head_dim": size}
    text["initializer_range"] = 0.1
    text.pop("layer_types", None)
    config["dtype"] = "float32"
    if "out_hidden_size" in vision:
        vision["out_hidden_size"] = HIDDEN
    if "image_size" in vision:
        vision["image_size"] = [TILE, TILE] if isinstance(vision["image_size"], list) else TILE
    if "image_grid_pinpoints" in config:
        config["image_grid_pinpoints"] = PINPOINTS
    if "image_seq_length" in config:
        config["image_seq_length"] *= 4


def _larger(content: dict[str, Any]) -> None:
    """An image processor of such tiles."""
    tile = {"height": TILE, "width": TILE}
    if "image_grid_pinpoints" in content:
        content["image_grid_pinpoints"] = PINPOINTS
    if "crop_size" in content:
        content |= {"size": {"shortest_edge": TILE}, "crop_size": tile}
    elif "max_image_size" in content:
        content |= {"size": {"longest_edge": 4 * TILE}, "max_image_size": {"longest_edge": TILE}}
    elif "shortest_edge" in content["size"]:
        content["size"] = PATCHES
    else:
        content["size"] = tile
