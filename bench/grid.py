"""The grid engine against the baseline, side by side in one process on the same samples.

    python bench/grid.py [--images 12] [--family NAME] [--json]

(a) the baseline: one cell, one question at a time, everything recomputed (the model loaded once);
(b) transformers' own generate, unpruned;
(c) the grid engine. Rounds alternate, medians are printed. FLOPs are counted by torch's flop counter over
the same calls, which bounds the possible ratio. Then each optimization is switched off in turn.
With --family it is a checkpoint of random weights of that family, on pictures of random pixels and many sizes;
there is no (b), and optimizations are left on.
"""

from __future__ import annotations

import json
import statistics
import time
from copy import copy
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
from families import FAMILIES, SETTINGS, made_groups, write_checkpoint
from machine import describe, matmul_rate, peak_memory
from original import answer as original_answer
from torch.utils.flop_counter import FlopCounterMode

from headwise.benchmarks import benchmark
from headwise.benchmarks.bundles.check import data_folder
from headwise.engine import Engine, Optimizations, Question
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.contract import Picture
from headwise.models.decoder import Decoder
from headwise.run.settings import load_settings
from headwise.system.reading import read_image

ROOT = Path(__file__).parents[1]
PART_QUESTIONS = 3


class Work:
    """Questions of a few images, embedded once, and the cells of a study."""

    def __init__(self, study, images: int, device: str, dtype: str, family: str = "") -> None:
        checkpoint = find_checkpoint(study.model).seen_as(study.image_limits)
        self.vlm = Vlm(checkpoint, dtype, device)
        self.cells = study.cells(checkpoint.geometry)
        self.steps, self.images = study.max_new_tokens, images
        self.decoder = Decoder(self.vlm.model)
        self.groups = made_groups(images) if family else _groups(study, images)
        self.questions = sum(len(samples) for _, samples in self.groups)

    def part(self) -> Work:
        """A few questions on one image of each benchmark: what the optimizations are measured on."""
        part = copy(self)
        part.groups = [(pixels, samples[:PART_QUESTIONS]) for pixels, samples in self.groups[:: self.images]]
        part.questions = sum(len(samples) for _, samples in part.groups)
        return part

    def engine(self, cells, optimizations: Optimizations | None = None) -> Engine:
        return Engine(self.decoder, self.vlm.system(), cells, self.vlm.visual, self.steps, optimizations)

    def grid(self, optimizations: Optimizations | None = None):
        """(c): answers by (question, cell), margins beside them."""
        engine, said = self.engine(self.cells, optimizations), {}
        for pixels, samples in self.groups:
            images = self.vlm.encode_images([self.vlm.prepare(pixels)])
            asked = [Question(0, self.vlm.question(sample.prompt), sample.sample_id) for sample in samples]
            for sample, branches in zip(samples, engine.answer(images, asked), strict=True):
                for cell, branch in zip(self.cells, branches, strict=True):
                    said[sample.sample_id, cell] = (branch.tokens, branch.margin, branch.shared)
        return said

    def one_by_one(self, share: slice):
        """(a), over a share of the questions."""
        engine = self.engine(self.cells)
        said = {}
        for pixels, sample in self._pairs()[share]:
            for column, cell in enumerate(self.cells):
                image = self.vlm.encode_images([self.vlm.prepare(pixels)])[0]
                picture = image if isinstance(image, Picture) else Picture(span_SD=image)
                kept = picture.visual if cell.strategy == "vanilla" else engine.stages(column, picture.visual)[0].keep
                prompt = self.vlm.system(), picture, self.vlm.question(sample.prompt)
                tokens = original_answer(
                    self.vlm.model, *prompt, cell, kept, self.steps, sample.sample_id, self.decoder.eos
                )
                said[sample.sample_id, cell] = tokens
        return said

    def generate(self, share: slice):
        """(b): unpruned, one question at a time."""
        for pixels, sample in self._pairs()[share]:
            image = self.vlm.encode_images([self.vlm.prepare(pixels)])[0]
            embeds = torch.cat([self.vlm.system(), image, self.vlm.question(sample.prompt)])[None]
            with torch.inference_mode():
                self.vlm.model.generate(
                    inputs_embeds=embeds,
                    attention_mask=torch.ones(embeds.shape[:2], device=embeds.device),
                    max_new_tokens=self.steps,
                    do_sample=False,
                )

    def _pairs(self):
        return [(pixels, sample) for pixels, samples in self.groups for sample in samples]


def _groups(study, images: int):
    """The first images of every benchmark with all their questions."""
    folder = data_folder(study.data_dir)
    groups = []
    for name in study.benchmark:
        by_image: dict = {}
        for sample in benchmark(name).samples(folder):
            by_image.setdefault(sample.image, []).append(sample)
        for samples in list(by_image.values())[:images]:
            groups.append((read_image(benchmark(name).image_path(folder, samples[0])), samples))
    return groups


def timed(call):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def flops(call) -> int:
    with FlopCounterMode(display=False, custom_mapping=_cpu_attention()) as counter:
        call()
    return counter.get_total_flops()


def _cpu_attention():
    """The flop counter does not know the CPU's attention kernel; both products, dense, as for the others."""

    def count(query, key, value, *_, **__):
        batch, heads, rows, size = query
        return 2 * 2 * batch * heads * rows * key[2] * size

    return {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: count}


def compare_answers(grid, single):
    """Share of identical answers, and every difference with its margin."""
    differences = [
        {"sample": name, "cell": cell.name, "grid": said, "single": tokens, "margin": margin}
        for (name, cell), tokens in single.items()
        for said, margin, _ in [grid[name, cell]]
        if said != tokens
    ]
    return 1 - len(differences) / len(single), differences


@click.command()
@click.option("--config", default=str(ROOT / "configs/default.yaml"))
@click.option("--images", default=3, help="images per benchmark")
@click.option("--share", default=6, help="(a) and (b) run every n-th question")
@click.option("--rounds", default=3)
@click.option("--device", default="auto")
@click.option("--dtype", default="auto")
@click.option("--controls", default="none")
@click.option("--threads", default=2)
@click.option("--family", type=click.Choice(FAMILIES), help="a random checkpoint of this family")
@click.option("--json", "as_json", is_flag=True, help="one JSON object on standard output")
def main(config, images, share, rounds, device, dtype, controls, threads, family, as_json) -> None:
    torch.set_num_threads(threads)
    with TemporaryDirectory() as folder:
        given = {"controls": controls}
        if family:
            given |= SETTINGS | write_checkpoint(family, Path(folder))
        work = Work(load_settings(config, given), images, device, dtype, family)
    every = slice(None, None, share)
    part = len(range(work.questions)[every]) / work.questions
    work.one_by_one(slice(0, 1))
    work.grid()
    rounds_a, rounds_b, rounds_c = [], [], []
    for _ in range(rounds):
        seconds, single = timed(lambda: work.one_by_one(every))
        rounds_a.append(seconds / part)
        if not family:
            rounds_b.append(timed(lambda: work.generate(every))[0] / part)
        seconds, grid = timed(work.grid)
        rounds_c.append(seconds)
    result = summary(work, rounds_a, rounds_b, rounds_c, single, grid)
    few = slice(None, None, 4 * share)
    result["flops_single"] = flops(lambda: work.one_by_one(few)) / len(range(work.questions)[few]) * work.questions
    result["flops_grid"] = flops(work.grid)
    result["flops_ratio"] = result["flops_single"] / result["flops_grid"]
    result["of_flops_ratio"] = result["ratio"] / result["flops_ratio"]
    rate = matmul_rate(work.vlm.device, work.vlm.dtype)
    result["matmul_flops_per_second"] = rate
    result["achieved_share"] = result["flops_grid"] / result["seconds_grid"] / rate
    if family:
        result["family"] = family
    else:
        result["optimizations"] = optimizations(work.part())
    result["peak_bytes"] = peak_memory(work.vlm.device)
    result["machine"] = describe(work.vlm.device)
    click.echo(json.dumps(result) if as_json else "\n".join(f"{name:26} {value}" for name, value in result.items()))


def summary(work, rounds_a, rounds_b, rounds_c, single, grid):
    identical, differences = compare_answers(grid, single)
    a, b, c = (statistics.median(rounds) if rounds else None for rounds in (rounds_a, rounds_b, rounds_c))
    done = work.questions * len(work.cells)
    ratios = [x / z for x, z in zip(rounds_a, rounds_c, strict=True)]
    return {
        "questions": work.questions,
        "cells": len(work.cells),
        "seconds_single": a,
        "seconds_generate_unpruned": b,
        "seconds_grid": c,
        "samples_cells_per_second": done / c,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "branches_per_cell_and_question": sum(1 / shared for _, _, shared in grid.values()) / done,
        "identical": identical,
        "differences": differences,
    }


def optimizations(work) -> dict[str, dict[str, float]]:
    """What the grid costs with each optimization off, as a multiple of all on (all-on repeated between)."""
    found = {}
    for field in fields(Optimizations):
        off, on = [], []
        for _ in range(2):
            off.append(timed(lambda name=field.name: work.grid(Optimizations(**{name: False})))[0])
            on.append(timed(work.grid)[0])
        found[field.name] = {"seconds_off": statistics.median(off), "times_slower": sum(off) / sum(on)}
    return found


if __name__ == "__main__":
    main()
