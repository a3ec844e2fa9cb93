"""A model whose weights lie elsewhere than its inputs answers as one in a single place.

Weights offloaded to disk by accelerate stand in for a second GPU: the same hooks move them, and any call
that bypasses a hook fails.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import disk_offload
from families_golden import Golden
from tiny_llava import write_tiny_llava

from headwise.engine import run_prompt
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.decoder import home
from headwise.study.cells import Cell

CELLS = [
    Cell(strategy="vanilla", tokens=16, heads=0),
    Cell(strategy="sparsity", tokens=12, heads=4),
    Cell(strategy="random_tokens", tokens=10, heads=0),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llava(tmp_path_factory.mktemp("tiny"))


def test_offloaded_decoder_says_the_same(folder: Path, tmp_path: Path) -> None:
    checkpoint = find_checkpoint(str(folder))
    whole, spread = Vlm(checkpoint, device="cpu"), Vlm(checkpoint, device="cpu")
    disk_offload(spread.model, offload_dir=tmp_path, execution_device=torch.device("cpu"))
    assert all(weights.device.type == "meta" for weights in spread.model.model.language_model.layers.parameters())
    assert home(spread.model) == torch.device("cpu")
    prompt_SD = torch.cat([whole.system(), torch.randn(16, 32), whole.question("Is there a cat ?")])
    visual = slice(len(whole.system()), len(whole.system()) + 16)
    expected = run_prompt(whole.model, prompt_SD, visual, CELLS, 5)
    found = run_prompt(spread.model, prompt_SD, visual, CELLS, 5)
    for left, right in zip(expected, found, strict=True):
        assert left.tokens == right.tokens
        assert torch.equal(left.kept_R, right.kept_R)
        torch.testing.assert_close(left.logits, right.logits, atol=1e-4, rtol=0)


def test_offloaded_checkpoint_encodes_images_and_words(folder: Path, tmp_path: Path) -> None:
    checkpoint = find_checkpoint(str(folder))
    whole, spread = Vlm(checkpoint, device="cpu"), Vlm(checkpoint, device="cpu")
    disk_offload(spread.model, offload_dir=tmp_path, execution_device=torch.device("cpu"))
    pixels = [torch.randn(3, 32, 32)]
    assert torch.equal(whole.encode_images(pixels), spread.encode_images(pixels))
    assert torch.equal(whole.system(), spread.system())


@pytest.mark.parametrize("name", ["llava_next", "qwen2_5_vl", "qwen3_vl", "internvl3_5", "smolvlm"])
def test_offloaded_families_answer_as_their_golden_files(name: str, tmp_path: Path) -> None:
    """Towers, projectors and deepstack, too; LLaVA-NeXT's newline is no module's weight, and stays."""
    data = Golden(name)
    body = data.model.model
    far = body.language_model if name == "llava_next" else data.model
    disk_offload(far, offload_dir=tmp_path, execution_device=torch.device("cpu"))
    assert data.model.get_input_embeddings().weight.device.type == "meta"
    assert data.wrong(0, data.run(0)) == []
