"""A ViP-LLaVA checkpoint of random weights: a family that headwise does not hold, but a plug-in can."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_families import tokenizer_of
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)

SIZES = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 24}


def write_tiny_vip_llava(folder: Path) -> Path:
    """Save a checkpoint of 16 visual tokens, its tokenizer and its image processor."""
    torch.manual_seed(0)
    text = LlamaConfig(**SIZES | {"num_hidden_layers": 4}, vocab_size=320, bos_token_id=1, eos_token_id=310)
    text.initializer_range = 0.3
    vision = CLIPVisionConfig(**SIZES, image_size=32, patch_size=8, projection_dim=16)
    config = VipLlavaConfig(
        vision_config=vision, text_config=text, image_token_index=300, vision_feature_layers=[-2, -3]
    )
    VipLlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    tokenizer_of("<image>").save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
