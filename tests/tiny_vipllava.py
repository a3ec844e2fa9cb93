"""A ViP-LLaVA checkpoint of random weights: the example of docs/extending.md has something to drive."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_llava import write_tiny_llava
from transformers import AutoConfig, AutoTokenizer, VipLlavaConfig, VipLlavaForConditionalGeneration


def write_tiny_vipllava(folder: str | Path) -> Path:
    """Save it with the tokenizer and image processor of the tiny LLaVA."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    llava = AutoConfig.from_pretrained(write_tiny_llava(folder))
    parts = {"text_config": llava.text_config, "vision_config": llava.vision_config, "image_token_index": 4}
    torch.manual_seed(5)
    config = VipLlavaConfig(**parts, vision_feature_layers=[-2, 1])
    config.image_token_id = 4
    VipLlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    return folder
