"""How a window's branches fall into stacks: their sizes, and what of them is of use.

    python bench/stacks.py [--embedded] [--no-drafts] [--json]

Nothing is timed. By default a window as LLaVA-1.5-7B's study has it: 64 questions of 20 to 60 positions on images of
576 tokens, 35 positions in front, 63 cells that keep 166, 98 or 30, stacks as large as on an H200 (91,000 positions, a
forecast). The decoder has the heads and few narrow layers, and random weights scaled as in bench/gpu.py, so that
branches mostly agree. With --embedded two windows of each benchmark of the embedded study, as a CPU runs them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from headwise.engine import Engine, Optimizations, Question, branches, decode
from headwise.models.decoder import Decoder
from headwise.run.answering import image_paths, open_windows
from headwise.run.evaluate import Job
from headwise.run.settings import load_settings
from headwise.study.cells import Geometry

ROOT = Path(__file__).parents[1]
SYSTEM, VISUAL, IMAGES, QUESTIONS, LENGTHS, LAYERS, HEADS, WORDS = 35, 576, 8, 64, (20, 60), 4, 32, 512
POSITIONS = 91_000
SMALL = 2048


@dataclass
class Seen:
    """What the stacks of one window ran; `ran`, `needed`: positions per stack. `steps`: rows of each decode step."""

    ran: list[int] = field(default_factory=list)
    needed: list[int] = field(default_factory=list)
    padded: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)


@contextmanager
def watched(seen: Seen) -> Iterator[None]:
    layers, accept, step = branches.Stack._layers, branches.Stack.accept, decode._step

    def run(stack: Any, hidden: torch.Tensor, *given: Any) -> Any:
        stack.ran = hidden.shape[0] * hidden.shape[1]
        return layers(stack, hidden, *given)

    def accepting(stack: Any, read: torch.Tensor) -> Any:
        outcomes, drafted = accept(stack, read), read.shape[2] - 1
        prompt = stack.ran - len(outcomes) * drafted
        seen.ran.append(stack.ran)
        seen.padded.append(sum(drafted - max(0, len(draft) - 1) for draft in stack.drafts))
        seen.needed.append(prompt + sum(len(outcome.tokens) - 1 for outcome in outcomes))
        return outcomes

    def stepping(caches: Any, outcomes: Any, running: Any) -> None:
        seen.steps.append(len(outcomes))
        step(caches, outcomes, running)

    branches.Stack._layers, branches.Stack.accept, decode._step = run, accepting, stepping
    try:
        yield
    finally:
        branches.Stack._layers, branches.Stack.accept, decode._step = layers, accept, step


def embedded(drafts: bool) -> list[tuple[str, Callable[[], Any]]]:
    job = Job.of(load_settings(str(ROOT / "configs/default.yaml"), {"controls": "none"}))
    job.answerer.optimizations = Optimizations(draft=drafts)
    found = []
    for task in job.tasks:
        nothing = np.zeros((len(task.samples), len(task.cells)), dtype=bool)
        for number, window in enumerate(open_windows(task, nothing, "cpu")[1:3], 2):
            prepared = job.answerer.prepare(window, image_paths(task, window), task.cells)
            given = task.cells, prepared.pixels, [task.samples[place] for place in window.places]
            found.append(
                (f"{task.name} {number}", lambda g=given: [each.branches for each in job.answerer.branches(*g)])
            )
    return found


def full_size(drafts: bool) -> list[tuple[str, Callable[[], Any]]]:
    """One window of LLaVA-1.5-7B's shape, but for width and depth."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 4 * HEADS, "intermediate_size": 8 * HEADS, "num_hidden_layers": LAYERS}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=WORDS, num_attention_heads=HEADS, eos_token_id=2)).eval()
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            layer.self_attn.o_proj.weight.mul_(0.1)
            layer.mlp.down_proj.weight.mul_(0.1)
            layer.self_attn.q_proj.weight.mul_(8 if number < 2 else 1)
    decoder = Decoder(model)
    decoder.eos = frozenset(range(0, WORDS, 4))  # every fourth word ends an answer
    overrides = {"controls": "none", "budget": "kept", "tokens": "166,98,30"}
    study = load_settings(str(ROOT / "configs/llava-1.5-7b.yaml"), overrides)
    cells = study.cells(Geometry(layers=LAYERS, heads=HEADS, visual=VISUAL))

    def embeds(count: int) -> torch.Tensor:
        return model.get_input_embeddings()(torch.randint(3, WORDS, (count,))).detach()

    lengths = torch.randint(LENGTHS[0], LENGTHS[1] + 1, (QUESTIONS,)).tolist()
    asked = [Question(n * IMAGES // QUESTIONS, embeds(length), f"q{n}") for n, length in enumerate(lengths)]
    pictures = torch.stack([embeds(VISUAL) for _ in range(IMAGES)])
    engine = Engine(decoder, embeds(SYSTEM), cells, VISUAL, 8, Optimizations(draft=drafts))
    engine.stack_tokens, engine.held_tokens = POSITIONS, 2 * POSITIONS
    return [("7B's shape", lambda: engine.answer(pictures, asked))]


def described(name: str, seen: Seen, rows: Any) -> dict[str, Any]:
    total = sum(seen.ran)
    lengths = [len(branch.tokens) for row in rows for branch in row]
    return {
        "window": name,
        "stacks": len(seen.ran),
        "positions": total,
        "useful": sum(seen.needed) / total,
        "padding": sum(seen.padded) / total,
        "positions per stack, quartiles": statistics.quantiles(seen.ran, n=4),
        f"stacks of fewer than {SMALL}": sum(each < SMALL for each in seen.ran),
        "share of positions in them": sum(each for each in seen.ran if each < SMALL) / total,
        "longest answer": max(lengths),
        "mean answer": statistics.mean(lengths),
        "decode steps": len(seen.steps),
        "rows per step": seen.steps,
    }


@click.command()
@click.option("--embedded", "small", is_flag=True, help="windows of the embedded study")
@click.option("--no-drafts", is_flag=True, help="all branches in one wave")
@click.option("--json", "as_json", is_flag=True)
def main(small: bool, no_drafts: bool, as_json: bool) -> None:
    for name, call in (embedded if small else full_size)(not no_drafts):
        seen = Seen()
        with watched(seen), torch.inference_mode():
            rows = call()
        found = described(name, seen, rows)
        click.echo(json.dumps(found) if as_json else "\n".join(f"{key:32} {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
