"""The grid engine with compiled norms and MLPs (`--compile true`) beside the engine as it is, in one process.

    python bench/compiled.py [--images 1] [--rounds 3] [--family NAME] [--json]

Two loaded models answer the same questions in turn, whole grids at a time. The first grid of each, in which torch
compiles, is timed apart and counts in no ratio.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
from families import FAMILIES, SETTINGS, write_checkpoint
from grid import ROOT, Work, timed
from machine import describe

from headwise.engine.compiled import compile_layers
from headwise.run.settings import load_settings


def measured(work: Work) -> tuple[float, float, list[list[int]]]:
    """Seconds, processor seconds, and the answers of one whole grid."""
    started = time.process_time()
    seconds, said = timed(work.grid)
    return seconds, time.process_time() - started, [tokens for tokens, _, _ in said.values()]


@click.command()
@click.option("--images", default=1, help="images per benchmark")
@click.option("--rounds", default=3)
@click.option("--threads", default=2)
@click.option("--device", default="auto")
@click.option("--family", type=click.Choice(FAMILIES), help="a random checkpoint of this family")
@click.option("--json", "as_json", is_flag=True, help="one JSON object on standard output")
def main(images, rounds, threads, device, family, as_json) -> None:
    """Print seconds of both, the ratio of each round (above 1: compiled is faster), and the share of equal answers."""
    torch.set_num_threads(threads)
    with TemporaryDirectory() as folder:
        given = {"controls": "none"}
        if family:
            given |= SETTINGS | write_checkpoint(family, Path(folder))
        study = load_settings(str(ROOT / "configs/default.yaml"), given)
        plain, compiled = (Work(study, images, device, "auto", family) for _ in range(2))
    compile_layers(compiled.decoder)
    first = [measured(work)[0] for work in (plain, compiled)]
    found = [(measured(plain), measured(compiled)) for _ in range(rounds)]
    ratios = [one[0] / other[0] for one, other in found]
    pairs = [pair for one, other in found for pair in zip(one[2], other[2], strict=True)]
    ways = list(enumerate(("plain", "compiled")))
    result = {
        "questions": plain.questions,
        "cells": len(plain.cells),
        "first_seconds": {way: first[n] for n, way in ways},
        "seconds": {way: statistics.median(pair[n][0] for pair in found) for n, way in ways},
        "processor": {way: statistics.median(pair[n][1] for pair in found) for n, way in ways},
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "identical": sum(a == b for a, b in pairs) / len(pairs),
        "machine": describe(plain.vlm.device),
    }
    click.echo(json.dumps(result) if as_json else "\n".join(f"{name:14} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
