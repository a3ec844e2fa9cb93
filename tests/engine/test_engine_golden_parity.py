"""The engine against the reference implementation's kept tokens, logits and answers (32-layer random Llama)."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from headwise.engine import run_prompt
from headwise.study.cells import Cell

VISUAL = slice(35, 611)


@pytest.fixture(scope="module")
def golden(golden_files):
    folder = golden_files / "pruned_llama"
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    return model, np.load(folder / "expected.npz")


def cells_of(expected, prompt):
    names = [name.removeprefix("kept/") for name in expected.files if name.startswith(f"kept/{prompt}/")]
    cells = []
    for name in names:
        _, tokens, heads, strategy = name.split("/")
        cells.append(Cell(strategy=strategy, tokens=int(tokens), heads=int(heads)))
    return names, cells


@pytest.mark.parametrize("prompt", [0, 1, 2])
def test_every_cell_keeps_and_says_what_the_reference_does(golden, prompt):
    model, expected = golden
    names, cells = cells_of(expected, prompt)
    branches = run_prompt(model, torch.tensor(expected[f"embeds/{prompt}"]), VISUAL, cells, 6)
    assert len(branches) == 108
    for name, branch in zip(names, branches, strict=True):
        np.testing.assert_array_equal(branch.kept_R.numpy(), expected[f"kept/{name}"], err_msg=name)
        np.testing.assert_allclose(branch.logits.numpy(), expected[f"logits/{name}"], atol=1e-3, err_msg=name)
        assert branch.tokens == expected[f"tokens/{name}"].tolist(), name


def test_one_cell_alone_says_what_it_says_in_the_grid(golden):
    model, expected = golden
    names, cells = cells_of(expected, 0)
    embeds = torch.tensor(expected["embeds/0"])
    for place in (0, 50, 107):
        alone = run_prompt(model, embeds, VISUAL, [cells[place]], 6)[0]
        assert alone.tokens == expected[f"tokens/{names[place]}"].tolist()
