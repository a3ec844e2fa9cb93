"""Signals for tests of the methods: golden ones, and random ones of any size."""

from pathlib import Path

import numpy as np
import torch

from headwise.methods import Vision
from headwise.methods.contract import AXES

GOLDEN = Path(__file__).parents[1] / "golden/methods_before"


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def golden_vision(arrays: dict[str, np.ndarray], image: str) -> Vision:
    """The signals under `<image>/in/` of a golden file."""
    stored = {name: f"{image}/in/{'attn_HV' if name == 'attention_HV' else name}" for name in AXES}
    return Vision(**{name: torch.tensor(arrays[key]) for name, key in stored.items() if key in arrays})


def random_vision(visual: int = 36, seed: int = 0, dtype: torch.dtype = torch.float32) -> Vision:
    """Every signal of one image with H = 4, C = 16, d = 4, D = 48, E = 12, two text segments, three words."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"H": 4, "V": visual, "N": visual + 1, "C": 16, "d": 4, "D": 48, "E": 12, "M": 2, "m": 3}
    signals = {name: torch.randn([sizes[axis] for axis in axes], generator=generator) for name, axes in AXES.items()}
    signals["attention_HV"] = torch.randn(4, visual + 1, generator=generator).softmax(-1)[:, 1:]
    return Vision(**{name: signal.to(dtype) for name, signal in signals.items()})
