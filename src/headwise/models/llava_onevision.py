"""LLaVA-OneVision: tiles as in LLaVA-NeXT, with SigLIP and Qwen2; large grids are shrunk (`anyres_max_9`)."""

from __future__ import annotations

from typing import Any

from headwise.models.contract import Family, Features, Pixels
from headwise.models.llava_next import tiled_features, unpadded_grids
from headwise.study.grids import Grid


class LlavaOnevision(Family):
    """LLaVA-OneVision with Qwen2. The prompt is LLaVA's conversation `qwen_1_5`, which lmms-eval uses."""

    name = "llava_onevision"
    title = "LLaVA-OneVision"
    model_types = ("llava_onevision",)
    text_types = ("qwen2",)
    prompt = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n{image}\n{question}<|im_end|>\n<|im_start|>assistant\n"
    )
    prompt_version = "llava-onevision/1"
    sees = "unpadded tiles, shrunk where they are many"
    no_views = "its SigLIP tower has no [CLS], and the tokens of large images are interpolated between patches"

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Tokens of the base image, then of the tiles without padding, a newline token behind each row: [V, D]."""
        return tiled_features(model, pixels)

    def grids(self, model: Any, pixels: Pixels, visual: int) -> tuple[Grid, ...]:
        """The whole picture, then what is left of the tiles without padding, a newline behind each row."""
        return unpadded_grids(model, pixels)
