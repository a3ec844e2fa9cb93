"""LLaVA-1.5-7B's decoder on tensors without content: no read of a value in a prefill, and no needless work.

Fake tensors have shapes and no memory, so the model's own 32 layers of 4,096 run on any machine; whatever would read a
value (and on a GPU wait for it) raises.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from headwise.engine import Engine
from headwise.engine.branches import Stack
from headwise.engine.grow import ImageRows, images_of
from headwise.engine.levers import Optimizations
from headwise.engine.prefix import Questions
from headwise.engine.tree import Node
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell

SYSTEM, VISUAL, TEXT, KEPT, LAYERS, WIDE, INNER, WORDS = 35, 576, 40, 166, 32, 4096, 11008, 32064
BRANCHES, PRUNED = 88, 2


def attention_flops(query, key, value, *_, **__):
    """Both products, dense: what torch's counter takes for the other kernels (it does not know the CPU's)."""
    batch, heads, rows, size = query
    return 2 * 2 * batch * heads * rows * key[2] * size


@pytest.fixture
def fake():
    with FakeTensorMode(), torch.inference_mode():
        yield


def model():
    sizes = {"hidden_size": WIDE, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "vocab_size": WORDS}
    config = LlamaConfig(**sizes, num_attention_heads=32, num_key_value_heads=32, eos_token_id=2)
    torch.set_default_dtype(torch.float16)
    try:
        return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def nodes(decoder, system):
    """Two images, eight questions, and eleven branches of each."""
    half = torch.float16
    engine = Engine(decoder, torch.empty(SYSTEM, WIDE, dtype=half), [Cell(strategy="vanilla", tokens=1)], VISUAL, 8)
    rows = [ImageRows.whole(torch.empty(VISUAL, WIDE, dtype=half)) for _ in range(2)]
    images = images_of(decoder, engine.system, rows)
    trunk = Questions(images, [torch.empty(TEXT, WIDE, dtype=half) for _ in range(8)], [0] * 4 + [1] * 4)
    trunk.extend(PRUNED)
    kept = [torch.empty(KEPT, dtype=torch.long) for _ in range(BRANCHES)]
    asked = [n % 8 for n in range(BRANCHES)]
    asked.sort()
    return [
        Node(trunk, row, row, PRUNED, trunk, row, places, places, PRUNED, kept_R=places)
        for row, places in zip(asked, kept, strict=True)
    ]


def needed() -> float:
    """FLOPs of the branches: layers K + 1 .. 31, keys and values of the last, one row of it, and the words."""
    rows = KEPT + TEXT
    layer = 2 * (4 * WIDE**2 + 3 * WIDE * INNER)
    attention = 4 * WIDE * (SYSTEM + rows)
    own = (LAYERS - PRUNED - 1) * rows * (layer + attention) + rows * 4 * WIDE**2
    return BRANCHES * (own + layer - 4 * WIDE**2 + attention + 2 * WIDE * WORDS)


def test_a_prefill_of_the_7b_decoder_reads_nothing_and_computes_what_it_must(fake):
    decoder = Decoder(model())
    stacked = nodes(decoder, SYSTEM)
    kernel = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
    with FlopCounterMode(display=False, custom_mapping=kernel) as counter:
        stack = Stack(stacked, [[] for _ in stacked], Optimizations(), keep_logits=False)
    assert stack.read.shape == (2, BRANCHES, 1)
    assert 0.99 < counter.get_total_flops() / needed() <= 1.05


def test_a_read_of_a_value_would_be_noticed(fake):
    from torch._subclasses.fake_tensor import DataDependentOutputException

    with pytest.raises(DataDependentOutputException):
        torch.ones(1).item()
