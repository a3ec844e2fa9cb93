"""The engine at LLaVA-1.5-7B's size on one GPU, within ten minutes and without any download.

    python bench/gpu.py [--minutes 9] [--rounds 3] [--json]
    python bench/gpu.py --tiny            # the same code on a CPU, in seconds: for the test of this script

The decoder and tower have the checkpoint's shape and random weights, made on the device. A trained model's branches
mostly agree and its answers are short; random weights agree in nothing. So what attention and MLP add to the residual
stream is scaled down (`--alpha`): an answer then depends mostly on the question, and the share of drafts that hold is
printed, to be compared with a trained model's (about 0.93). Every second word ends an answer.

Three ways alternate: the engine on whole windows, one question and cell at a time (`bench/original.py`), and
transformers' `generate`, unpruned. Stage times, host syncs and kernels come from runs of their own.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from grid import timed
from machine import describe, matmul_rate, peak_memory
from original import answer as original_answer
from torch import Tensor
from transformers import LlavaConfig, LlavaForConditionalGeneration

from headwise.engine import Engine, Question, branches, caches, decode, grow, memory, prefix, waves
from headwise.models.contract import Picture
from headwise.models.decoder import Decoder
from headwise.run.settings import load_settings
from headwise.study.cells import Geometry

ROOT = Path(__file__).parents[1]
SYSTEM, PATCH = 35, 14
STEPS_OF_LOGIT = 8
"""An answer may differ where its margin is no more than this many steps of the logits' dtype."""


@dataclass(frozen=True)
class Kind:
    """Benchmarks of one shape: how many questions the published study has of them, per image, and their lengths."""

    name: str
    published: int
    per_image: int
    mean: int
    spread: int


KINDS = (Kind("GQA and POPE", 12578 + 8910, 24, 28, 3), Kind("TextVQA and MME", 5000 + 2374, 2, 85, 30))


@dataclass
class Windows:
    kind: Kind
    pixels: Tensor
    questions: list[Question]


class Lab:
    """A random LLaVA of the asked size with everything that is asked of it."""

    def __init__(self, tiny: bool, dtype: str, alpha: float, questions: int, steps: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype, self.steps = getattr(torch, dtype), steps
        torch.manual_seed(0)
        self.random = random.Random(0)
        self.model = _model(tiny, self.device, self.dtype, alpha)
        self.side = self.model.config.vision_config.image_size
        self.visual = (self.side // PATCH) ** 2
        self.text = self.model.config.text_config
        self.decoder = Decoder(self.model)
        self.decoder.eos = frozenset(range(0, self.text.vocab_size, 2))
        self.model.generation_config.eos_token_id = sorted(self.decoder.eos)
        self.model.generation_config.pad_token_id = 0
        study = load_settings(str(ROOT / "configs/llava-1.5-7b.yaml"), {"controls": "none"} | _smaller(tiny))
        self.cells = study.cells(
            Geometry(layers=self.text.num_hidden_layers, heads=self.text.num_attention_heads, visual=self.visual)
        )
        self.system = self.embeds(SYSTEM)
        self.windows = [self._window(kind, questions) for kind in KINDS]

    def embeds(self, count: int) -> Tensor:
        tokens = torch.randint(3, self.text.vocab_size - 1, (count,), device=self.device)
        with torch.inference_mode():
            return self.model.get_input_embeddings()(tokens)

    def _window(self, kind: Kind, count: int) -> Windows:
        lengths = [max(12, int(self.random.gauss(kind.mean, kind.spread))) for _ in range(count)]
        asked = [Question(n // kind.per_image, self.embeds(length), f"q{n}") for n, length in enumerate(lengths)]
        return Windows(kind, torch.randn(-(-count // kind.per_image), 3, self.side, self.side), asked)

    @torch.inference_mode()
    def see(self, pixels: Tensor) -> Tensor:
        features = self.model.get_image_features(pixels.to(self.device, self.dtype)).pooler_output
        return torch.stack(list(features))

    def engine(self) -> Engine:
        return Engine(self.decoder, self.system, self.cells, self.visual, self.steps)

    def grid(self, window: Windows) -> list[list[Any]]:
        return self.engine().answer(self.see(window.pixels), window.questions)

    def single(self, window: Windows, count: int) -> dict[tuple[int, int], list[int]]:
        """The first questions of a window under each cell, everything computed again each time."""
        said, kept = {}, self.engine().kept
        for place, question in enumerate(window.questions[:count]):
            for column, cell in enumerate(self.cells):
                image = self.see(window.pixels[question.image : question.image + 1])[0]
                prompt = self.system, Picture(span_SD=image), question.embeds_QD
                said[place, column] = original_answer(
                    self.model, *prompt, cell, kept[column], self.steps, question.sample_id, self.decoder.eos
                )
        return said

    @torch.inference_mode()
    def generate(self, window: Windows, count: int) -> None:
        for question in window.questions[:count]:
            image = self.see(window.pixels[question.image : question.image + 1])[0]
            prompt = torch.cat([self.system, image, question.embeds_QD])[None]
            ones = torch.ones(prompt.shape[:2], device=self.device)
            self.model.generate(inputs_embeds=prompt, attention_mask=ones, max_new_tokens=self.steps, do_sample=False)

    def flops(self, window: Windows, rows: list[list[Any]]) -> float:
        """FLOPs of the merged branches' prefill, each once: layers K + 1 .. L - 1, and of the last what is read."""
        wide, inner, layers = self.text.hidden_size, self.text.intermediate_size, self.text.num_hidden_layers
        layer, total = 2 * (4 * wide**2 + 3 * wide * inner), 0.0
        for question, row in zip(window.questions, rows, strict=True):
            for cell, branch in zip(self.cells, row, strict=True):
                count = len(branch.kept_R) + len(question.embeds_QD)
                above = (layers - cell.layer - 1) * count * (layer + 4 * wide * (SYSTEM + count))
                total += (above + count * 4 * wide**2 + layer) / branch.shared
        return total


def _smaller(tiny: bool) -> dict[str, Any]:
    """Fewer tokens and cells where images and decoder are small."""
    if not tiny:
        return {}
    return {"budget": "kept", "tokens": "32,16", "heads": "8", "strategy": "sparsity,max_attention"}


def _model(tiny: bool, device: torch.device, dtype: torch.dtype, alpha: float) -> LlavaForConditionalGeneration:
    text = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "head_dim": 128}
    tower = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "image_size": 336}
    if tiny:
        text = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 5, "head_dim": 4}
        tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "image_size": 8 * PATCH}
    text |= {"num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 512 if tiny else 32064}
    config = LlavaConfig(
        text_config={"model_type": "llama", "max_position_embeddings": 4096, "eos_token_id": 2, **text},
        vision_config={
            "model_type": "clip_vision_model",
            "num_attention_heads": 16,
            "patch_size": PATCH,
            **tower,
        },
        image_token_index=text["vocab_size"] - 1,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = LlavaForConditionalGeneration(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for number, layer in enumerate(model.model.language_model.layers):
            layer.self_attn.o_proj.weight.mul_(alpha)
            layer.mlp.down_proj.weight.mul_(alpha)
            if number < 2:
                layer.self_attn.q_proj.weight.mul_(8)  # attention that is not flat, so that heads differ
    return model


def rounds(lab: Lab, count: int, singles: int, deadline: float) -> dict[str, dict[str, float]]:
    """Seconds per question by kind and way: medians over the rounds that there was time for, at least one."""
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(count):
        if number and time.monotonic() > deadline:
            break
        for window in lab.windows:
            name = window.kind.name
            ways: dict[str, tuple[Callable[[], Any], int]] = {
                "engine": (lambda w=window: lab.grid(w), len(window.questions)),
                "one at a time": (lambda w=window: lab.single(w, singles), singles),
                "generate": (lambda w=window: lab.generate(w, 4), min(4, len(window.questions))),
            }
            for way, (call, questions) in ways.items():
                found.setdefault(name, {}).setdefault(way, []).append(timed(call)[0] / questions)
    return {name: {way: statistics.median(each) for way, each in ways.items()} for name, ways in found.items()}


def identity(lab: Lab, singles: int) -> dict[str, Any]:
    """Answers of the engine beside those of one at a time; a difference counts where the margin is not rounding."""
    compared, differences, beyond = 0, [], 0
    for window in lab.windows:
        rows = lab.grid(window)
        for (place, column), said in lab.single(window, singles).items():
            branch = rows[place][column]
            compared += 1
            if branch.tokens != said:
                differences.append(branch.margin)
                step = torch.finfo(lab.dtype).eps * 16  # logits of 16 and more
                beyond += branch.margin > STEPS_OF_LOGIT * step
    return {
        "answers compared": compared,
        "identical": 1 - len(differences) / compared,
        "margins of the others": sorted(differences),
        "different beyond rounding": beyond,
    }


STAGES = (
    (prefix.Images, "extend", "image, layers 1..K"),
    (prefix.Questions, "extend", "question (and image), layers 1..K"),
    (grow.Tree, "_choose", "ranking"),
    (grow, "read", "read what was kept"),
    (branches.Stack, "_prefill", "branch prefill"),
    (waves.Waves, "_settle", "read answers and decode"),
    (decode, "_step", "decode step"),
    (caches.Buffer, "__init__", "lay out caches"),
)


@contextlib.contextmanager
def staged(device: torch.device, seconds: Counter[str], calls: Counter[str]) -> Iterator[None]:
    """Time stages, waiting for the device before and after each (nested ones are in those around them, too)."""
    saved = [(owner, name, getattr(owner, name)) for owner, name, _ in STAGES]

    def watched(right: Callable[..., Any], label: str) -> Callable[..., Any]:
        def run(*given: Any, **more: Any) -> Any:
            took, out = timed(lambda: right(*given, **more))
            seconds[label] += took
            calls[label] += 1
            return out

        return run

    for (owner, name, right), (_, _, label) in zip(saved, STAGES, strict=True):
        setattr(owner, name, watched(right, label))
    try:
        yield
    finally:
        for owner, name, right in saved:
            setattr(owner, name, right)


def drafts(lab: Lab) -> float:
    """Share of the branches with a draft that the draft finished."""
    checked = held = 0
    right = branches.Stack.accept

    def watched(stack: Any, read: Tensor) -> Any:
        nonlocal checked, held
        outcomes = right(stack, read)
        for draft, outcome in zip(stack.drafts, outcomes, strict=True):
            checked += bool(draft)
            held += bool(draft) and list(draft) == outcome.tokens
        return outcomes

    branches.Stack.accept = watched
    try:
        for window in lab.windows:
            lab.grid(window)
    finally:
        branches.Stack.accept = right
    return held / max(1, checked)


def on_the_device(lab: Lab) -> dict[str, Any]:
    """What only a GPU shows: host syncs per window, and the kernels that took the time."""
    if lab.device.type != "cuda":
        return {"host syncs per window": None, "kernels": None}
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        lab.grid(lab.windows[0])
    torch.cuda.set_sync_debug_mode("default")
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        lab.grid(lab.windows[0])
    events = sorted(watched.key_averages(), key=lambda event: -event.device_time_total)[:20]
    kernels = [[event.key[:80], round(event.device_time_total / 1e3, 1), event.count] for event in events]
    return {"host syncs per window": len(seen), "kernels": kernels}


def measured(lab: Lab, count: int, singles: int, deadline: float) -> dict[str, Any]:
    for window in lab.windows:  # nothing is timed that is done for the first time
        lab.grid(window)
        lab.single(window, 1)
        lab.generate(window, 1)
    seconds = rounds(lab, count, singles, deadline)
    found = [lab.grid(window) for window in lab.windows]
    peak = matmul_rate(lab.device, lab.dtype)
    flops = [lab.flops(window, rows) for window, rows in zip(lab.windows, found, strict=True)]
    busy = sum(seconds[window.kind.name]["engine"] * len(window.questions) for window in lab.windows)
    asked = sum(len(window.questions) for window in lab.windows)
    spent, calls = Counter[str](), Counter[str]()
    with staged(lab.device, spent, calls):
        for window in lab.windows:
            lab.grid(window)
    return {
        "machine": describe(lab.device),
        "cells": len(lab.cells),
        "questions": asked,
        "branches per question": sum(1 / each.shared for rows in found for row in rows for each in row) / asked,
        "drafts that held": drafts(lab),
        "seconds per question": seconds,
        "ratio to one at a time": {name: each["one at a time"] / each["engine"] for name, each in seconds.items()},
        "matmul TFLOP/s": peak / 1e12,
        "share of peak, branch prefill": sum(flops) / busy / peak,
        "published study, minutes": sum(kind.published * seconds[kind.name]["engine"] for kind in KINDS) / 60,
        "published study one at a time, hours": sum(k.published * seconds[k.name]["one at a time"] for k in KINDS)
        / 3600,
        "stage milliseconds per window": {name: 1e3 * each / len(found) for name, each in spent.items()},
        "stage calls per window": {name: each / len(found) for name, each in calls.items()},
        **identity(lab, singles),
        **on_the_device(lab),
        "peak bytes": peak_memory(lab.device),
        "stack positions": memory.stack_tokens(lab.decoder),
    }


@click.command()
@click.option("--tiny", is_flag=True, help="a decoder of five narrow layers, for any machine")
@click.option("--dtype", default="float16")
@click.option(
    "--alpha", default=0.1, help="scale of what attention and MLP add; tune until drafts hold as in a trained one"
)
@click.option("--questions", default=64, help="per window")
@click.option("--rounds", "count", default=3)
@click.option("--single", "singles", default=2, help="questions that are answered one at a time, per window")
@click.option("--steps", default=8, help="tokens per answer at most")
@click.option("--minutes", default=9.0, help="no further round is begun after them")
@click.option("--json", "as_json", is_flag=True)
def main(tiny: bool, dtype: str, alpha: float, questions: int, count: int, singles: int, steps: int, minutes: float,
         as_json: bool) -> None:  # fmt: skip
    deadline = time.monotonic() + 60 * minutes * 0.6  # the rest is for what follows the rounds
    lab = Lab(tiny, dtype, alpha, questions, steps)
    result = measured(lab, count, singles, deadline)
    click.echo(json.dumps(result) if as_json else "\n".join(f"{name:38} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
