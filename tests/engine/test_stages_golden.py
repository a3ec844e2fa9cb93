"""Methods that prune inside the language model against the original code's kept tokens, merged rows and answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from headwise.engine import Branch, run_prompt
from headwise.study.cells import Cell

GOLDEN = Path(__file__).parents[1] / "golden/methods_inside"
VISUAL = slice(35, 611)
SPECIFIED = {
    "pdrop": ("published", (270, 192, 64)),
    "sparsevlm": ("published", (192, 128, 64)),
    "sparsevlm_plus": ("published", (192, 128, 64)),
    "dart": ("published", (192, 128, 64)),
    "fitprune": ("published", (60, 80)),
    "fastv": ("average", (192, 128, 64)),
    "pdrop@ancestor": ("published", (192, 128, 64)),
    "sparsevlm@ancestor": ("published", (192, 128, 64)),
}
FILES = {"fastv": "anc_fastv", "pdrop@ancestor": "anc_pdrop", "sparsevlm@ancestor": "anc_sparsevlm"}
CELLS = [
    Cell(strategy=name, tokens=tokens, budget=budget)
    for name, (budget, values) in SPECIFIED.items()
    for tokens in values
]


def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_model", GOLDEN / "golden_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def answered() -> dict[int, list[Branch]]:
    """Branches of all cells by prompt: the whole grid in one call each; the end token is ignored."""
    drawn = drawing()
    seed, prompts = drawn.CASES["shared"]
    given = {name: value for name, value in drawn.CONFIG.items() if name != "rope_theta"}
    given["rope_parameters"] = {"rope_type": "default", "rope_theta": drawn.CONFIG["rope_theta"]}
    given["eos_token_id"] = drawn.CONFIG["vocab_size"]
    model = LlamaForCausalLM(LlamaConfig(**given)).eval()
    weights = drawn.weights(seed)
    check = np.load(GOLDEN / "model_check.npz")
    for name, value in weights.items():
        np.testing.assert_allclose(value.sum(dtype=np.float64), check[f"weight_sum/{name}"], rtol=1e-9, err_msg=name)
    for number, case in enumerate(prompts):
        np.testing.assert_allclose(drawn.prompt(*case).sum(dtype=np.float64), check[f"prompt_sum/{number}"], rtol=1e-9)
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return {
        number: run_prompt(model, torch.tensor(drawn.prompt(*case)), VISUAL, CELLS, 6)
        for number, case in enumerate(prompts)
    }


@pytest.mark.parametrize("prompt", [0, 1])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.strategy}-{cell.tokens}")
def test_a_method_keeps_and_says_what_the_original_does(answered, cell, prompt):
    branch = answered[prompt][CELLS.index(cell)]
    expected = np.load(GOLDEN / f"e2e_{FILES.get(cell.strategy, cell.strategy)}.npz")
    key = f"{prompt}/{cell.tokens}"
    kept = {int(name.split("/")[-1]): expected[name] for name in expected.files if name.startswith(f"kept/{key}/")}
    assert [stage.layer for stage in branch.stages] == sorted(kept)
    for stage in branch.stages:
        np.testing.assert_array_equal(stage.kept.numpy(), kept[stage.layer], err_msg=f"layer {stage.layer}")
    np.testing.assert_allclose(branch.logits.numpy(), expected[f"logits/{key}"], atol=1e-4)
    assert branch.tokens == expected[f"tokens/{key}"].tolist()
