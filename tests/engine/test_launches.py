"""Calls into ATen, views apart, per stack and decode step of 32 layers: on a GPU each is a launch of some microseconds.

Also how much of a stack is padding: only drafts are padded, to the longest of the stack.
"""

from __future__ import annotations

import pytest
import torch
from small_window import SYSTEM, VISUAL, asked
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from headwise.engine import Engine, branches, decode
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell

STACK_LIMIT, STEP_LIMIT = 1300, 1250
"""Measured 1,263 and 1,205; views are free. A step of one stack took 1,335 before windows had one pool."""
DRAWN = ("aten::ones", "aten::tril")
"""How a CPU draws the causal mask that a GPU's kernel is only told of."""
CELLS = [
    Cell(strategy=strategy, tokens=12, heads=heads, budget="kept")
    for strategy in ("sum", "sparsity", "max_attention")
    for heads in (1, 2, 3)
]


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view and func.name() not in DRAWN
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def answered():
    """Calls per stack and per step, and the rows of the stacks: useful and in all."""
    torch.manual_seed(5)
    sizes = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 32, "vocab_size": 60}
    model = LlamaForCausalLM(
        LlamaConfig(**sizes, num_attention_heads=4, initializer_range=0.25, eos_token_id=59)
    ).eval()
    found = {"stack": [], "step": [], "useful": 0, "rows": 0}

    def watched(right, name):
        def run(*given):
            with Calls() as calls:
                out = right(*given)
            found[name].append(calls.count)
            return out

        return run

    def accepting(stack, read):
        outcomes = accept(stack, read)
        drafted = read.shape[2] - 1
        each = stack.node.visual + stack.node.length
        found["rows"] += len(stack.nodes) * (each + drafted)
        found["useful"] += sum(each + max(0, len(draft) - 1) for draft in stack.drafts)
        return outcomes

    accept = branches.Stack.accept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branches.Stack, "_prefill", watched(branches.Stack._prefill, "stack"))
        patch.setattr(decode, "_step", watched(decode._step, "step"))
        patch.setattr(branches.Stack, "accept", accepting)
        before, pictures, questions = asked([28, 30, 28, 30, 29, 28])
        Engine(Decoder(model), before, CELLS, VISUAL, 4).answer(pictures, questions)
    return found


def test_calls_per_stack(answered):
    assert SYSTEM > 8  # not run along with every branch
    assert max(answered["stack"]) <= STACK_LIMIT


def test_calls_per_decode_step_of_the_whole_pool(answered):
    assert max(answered["step"]) <= STEP_LIMIT


def test_stacks_are_hardly_padded(answered):
    assert answered["useful"] / answered["rows"] >= 0.95
