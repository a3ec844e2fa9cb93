"""A window of questions behind a long system prompt, for a decoder of random weights and grouped key-value heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from headwise.engine import Question
from headwise.study.cells import Cell

LAYERS, WIDTH, HEADS, SYSTEM, VISUAL, STEPS = 6, 32, 4, 35, 23, 4
CELLS = [
    Cell(strategy="vanilla", tokens=1),
    Cell(strategy="sum", tokens=9, heads=2, budget="kept"),
    Cell(strategy="sum", tokens=6, heads=3, budget="kept"),
    Cell(strategy="fastv", tokens=14, layer=3),
    Cell(strategy="pdrop", tokens=12),
    Cell(strategy="sparsevlm", tokens=15),
]


def small_model() -> LlamaForCausalLM:
    torch.manual_seed(5)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 40, "num_hidden_layers": LAYERS, "vocab_size": 60}
    heads = {"num_attention_heads": HEADS, "num_key_value_heads": 2, "initializer_range": 0.25}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, eos_token_id=59)).eval()


def asked(lengths: Sequence[int]) -> tuple[Tensor, Tensor, list[Question]]:
    """The system prompt, two images, and questions of these lengths about them in turn."""
    draw = torch.Generator().manual_seed(7)
    before, pictures = torch.randn(SYSTEM, WIDTH, generator=draw), torch.randn(2, VISUAL, WIDTH, generator=draw)
    texts = [torch.randn(length, WIDTH, generator=draw) for length in lengths]
    return before, pictures, [Question(n % 2, text, f"q{n}") for n, text in enumerate(texts)]
