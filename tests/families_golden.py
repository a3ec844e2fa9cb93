"""Golden answers of tiny checkpoints of every family, by transformers' own forward. See golden/families/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText

from headwise.engine import Branch, Optimizations, run_inputs
from headwise.study.cells import Cell

GOLDEN = Path(__file__).parent / "golden" / "families"
FAMILIES = ("llava_next", "llava_onevision", "qwen2_5_vl", "qwen3_vl", "internvl", "internvl3_5", "smolvlm")
# How far apart right logits may be (README).
LOGITS = 5e-5


class Golden:
    """One family's checkpoint, prompts, cells, and what they must answer."""

    def __init__(self, name: str) -> None:
        self.model: Any = AutoModelForImageTextToText.from_pretrained(GOLDEN / name, dtype=torch.float32).eval()
        with np.load(GOLDEN / name / "expected.npz") as file:
            self.expected = {key: file[key] for key in file.files}
        meta = json.loads(str(self.expected["meta"]))
        self.prompts = range(meta["prompts"])
        self.cells = {
            key: Cell(
                strategy=cell["strategy"],
                tokens=cell["share"],
                heads=cell["heads"],
                layer=cell["layer"],
                budget="kept",
            )
            for key, cell in meta["cells"].items()
        } | {"vanilla": Cell(strategy="vanilla", tokens=1.0)}

    def inputs(self, prompt: int) -> dict[str, torch.Tensor]:
        start = f"{prompt}/inputs/"
        return {
            key.removeprefix(start): torch.from_numpy(value)
            for key, value in self.expected.items()
            if key.startswith(start)
        }

    def run(self, prompt: int, optimizations: Optimizations | None = None) -> list[Branch]:
        return run_inputs(self.model, self.inputs(prompt), list(self.cells.values()), 5, optimizations=optimizations)

    def wrong(self, prompt: int, branches: list[Branch]) -> list[str]:
        """The cells whose heads, kept tokens, logits or tokens are not the golden ones."""
        found = []
        for name, branch in zip(self.cells, branches, strict=True):
            want = {
                part: self.expected.get(f"{prompt}/{name}/{part}") for part in ("heads", "kept", "logits", "tokens")
            }
            assert branch.logits is not None
            fits = branch.tokens == want["tokens"].tolist()
            fits &= bool(np.abs(branch.logits.numpy() - want["logits"]).max() < LOGITS)
            if name != "vanilla":
                assert branch.heads_K is not None
                fits &= branch.kept_R.tolist() == want["kept"].tolist()
                fits &= branch.heads_K.tolist() == want["heads"].tolist()
            if not fits:
                found.append(name)
        return found
