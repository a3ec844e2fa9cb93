"""SmolVLM and Idefics3: tiles with text tokens between them, the whole image last; that text is never pruned."""

from __future__ import annotations

from typing import Any

from headwise.models.contract import Family, Features, Pixels, pixel_inputs
from headwise.models.llava_next import one


class SmolVlm(Family):
    """SmolVLM, SmolVLM2 and Idefics3. The body is `text_model`; padding tiles are left out by the model itself."""

    name = "smolvlm"
    title = "SmolVLM2, Idefics3"
    model_types = ("smolvlm", "idefics3")
    text_types = ("llama",)
    prompt = "<|im_start|>User:{image}{question}<end_of_utterance>\nAssistant:"
    prompt_version = "smolvlm/1"

    def features(self, model: Any, pixels: Pixels) -> Features:
        names = ["pixel_values", *(["pixel_attention_mask"] if "pixel_attention_mask" in pixels else [])]
        given = pixel_inputs(model, pixels, names)
        return Features(one(model.get_image_features(**given, return_dict=True).pooler_output))
