"""What a family of models is: this is what one implements to add one.

Axes: S rows from the first visual token to the last (text between them included), V visual tokens, D hidden width,
M positions before the image, Q behind it. A family is a class with a name, the `model_type`s of `config.json` that it
takes, a prompt, and how an image becomes visual tokens. llava_next.py is a short example.
This file and every file of a family import torch inside functions only: names are known without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from headwise.errors import ConfigError, ModelError
from headwise.study.grids import Grid

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

# What an image processor makes of one image: pixel_values and what else the model's features need.
Pixels = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One image as the decoder gets it.

    Attributes:
        span_SD: embeddings from the first visual token to the last.
        positions_S: their position ids, [S], or [S, 3] where the decoder has three axes; None: one by one behind the
            text before the image.
        after: the position at which text goes on; None: behind the last row.
        prunable_V: which rows are visual tokens, ascending; the others are text and never dropped. None: all rows.
        deep: what the decoder adds to the rows behind layers 1, 2, … (deepstack), [S, D] each.
        grids: where the visual tokens lie in the picture, in their order; empty where the family does not say.
    """

    span_SD: Tensor
    positions_S: Tensor | None = None
    after: int | None = None
    prunable_V: Tensor | None = None
    deep: tuple[Tensor, ...] = ()
    grids: tuple[Grid, ...] = ()

    @property
    def visual(self) -> int:
        """V."""
        return len(self.span_SD if self.prunable_V is None else self.prunable_V)


@dataclass(frozen=True, eq=False)
class Features:
    """What the vision side of a model makes of one image: visual tokens [V, D], and deepstack features."""

    tokens_VD: Tensor
    deep: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt in the three parts that the engine takes: text before the image, the image, text behind it."""

    before_MD: Tensor
    picture: Picture
    after_QD: Tensor


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Settings of a study that say how large an image is seen; each family reads its own, None is its default."""

    min_pixels: int | None = None
    max_pixels: int | None = None
    max_tiles: int | None = None


class Family(ABC):
    """A family of checkpoints that are prompted and see images alike.

    Attributes:
        name: how it is called in lists and errors; `title` what people call it.
        model_types: values of `model_type` in config.json.
        text_types: decoders that it was checked with.
        prompt: the whole prompt, `{image}` once and `{question}` once; lmms-eval's, written down here because the
            template in a checkpoint's folder may change.
        prompt_version: changes whenever prompt or image preparation change, so that old answers are not reused.
        options: the ImageOptions that it reads, with their defaults.
        box_space: how it answers where something is: `padded` (fractions of the square that it pads images to),
            `image` (fractions of the image, as lmms-eval asks every model), `thousandths` of it, or `resized` (pixels
            of the image it is resized to).
        float16: whether its activations fit float16; families trained in bfloat16 overflow.
        sees: what an image becomes, in a few words.
        views: what methods before the language model get of an image: one `square` seen by a CLIP tower, `tiles` of
            such squares, or nothing, for the reason in `no_views`.
        axes: numbers of a position id; three where visual tokens have rows and columns.
        no_compacting: why a method inside the language model cannot count positions anew; empty where it can.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    model_types: ClassVar[tuple[str, ...]] = ()
    text_types: ClassVar[tuple[str, ...]] = ()
    prompt: ClassVar[str] = ""
    prompt_version: ClassVar[str] = ""
    options: ClassVar[Mapping[str, int]] = {}
    box_space: ClassVar[str] = "image"
    float16: ClassVar[bool] = True
    sees: ClassVar[str] = ""
    views: ClassVar[Literal["", "square", "tiles"]] = ""
    no_views: ClassVar[str] = "no method's original says how its images would be pruned"
    axes: ClassVar[int] = 1
    no_compacting: ClassVar[str] = ""

    @abstractmethod
    def features(self, model: Any, pixels: Pixels) -> Features:
        """Visual tokens of one image by the model's own vision tower and projector."""

    def visual(self, config: Any) -> int | None:
        """V where it is the same for every image, else None."""
        return None

    def template(self, config: Any) -> str:
        """The prompt of a checkpoint; a family may have one per decoder."""
        return self.prompt

    def image_token(self, config: Any) -> int:
        """Id of the placeholder that stands for one visual token."""
        return config.image_token_id

    def ids(self, tokenizer: Any, config: Any, question: str) -> tuple[list[int], list[int]]:
        """Ids before and behind the image.

        The whole prompt is tokenised with one placeholder and cut there. A special token cuts the text for the
        tokenizer, too, so these are the ids that the Processor gives, which repeats the placeholder.

        Raises:
            ModelError: the tokenizer does not know the placeholder as a token of its own.
        """
        token = self.image_token(config)
        placeholder = tokenizer.convert_ids_to_tokens(token)
        rendered = self.template(config).replace("{image}", str(placeholder)).replace("{question}", question)
        ids = list(tokenizer(rendered).input_ids)
        if token not in ids:
            raise ModelError(f"model: its tokenizer does not read {placeholder!r} as the image's placeholder {token}")
        place = ids.index(token)
        return ids[:place], ids[place + 1 :]

    def span_ids(self, tokenizer: Any, config: Any, pixels: Pixels, visual: int) -> list[int]:
        """Ids of an image of V = `visual` tokens: its placeholders, and what text the processor writes around them."""
        return [self.image_token(config)] * visual

    def prepare(self, processor: Any, image: Image.Image, options: ImageOptions) -> Pixels:
        """One image through the checkpoint's image processor, without torchvision."""
        return dict(processor(images=image, return_tensors="pt", **self.processor_options(options)))

    def limits(self, images: ImageOptions) -> dict[str, int]:
        """The limits of image size in force: those given, else the family's defaults."""
        given = ((name, getattr(images, name), default) for name, default in self.options.items())
        return {name: default if value is None else value for name, value, default in given}

    def check(self, images: ImageOptions) -> None:
        """ConfigError for a limit that the family does not read, and for limits that no image can meet."""
        for name, value in vars(images).items():
            if value is not None and name not in self.options:
                known = f"it reads {', '.join(self.options)}" if self.options else "its images have one size"
                raise ConfigError(f"{name}: {self.title} does not read this setting; {known}")
        limits = self.limits(images)
        if limits.get("min_pixels", 0) > limits.get("max_pixels", limits.get("min_pixels", 0)):
            raise ConfigError(f"min_pixels: {limits['min_pixels']} is more than max_pixels, {limits['max_pixels']}")

    def refuses(self, size: tuple[int, int]) -> str:
        """Why the image processor takes no picture of this width and height; empty where it does."""
        return ""

    def processor_options(self, options: ImageOptions) -> dict[str, Any]:
        """Arguments of the image processor beside the image."""
        return {}

    def positions(self, model: Any, ids_S: Tensor, pixels: Pixels) -> Tensor | None:
        """Position ids of a prompt, [S] or [S, 3], by the model's own rule; None: one by one."""
        return None

    def read_prompt(self, model: Any, inputs: Mapping[str, Any]) -> Prompt:
        """The parts of a prompt that a processor made: input_ids [1, S] and the image's pixels.

        Raises:
            ModelError: not one prompt with one image and text behind it.
        """
        import torch

        from headwise.models.decoder import home

        ids_1S = inputs.get("input_ids")
        if ids_1S is None or ids_1S.dim() != 2 or len(ids_1S) != 1:
            raise ModelError("inputs: input_ids must be [1, S], one prompt")
        if (mask := inputs.get("attention_mask")) is not None and not bool(mask.all()):
            raise ModelError("inputs: the prompt is padded; give one prompt without padding")
        if "pixel_values" not in inputs:
            raise ModelError("inputs: pixel_values are missing; a prompt needs one image")
        embedding = model.get_input_embeddings()
        device = home(model)
        ids_S = ids_1S[0].to(device)
        places = (ids_S == self.image_token(model.config)).nonzero()[:, 0].tolist()
        if not places or places[-1] + 1 == len(ids_S):
            raise ModelError("inputs: input_ids must hold the image's placeholders, and text behind them")
        with torch.inference_mode():
            start, stop = places[0], places[-1] + 1
            picture = self.picture(model, ids_S, start, stop, inputs, self.features(model, inputs))
            return Prompt(embedding(ids_S[:start]).to(device), picture, embedding(ids_S[stop:]).to(device))

    def encode(self, model: Any, tokenizer: Any, pixels: Pixels) -> Picture:
        """One prepared image as the decoder gets it, behind this family's prompt."""
        import torch

        from headwise.models.decoder import home

        found = self.features(model, pixels)
        before, after = self.ids(tokenizer, model.config, "")
        span = self.span_ids(tokenizer, model.config, pixels, len(found.tokens_VD))
        ids_S = torch.tensor([*before, *span, *after], device=home(model))
        picture = self.picture(model, ids_S, len(before), len(before) + len(span), pixels, found)
        return replace(picture, grids=self.grids(model, pixels, picture.visual))

    def grids(self, model: Any, pixels: Pixels, visual: int) -> tuple[Grid, ...]:
        """Where the V = `visual` tokens of a prepared image lie in the picture; empty: unknown, nothing is drawn."""
        return ()

    def picture(self, model: Any, ids_S: Tensor, start: int, stop: int, pixels: Pixels, found: Features) -> Picture:
        """The image of a prompt whose placeholders are written out, all in `start`..`stop`; text must follow them."""
        import torch

        places_V = (ids_S == self.image_token(model.config)).nonzero()[:, 0]
        if len(found.tokens_VD) != len(places_V):
            raise ModelError(
                f"model: {len(found.tokens_VD)} visual tokens for {len(places_V)} placeholders; {self.name} takes one "
                "image per prompt"
            )
        prunable_V = places_V - start
        span_SD = model.get_input_embeddings()(ids_S[start:stop]).to(ids_S.device)
        span_SD = span_SD.index_copy(0, prunable_V, found.tokens_VD.to(span_SD))
        deep = tuple(torch.zeros_like(span_SD).index_copy(0, prunable_V, each.to(span_SD)) for each in found.deep)
        positions_S = self.positions(model, ids_S, pixels)
        whole = len(places_V) == stop - start
        return Picture(
            span_SD=span_SD,
            positions_S=None if positions_S is None else positions_S[start:stop],
            after=None if positions_S is None else int(positions_S[stop].max()),
            prunable_V=None if whole else prunable_V,
            deep=deep,
        )


def pixel_inputs(model: Any, pixels: Pixels, names: Sequence[str]) -> dict[str, Tensor]:
    """The named parts of the pixels where the model is; pixel_values in its precision."""
    from headwise.models.decoder import home

    dtype, device = next(model.parameters()).dtype, home(model)
    found = {}
    for name in names:
        if name not in pixels:
            raise ModelError(f"inputs: {name} is missing, which the image processor gives")
        value = pixels[name].to(device)
        found[name] = value.to(dtype) if value.is_floating_point() else value
    return found
