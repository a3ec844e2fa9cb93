"""Every method × three budgets on the embedded study: one grid against one configuration at a time, in one run.

    PYTHONPATH=src python bench/methods.py [--images 2] [--json]

The single way answers one question under one cell after the other, everything recomputed (tower, choosing, prompt,
decoding step by step; the model loaded once), by the same code with its optimizations off. FLOPs are counted by torch
over the same calls, so the ratio that they allow stands beside the one measured.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import click
import torch
from grid import flops, timed
from machine import describe, peak_memory

from headwise.benchmarks import benchmark
from headwise.benchmarks.bundles.check import data_folder
from headwise.engine import Optimizations
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.run.answering import Answerer
from headwise.run.settings import load_settings
from headwise.system.reading import read_image

ROOT = Path(__file__).parents[1]
OFF = Optimizations(
    shared_prefix=False, shared_system=False, merge_equal=False, batch=False, draft=False, last_layer_rows=False
)


class Work:
    """The questions on a few images of each benchmark, and the cells of a study."""

    def __init__(self, study, images: int) -> None:
        checkpoint = find_checkpoint(study.model)
        vlm = Vlm(checkpoint, study.dtype)
        self.cells = study.cells(checkpoint.geometry)
        self.whole = Answerer(vlm, study.max_new_tokens)
        self.alone = Answerer(vlm, study.max_new_tokens, OFF)
        self.device = vlm.device
        self.groups = []
        folder = data_folder(study.data_dir)
        for name in study.benchmark:
            by_image: dict = {}
            for sample in benchmark(name).samples(folder, study.limit):
                by_image.setdefault(sample.image, []).append(sample)
            for samples in list(by_image.values())[:images]:
                self.groups.append((read_image(benchmark(name).image_path(folder, samples[0])), samples))
        self.questions = sum(len(samples) for _, samples in self.groups)
        self.pairs = [(image, sample, cell) for image, group in self.groups for sample in group for cell in self.cells]

    def grid(self):
        said = {}
        for image, samples in self.groups:
            pixels = {samples[0].image: self.whole.reducer.prepare(image, self.cells)}
            for sample, found in zip(samples, self.whole.branches(self.cells, pixels, samples), strict=True):
                for cell, branch in zip(self.cells, found.branches, strict=True):
                    said[sample.benchmark, sample.sample_id, cell] = (branch.tokens, branch.margin)
        return said

    def single(self, pairs):
        said = {}
        for image, sample, cell in pairs:
            pixels = {sample.image: self.alone.reducer.prepare(image, [cell])}
            self.alone.system_MD = self.alone.vlm.system()
            self.alone._engines.clear()  # the prompt before the image is run anew, as a process of its own would
            found = self.alone.branches([cell], pixels, [sample])[0].branches[0]
            said[sample.benchmark, sample.sample_id, cell] = found.tokens
        return said


def compare(grid, single) -> dict:
    """Share of identical answers, and every other one with the smallest gap between its two best tokens."""
    differ = [
        {"sample": key[1], "cell": key[2].name, "grid": grid[key][0], "single": tokens, "margin": grid[key][1]}
        for key, tokens in single.items()
        if grid[key][0] != tokens
    ]
    return {"compared": len(single), "identical": 1 - len(differ) / len(single), "differences": differ}


@click.command()
@click.option("--config", default=str(ROOT / "configs/methods.yaml"))
@click.option("--images", default=2, help="images a benchmark")
@click.option("--share", default=7, help="the single way runs every n-th pair of question and cell")
@click.option("--rounds", default=3)
@click.option("--threads", default=1)
@click.option("--limit", default="all", help="questions of each benchmark to take the images from")
@click.option("--json", "as_json", is_flag=True, help="one JSON object on standard output")
def main(config, images, share, rounds, threads, limit, as_json) -> None:
    torch.set_num_threads(threads)
    work = Work(load_settings(config, {"limit": limit, "dtype": "float32"}), images)
    part = work.pairs[::share]
    scale = len(work.pairs) / len(part)
    work.grid(), work.single(part[:5])
    seconds_single, seconds_grid = [], []
    for _ in range(rounds):
        seconds, single = timed(lambda: work.single(part))
        seconds_single.append(seconds * scale)
        seconds, grid = timed(work.grid)
        seconds_grid.append(seconds)
    ratios = [a / b for a, b in zip(seconds_single, seconds_grid, strict=True)]
    few = part[:: max(1, len(part) // 100)]
    bound = flops(lambda: work.single(few)) * len(work.pairs) / len(few) / flops(work.grid)
    result = {
        "questions": work.questions,
        "cells": len(work.cells),
        "seconds_single": statistics.median(seconds_single),
        "seconds_grid": statistics.median(seconds_grid),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "flops_ratio": bound,
        **compare(grid, single),
        "peak_bytes": peak_memory(work.device),
        "machine": describe(work.device),
    }
    click.echo(json.dumps(result) if as_json else "\n".join(f"{name:16} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
