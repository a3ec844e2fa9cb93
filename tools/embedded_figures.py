"""README's picture of the embedded study: what strategies keep of three scenes (tools/embedded_table.py: its table).

python tools/embedded_figures.py docs/kept-tokens.png
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch

from headwise.benchmarks import benchmark
from headwise.benchmarks.benchmark import Benchmark
from headwise.benchmarks.bundles.check import data_folder
from headwise.engine import Engine, Question
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.decoder import Decoder
from headwise.records import Answer, Sample
from headwise.report.figures import Overlay, Seen, kept_tokens
from headwise.run.settings import load_settings
from headwise.system.reading import read_image

ROOT = Path(__file__).parents[1]
SHOWN = ("textvqa", "gqa", "pope")  # of each the first question that some strategy gets right and another wrong
STRATEGIES = "sparsity,hierarchical,max_attention"


def disputed(name: str, tokens: int = 64, heads: int = 8) -> Seen:
    """The first question of a benchmark on which the strategies (chance aside) are not all right or all wrong."""
    settings = {"strategy": STRATEGIES, "tokens": str(tokens), "heads": str(heads), "controls": "random_tokens"}
    study = load_settings(str(ROOT / "configs/default.yaml"), settings)
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
@click.argument("picture", type=click.Path(path_type=Path))
def main(picture: Path) -> None:
    rows = [disputed(name) for name in SHOWN]
    drawing = kept_tokens(rows, "What is kept: 64 of 576 visual tokens, chosen by 8 of 32 heads")
    drawing.savefig(picture)


if __name__ == "__main__":
    main()
