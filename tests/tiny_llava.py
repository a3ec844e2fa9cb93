"""A LLaVA checkpoint of random weights, small enough to write and run in a second."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
WORDS = SPECIAL + ["yes", "no", "red", "blue", "cat", "dog", "USER", ":", "ASSISTANT", "?", "."]
WORDS += ["Is", "there", "a", "What"]


def write_tiny_llava(
    folder: Path, seed: int = 0, layers: int = 4, heads: int = 8, side: int = 4, width: int = 32
) -> Path:
    """Save a checkpoint with side×side visual tokens (8-pixel patches), its tokenizer and its image processor."""
    torch.manual_seed(seed)
    text = LlamaConfig(
        vocab_size=40,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        initializer_range=0.3,
    )
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8 * side,
        patch_size=8,
        projection_dim=16,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=4, vision_feature_layer=-2)
    LlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 8 * side}, crop_size={"height": 8 * side, "width": 8 * side}
    ).save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: place for place, word in enumerate(WORDS + [f"w{n}" for n in range(40 - len(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
