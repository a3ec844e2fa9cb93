"""SmolVLM and Idefics3: tiles with text tokens between them, the whole image last; that text is never pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.models.contract import Family, Features, ImageOptions, Pixels, pixel_inputs
from headwise.models.internvl import cut_grids
from headwise.models.llava_next import one
from headwise.study.grids import Grid

if TYPE_CHECKING:
    from PIL import Image

FENCE = "<fake_token_around_image>"


class SmolVlm(Family):
    """SmolVLM, SmolVLM2 and Idefics3. The body is `text_model`; padding tiles are left out by the model itself.

    In transformers 5.17 its image processor needs torchvision; in 5.23 it does not.
    """

    name = "smolvlm"
    title = "SmolVLM2, Idefics3"
    model_types = ("smolvlm", "idefics3")
    text_types = ("llama",)
    prompt = "<|im_start|>User:{image}{question}<end_of_utterance>\nAssistant:"
    prompt_version = "smolvlm/1"
    sees = "square tiles named by text, the whole image last"
    no_views = "its tower has no [CLS], and text stands between its tiles"
    no_compacting = "text stands between its tiles"

    def prepare(self, processor: Any, image: Image.Image, options: ImageOptions) -> Pixels:
        """The processor takes images per prompt, and says in how many rows and columns it cut the tiles."""
        return dict(processor(images=[[image]], return_row_col_info=True, return_tensors="pt"))

    def span_ids(self, tokenizer: Any, config: Any, pixels: Pixels, visual: int) -> list[int]:
        """The placeholders of all tiles with the text that names them."""
        rows, columns = int(pixels["rows"][0][0]), int(pixels["cols"][0][0])
        each = str(tokenizer.convert_ids_to_tokens(self.image_token(config))) * (visual // (rows * columns + 1))
        return list(tokenizer(self.span_text(rows, columns, each), add_special_tokens=False).input_ids)

    def span_text(self, rows: int, columns: int, each: str) -> str:
        """Tiles row by row under their names, the whole image last, as SmolVLM's Processor writes them.

        `each`: one tile's placeholders. No rows and columns: the image is one tile.
        """
        text = ""
        for row in range(1, rows + 1):
            text += "".join(f"{FENCE}<row_{row}_col_{column}>{each}" for column in range(1, columns + 1)) + "\n"
        return text + ("\n" if rows else "") + f"{FENCE}<global-img>{each}{FENCE}"

    def grids(self, model: Any, pixels: Pixels, visual: int) -> tuple[Grid, ...]:
        """A grid per tile, and one of the whole picture."""
        return cut_grids(pixels, visual)

    def features(self, model: Any, pixels: Pixels) -> Features:
        """Tokens of all tiles and of the whole image, in the processor's order: [V, D]."""
        names = ["pixel_values", *(["pixel_attention_mask"] if "pixel_attention_mask" in pixels else [])]
        given = pixel_inputs(model, pixels, names)
        return Features(one(model.get_image_features(**given, return_dict=True).pooler_output))
