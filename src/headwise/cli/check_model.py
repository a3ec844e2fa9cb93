"""`headwise check-model`: does the engine answer as transformers' own forward does, on this checkpoint?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from headwise.cli.options import plugin_option


@click.command("check-model")
@click.argument("model")
@plugin_option
@click.option("--images", required=True, type=click.Path(path_type=Path), help="A folder of pictures.")
@click.option("--count", default=3, type=click.IntRange(1), show_default=True, help="Pictures to ask about.")
@click.option("--layer", default=2, type=click.IntRange(1), show_default=True, help="Decoder layer to prune after.")
@click.option(
    "--dtype",
    default="auto",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    show_default=True,
    help="Precision of the model.",
)
@click.option("--device", default="auto", show_default=True, help="Device to run on: auto, cpu, cuda, cuda:1.")
@click.option("--min-pixels", type=click.IntRange(1), help="As in a study (Qwen).  [default: the family's]")
@click.option("--max-pixels", type=click.IntRange(1), help="As in a study (Qwen).  [default: the family's]")
@click.option("--max-tiles", type=click.IntRange(1), help="As in a study (InternVL).  [default: the family's]")
def command(model: str, images: Path, count: int, layer: int, dtype: str, device: str, **limits: int | None) -> None:
    """Answer a few questions pruned by the engine and by transformers' own forward, and say whether they agree.

    MODEL is a checkpoint: embedded, a folder, or a hub name. Slow: the second way computes the whole prompt again for
    every token. Exit code 1 where they differ; in bfloat16 and float16 ties may, so check in float32.
    """
    from headwise.models.checkpoint import Vlm, find_checkpoint
    from headwise.models.contract import ImageOptions
    from headwise.run.model_check import cells_for, check, images_in
    from headwise.system import garbage

    garbage.as_usual()
    paths, checkpoint = images_in(images, count), find_checkpoint(model).seen_as(ImageOptions(**limits))
    cells, rows = cells_for(checkpoint.geometry, layer), []
    for row in check(Vlm(checkpoint, dtype, device), paths, cells):
        rows.append(row)
        verdict = "same" if row.agrees else "other tokens kept" if not row.kept_equal else "other answer"
        click.echo(f"{row.image}  {row.cell:40} {verdict:18} logits within {row.largest:.2g}, margin {row.margin:.2g}")
    agree, largest = sum(row.agrees for row in rows), max(row.largest for row in rows)
    click.echo(f"{agree} of {len(rows)} agree; the largest difference of a logit is {largest:.2g}")
    sys.exit(0 if agree == len(rows) else 1)
