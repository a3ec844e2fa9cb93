"""LLaVA-NeXT (v1.6): tiles of an image, cropped to its shape, each row of them ended by a newline embedding.

The newlines stand at placeholders and are visual tokens like any other: what is pruned is the whole image range.
"""

from __future__ import annotations

from typing import Any

from headwise.methods.contract import UNPADDED_TILES
from headwise.models.contract import Family, Features, Pixels, pixel_inputs


class LlavaNext(Family):
    """LLaVA-1.6 with Vicuna or Mistral.

    Vicuna's prompt is that of LLaVA's evaluation and of lmms-eval's llava_hf where a folder has no chat template;
    Mistral's is the checkpoint's own instruction format, whose beginning of sequence the tokenizer adds.
    """

    name = "llava_next"
    title = "LLaVA-NeXT"
    model_types = ("llava_next",)
    text_types = ("llama", "mistral")
    prompt = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
        "USER: {image}\n{question} ASSISTANT:"
    )
    mistral_prompt = "[INST] {image}\n{question} [/INST]"
    prompt_version = "llava-next/1"
    views = UNPADDED_TILES

    def template(self, config: Any) -> str:
        """The prompt of the checkpoint's decoder: Mistral's, else Vicuna's."""
        return self.mistral_prompt if config.text_config.model_type == "mistral" else self.prompt

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Tokens of the base image, then of the tiles without padding, a newline token behind each row: [V, D]."""
        return tiled_features(model, pixels)


def tiled_features(model: Any, pixels: Pixels) -> Features:
    """Tiles of one image through tower and projector, unpadded, newlines added, all by transformers' own code."""
    given = pixel_inputs(model, pixels, ("pixel_values", "image_sizes"))
    tokens_VD = model.get_image_features(**given, return_dict=True).pooler_output
    return Features(one(tokens_VD))


def one(per_image: Any) -> Any:
    """The only image's tokens, where there is one; all rows together otherwise (their number is then refused)."""
    import torch

    return torch.cat(list(per_image))
