"""LLaVA-1.5: an image padded to a square, one CLIP view of it, the Vicuna v1 conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headwise.models.contract import Family, Features, ImageOptions, Pixels, pixel_inputs
from headwise.models.llava_next import one

if TYPE_CHECKING:
    from PIL import Image


class Llava(Family):
    """LLaVA-1.5 and what is built like it. Prompt and square are those of LLaVA-1.5's own evaluation."""

    name = "llava"
    title = "LLaVA-1.5"
    model_types = ("llava",)
    text_types = ("llama", "mistral", "qwen2", "qwen3")
    prompt = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
        "USER: {image}\n{question} ASSISTANT:"
    )
    prompt_version = "vicuna-v1/square-pad/1"
    box_space = "padded"
    sees = "one square view"
    views = "square"

    def visual(self, config: Any) -> int | None:
        """One per patch; the class token is one, too, where the projector reads it."""
        vision = config.vision_config
        side = vision.image_size // vision.patch_size
        with_class = config.vision_feature_select_strategy == "full" and vision.model_type == "clip_vision_model"
        return side * side + int(with_class)

    def ids(self, tokenizer: Any, config: Any, question: str) -> tuple[list[int], list[int]]:
        """Both texts tokenised on their own; the second loses its beginning-of-sequence token."""
        before, after = self.template(config).split("{image}")
        ids = tokenizer(after.replace("{question}", question)).input_ids
        behind = ids[1:] if ids and ids[0] == tokenizer.bos_token_id else ids
        return list(tokenizer(before).input_ids), list(behind)

    def prepare(self, processor: Any, image: Image.Image, options: ImageOptions) -> Pixels:
        """Padded to a square with the processor's mean colour, then resized, cropped, normalised."""
        square = pad_to_square(image, processor.image_mean)
        return {"pixel_values": processor(images=square, return_tensors="pt")["pixel_values"]}

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Projected patches of the padded square image, [CLS] left out: [V, D]."""
        given = pixel_inputs(model, pixels, ("pixel_values",))
        return Features(one(model.get_image_features(**given, return_dict=True).pooler_output))


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """Centre the image on a square of the processor's mean colour (LLaVA-1.5's image_aspect_ratio `pad`)."""
    from PIL import Image

    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), tuple(int(part * 255) for part in mean))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square
