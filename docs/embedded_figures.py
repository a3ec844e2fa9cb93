"""README's table and picture of the embedded study.

    headwise evaluate --config configs/default.yaml --heads 8 --limit all && headwise compare --json > compare.json
    PYTHONPATH=src python docs/embedded_figures.py compare.json docs/kept-tokens.png

Prints the table in Markdown from what compare found, and draws what strategies keep of three scenes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from headwise.benchmarks import benchmark
from headwise.benchmarks.benchmark import Benchmark
from headwise.config import load_study
from headwise.data import data_folder
from headwise.engine import Engine, Question
from headwise.engine.decoder import Decoder
from headwise.model import Vlm, find_checkpoint
from headwise.names import CONTROLS
from headwise.plots import Overlay, Seen, kept_tokens
from headwise.reading import read_image
from headwise.records import Answer, Sample

ROOT = Path(__file__).parents[1]
NAMES = {"textvqa": "TextVQA", "mme": "MME", "gqa": "GQA", "pope": "POPE"}
SHOWN = ("textvqa", "gqa", "pope")  # of each the first question that some strategy gets right and another wrong
STRATEGIES = "sparsity,hierarchical,max_attention"


def table(found: dict[str, Any]) -> str:
    """A row a strategy and budget, scores with their 95 % intervals; unpruned first."""
    parts = {NAMES[name]: part["cells"] for name, part in found["benchmarks"].items()}
    parts["mean, % of unpruned"] = found["overall"]["cells"]
    cells = {(cell["strategy"], cell["tokens"]) for part in parts.values() for cell in part}
    names = " | ".join(parts)
    lines = [f"| tokens | strategy | {names} |", "|---|---" + "|--:" * len(parts) + "|"]
    for strategy, tokens in sorted(cells, key=_order):
        scores = [_score(part, strategy, tokens) for part in parts.values()]
        lines.append(f"| {tokens or 576} | {strategy} | " + " | ".join(scores) + " |")
    return "\n".join(lines)


def _order(cell: tuple[str, int | None]) -> tuple[int, bool, str]:
    strategy, tokens = cell
    return -(tokens or 576), strategy in CONTROLS, strategy


def _score(cells: list[dict[str, Any]], strategy: str, tokens: int) -> str:
    [cell] = [c for c in cells if (c["strategy"], c["tokens"]) == (strategy, tokens)]
    if cell["low"] == cell["high"]:
        return f"{cell['score']:.1f}"
    digits = 0 if cell["score"] > 100 else 1
    low, score, high = (f"{cell[name]:.{digits}f}" for name in ("low", "score", "high"))
    return f"{score} ({low} to {high})"


def disputed(name: str, tokens: int = 64, heads: int = 8) -> Seen:
    """The first question of a benchmark on which the strategies (chance aside) are not all right or all wrong."""
    settings = {"strategy": STRATEGIES, "tokens": str(tokens), "heads": str(heads), "controls": "random_tokens"}
    study = load_study(str(ROOT / "configs/default.yaml"), settings)
    checkpoint, folder = find_checkpoint(study.model), data_folder(study.data_dir)
    vlm, cells = Vlm(checkpoint, study.dtype, "cpu"), study.cells(checkpoint.geometry)
    engine = Engine(Decoder(vlm.model), vlm.system(), cells, vlm.visual, study.max_new_tokens)
    found = (seen(vlm, engine, benchmark(name), folder, sample) for sample in benchmark(name).samples(folder))
    return next(one for one in found if len({o.correct for o in one.overlays if o.name in STRATEGIES}) > 1)


@torch.inference_mode()
def seen(vlm: Vlm, engine: Engine, bench: Benchmark, folder: Path, sample: Sample) -> Seen:
    """One question with what each strategy keeps of its image and says."""
    image = read_image(bench.image_path(folder, sample))
    asked = [Question(0, vlm.question(sample.prompt), sample.sample_id)]
    [branches] = engine.answer(vlm.encode_images([vlm.prepare(image)]), asked)
    overlays = []
    for cell, branch in zip(engine.cells, branches, strict=True):
        text = vlm.text(branch.tokens)
        answer = Answer(question_id=sample.question_id, prompt=sample.prompt, text=text)
        [verdict] = bench.judge(folder, [sample], {answer.key: answer})
        kept = np.isin(np.arange(vlm.visual), branch.kept_R.numpy()).reshape(24, 24)
        overlays.append(Overlay(cell.strategy, text, verdict.correct or 0.0, kept))
    return Seen(sample.prompt.split("\n")[0], verdict.truth, np.asarray(image), overlays)


@click.command()
@click.argument("compared", type=click.Path(exists=True, path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
def main(compared: Path, picture: Path) -> None:
    click.echo(table(json.loads(compared.read_text())))
    rows = [disputed(name) for name in SHOWN]
    drawing = kept_tokens(rows, "What is kept: 64 of 576 visual tokens, chosen by 8 of 32 heads")
    drawing.savefig(picture)


if __name__ == "__main__":
    main()
