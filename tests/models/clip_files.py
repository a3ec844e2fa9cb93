"""A full CLIP of random weights with a tokenizer of single letters, small enough to write and run in a second."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

LENGTH = 77


def write_tiny_clip(path: Path, width: int = 16) -> Path:
    """Save a CLIP whose vision tower is `width` wide."""
    letters = "abcdefghijklmnopqrstuvwxyz?.:"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(path, model_max_length=LENGTH).save_pretrained(path)
    small = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = small | {"vocab_size": len(tokens), "bos_token_id": len(tokens) - 2, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(3)
    config = CLIPConfig(text_config=text, vision_config=small | {"image_size": 8, "patch_size": 4}, projection_dim=12)
    CLIPModel(config).save_pretrained(path)
    return path
