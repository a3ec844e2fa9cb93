"""The slow check of a checkpoint: pruned answers by the engine against transformers' own forward with closed columns.

Above layer K the columns of dropped tokens are closed in the 4-D attention mask, the whole prompt is computed again for
each token, and no cache is used: nothing of the engine takes part but the ranking's formula. A key of weight 0 adds
nothing, so this is what dropping the tokens must give, position ids kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headwise.engine import Branch, Engine, Question
from headwise.errors import DataError
from headwise.methods.heads.ranking import Ranker
from headwise.methods.stages import check_cell, for_image, stages_of
from headwise.models.checkpoint import Vlm
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell, Geometry
from headwise.system.reading import read_image

QUESTIONS = (
    "What is in the picture?\nAnswer the question using a single word or phrase.",
    "Is there a person in the picture?\nAnswer the question using a single word or phrase.",
)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One question under one cell, by both ways. `largest`: largest difference of the first step's logits."""

    image: str
    cell: str
    kept_equal: bool
    answer_equal: bool
    largest: float
    margin: float

    @property
    def agrees(self) -> bool:
        """Whether both ways keep the same tokens and give the same answer."""
        return self.kept_equal and self.answer_equal


def images_in(folder: Path, count: int) -> list[Path]:
    """The first pictures of a folder. DataError where there is none."""
    if not folder.is_dir():
        raise DataError(f"images: {folder} is not a folder")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"images: {folder} holds no picture ({', '.join(SUFFIXES)})")
    return found[:count]


def cells_for(geometry: Geometry, layer: int) -> list[Cell]:
    """Two head strategies and all heads at two layers, at shares of the tokens, and the unpruned model.

    ConfigError for a layer that the decoder cannot prune after.
    """
    layers = [layer, layer + 1] if layer + 1 < geometry.layers else [layer]
    pruned = [
        Cell(strategy=strategy, tokens=share, heads=heads, layer=each, budget="kept")
        for each in layers
        for strategy, share, heads in (("sparsity", 0.25, 0.5), ("all_heads", 0.5, 1.0), ("top_k_sum", 0.125, 0.25))
    ]
    for cell in pruned:
        check_cell(cell, geometry)
    return [Cell(strategy="vanilla", tokens=1.0), *pruned]


@torch.inference_mode()
def check(vlm: Vlm, images: Sequence[Path], cells: Sequence[Cell], steps: int = 8) -> Iterator[Checked]:
    """Every image with a question under every cell, vanilla first, by both ways."""
    for number, path in enumerate(images):
        pixels, question = vlm.prepare(read_image(path)), QUESTIONS[number % len(QUESTIONS)]
        branches = _by_engine(vlm, cells, pixels, question, steps)
        with _eager(vlm.model):
            prompt = _Prompt(vlm, pixels, question)
            for cell, branch in zip(cells, branches, strict=True):
                kept_R, logits, tokens = prompt.masked(cell, steps)
                yield Checked(
                    image=path.name,
                    cell=cell.name if cell.strategy == "vanilla" else f"{cell.name} after layer {cell.layer}",
                    kept_equal=kept_R is None or kept_R.tolist() == branch.kept_R.tolist(),
                    answer_equal=tokens == branch.tokens,
                    largest=float((logits.float() - _logits(branch).float()).abs().max()),
                    margin=branch.margin,
                )
            yield _generated(prompt, branches[0], path.name, steps)


def _logits(branch: Branch) -> Tensor:
    assert branch.logits is not None
    return branch.logits


def _generated(prompt: _Prompt, vanilla: Branch, image: str, steps: int) -> Checked:
    """The unpruned answer against `generate`."""
    said = prompt.model.generate(**prompt.inputs(prompt.ids), max_new_tokens=steps, do_sample=False)
    tokens = said[0, len(prompt.ids) :].tolist()
    return Checked(
        image=image,
        cell="vanilla (generate)",
        kept_equal=True,
        answer_equal=tokens == vanilla.tokens,
        largest=0.0,
        margin=vanilla.margin,
    )


def _by_engine(vlm: Vlm, cells: Sequence[Cell], pixels: Any, question: str, steps: int) -> list[Branch]:
    engine = Engine(Decoder(vlm.model), vlm.system(), cells, None, steps, keep_logits=True)
    return engine.answer(list(vlm.encode_images([pixels])), [Question(0, vlm.question(question))])[0]


@contextmanager
def _eager(model: Any) -> Iterator[None]:
    """Attention that shows its weights and takes a full mask, for as long as the block lasts."""
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")


class _Prompt:
    """One question about one image as transformers' own forward takes it."""

    def __init__(self, vlm: Vlm, pixels: Any, question: str) -> None:
        self.vlm, self.model = vlm, vlm.model
        self.pixels = {"pixel_values": pixels[None]} if isinstance(pixels, Tensor) else dict(pixels)
        family, config = vlm.family, vlm.model.config
        before, after = family.ids(vlm.tokenizer, config, question)
        visual = len(family.features(vlm.model, self.pixels).tokens_VD)
        span = family.span_ids(vlm.tokenizer, config, self.pixels, visual)
        self.ids = [*before, *span, *after]
        self.places_V = [place for place, token in enumerate(self.ids) if token == family.image_token(config)]
        body = vlm.model.model
        self.layers = getattr(body, "language_model", None) or body.text_model
        self.layers = self.layers.layers
        self.eos = Decoder(vlm.model).eos

    def inputs(self, ids: Sequence[int]) -> dict[str, Any]:
        ids_1S = torch.tensor([list(ids)], device=self.vlm.device)
        kinds_1S = torch.zeros_like(ids_1S)
        kinds_1S[0, self.places_V] = 1
        given = {"input_ids": ids_1S, "attention_mask": torch.ones_like(ids_1S), "mm_token_type_ids": kinds_1S}
        for name, value in self.pixels.items():
            if isinstance(value, Tensor):
                value = value.to(self.vlm.device)
                given[name] = value.to(self.vlm.dtype) if value.is_floating_point() else value
        known = inspect.signature(self.model.forward).parameters
        return {name: value for name, value in given.items() if name in known}

    def masked(self, cell: Cell, steps: int) -> tuple[Tensor | None, Tensor, list[int]]:
        """Kept tokens (None: all), first logits, greedy answer."""
        kept_R = None if cell.strategy == "vanilla" else self._kept(cell)
        kept = set(range(len(self.places_V)) if kept_R is None else kept_R.tolist())
        closed = [place for number, place in enumerate(self.places_V) if number not in kept]
        tokens: list[int] = []
        first: Tensor | None = None
        with ExitStack() as hooks:
            if closed:
                for layer in self.layers[cell.layer :]:
                    hooks.enter_context(_closing(layer, closed))
            while len(tokens) < steps and not (tokens and tokens[-1] in self.eos):
                logits = self.model(**self.inputs([*self.ids, *tokens]), use_cache=False).logits[0, -1]
                first = logits if first is None else first
                tokens.append(int(logits.argmax()))
        assert first is not None
        return kept_R, first, tokens

    def _kept(self, cell: Cell) -> Tensor:
        """Tokens that the cell keeps by the attention weights that layer K itself puts out."""
        rows: list[Tensor] = []
        attention = self.layers[cell.layer - 1].self_attn
        handle = attention.register_forward_hook(lambda _, __, out: rows.append(out[1][0, :, -1]))
        try:
            self.model(**self.inputs(self.ids), use_cache=False)
        finally:
            handle.remove()
        row_HV = rows[0][:, self.places_V]
        visual = len(self.places_V)
        geometry = Geometry(layers=len(self.layers), heads=len(row_HV), visual=visual)
        stage = stages_of(for_image(cell, visual), geometry)[-1]
        return Ranker(row_HV[None], [""]).choices(cell, stage.keep)[0].kept_R


@contextmanager
def _closing(layer: Any, closed: Sequence[int]) -> Iterator[None]:
    """Close columns of the mask that a decoder layer gets."""

    def hook(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = kwargs["attention_mask"].clone()
        mask[..., list(closed)] = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return args, kwargs | {"attention_mask": mask}

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
