"""Attention behind a prompt: what it computes, and that no mask is built before the answer."""

from __future__ import annotations

import pytest
import torch
from slow_stages import Slow
from small_window import CELLS, HEADS, LAYERS, STEPS, SYSTEM, VISUAL, asked, small_model
from torch.nn.attention.bias import CausalBias

from headwise.engine import Engine
from headwise.methods.stages import inside_method, stages_of
from headwise.models import attention
from headwise.models.decoder import Decoder
from headwise.study.cells import Geometry


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.mark.parametrize(("rows", "keys"), [(1, 9), (5, 5), (5, 9), (9, 44)])
@pytest.mark.parametrize("heads", [2, 8])
def test_rows_see_what_stands_before_them_and_the_last_key_is_the_last_rows(rows, keys, heads):
    query, key, value = torch.randn(3, 8, rows, 4), torch.randn(3, heads, keys, 4), torch.randn(3, heads, keys, 4)
    mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
    wide_key, wide_value = (each.repeat_interleave(8 // heads, 1) for each in (key, value))
    products = (query @ wide_key.transpose(-1, -2) * 0.3).masked_fill(~mask, -torch.inf)
    expected = products.softmax(-1) @ wide_value
    torch.testing.assert_close(attention.attend(query, key, value, None, 0.3), expected)
    torch.testing.assert_close(attention.attend(query, key, value, mask[None, None], 0.3), expected)
    torch.testing.assert_close(attention.scores(query, key, 0.3).masked_fill(~mask, -torch.inf), products)


def test_the_model_keeps_its_own_attention(model):
    before, pictures, questions = asked([4])
    assert model.config._attn_implementation == "sdpa"
    Engine(Decoder(model), before, CELLS[1:2], VISUAL, 1).answer(pictures, questions)
    assert model.config._attn_implementation == "sdpa"


@torch.inference_mode()
def test_a_long_system_prompt_in_front_of_several_stages_and_unequal_questions(model):
    before, pictures, questions = asked([4, 9, 4, 1])
    geometry = Geometry(layers=LAYERS, heads=HEADS, visual=VISUAL)
    found = Engine(Decoder(model), before, CELLS[2:], VISUAL, STEPS, keep_logits=True).answer(pictures, questions)
    for question, row in zip(questions, found, strict=True):
        whole = torch.cat([before, pictures[question.image], question.embeds_QD])
        for cell, branch in zip(CELLS[3:], row[1:], strict=True):
            compacted = inside_method(cell.strategy).positions == "compacted"
            slow = Slow(model, whole, SYSTEM, VISUAL, cell.strategy, stages_of(cell, geometry), compacted)
            tokens, logits = slow.answer(STEPS)
            torch.testing.assert_close(branch.logits, logits, atol=1e-4, rtol=0)
            assert branch.tokens == tokens


def test_no_mask_before_the_answer(model, monkeypatch):
    """A prefill of unequal questions has no mask; CausalBias is what kernels take in its place."""
    seen = []
    right = attention.scaled_dot_product_attention

    def watched(*given, attn_mask=None, **more):
        seen.append((given[0].shape[2], attn_mask))
        return right(*given, attn_mask=attn_mask, **more)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", watched)
    before, pictures, questions = asked([4, 9, 4, 1])
    Engine(Decoder(model), before, CELLS, VISUAL, 1).answer(pictures, questions)
    assert len(seen) > LAYERS
    assert all(mask is None or isinstance(mask, CausalBias) for _, mask in seen)
    assert any(isinstance(mask, CausalBias) for _, mask in seen)
