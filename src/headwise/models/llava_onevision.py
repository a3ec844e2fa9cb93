"""LLaVA-OneVision: tiles as in LLaVA-NeXT, with SigLIP and Qwen2; large grids are shrunk (`anyres_max_9`)."""

from __future__ import annotations

from typing import Any

from headwise.models.contract import Family, Features, ImageOptions, Pixels, Size
from headwise.models.llava_next import tile_grids, tiled_features
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
    no_views = "its SigLIP tower has no [CLS], and the tokens of large images are interpolated between patches"

    def grids(self, config: Any, processor: Any, pixels: Pixels, images: ImageOptions, size: Size) -> list[Grid]:
        """As LLaVA-NeXT's; the mosaic is shrunk beyond the tiles that `vision_aspect_ratio` names."""
        return tile_grids(config, pixels, int(config.vision_aspect_ratio.removeprefix("anyres_max_")))

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Tokens of the base image, then of the tiles without padding, a newline token behind each row: [V, D]."""
        return tiled_features(model, pixels)
