"""Cost model of the grid engine: seconds against cells and against questions per image, measured and fitted.

    python bench/law.py [--plot bench/law.png] [--json]

Studies of 1, 9, 63 and 252 cells answer the same questions, and one study answers 1, 2, 6 and 18 questions
per image. The fit is seconds = image x images + question x questions + branch x branches, all coefficients >= 0;
branches are counted after those that keep the same tokens have been merged.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import click
import numpy as np
import torch
from grid import ROOT, Work, timed
from machine import describe
from scipy.optimize import nnls

from headwise.run.settings import load_settings
from headwise.study.names import PUBLISHED_STRATEGIES

PUBLISHED = ",".join(PUBLISHED_STRATEGIES)
CELLS = {
    1: {"strategy": "sparsity", "tokens": "64", "heads": "8"},
    9: {"strategy": "sparsity", "tokens": "192,128,64", "heads": "24,16,8"},
    63: {"strategy": PUBLISHED, "tokens": "192,128,64", "heads": "24,16,8"},
    252: {"strategy": PUBLISHED, "tokens": ",".join(str(n) for n in range(32, 224, 16)), "heads": "24,16,8"},
}
QUESTIONS = (1, 2, 6, 18)  # per image


class Slice(Work):
    """POPE's first images with a number of questions each, under a number of cells."""

    def __init__(self, config: str, cells: int, images: int, questions: int, device: str, dtype: str) -> None:
        study = load_settings(config, {**CELLS[cells], "controls": "none", "benchmark": "pope"})
        super().__init__(study, images, device, dtype)
        self.groups = [(pixels, samples[:questions]) for pixels, samples in self.groups]
        self.questions = sum(len(samples) for _, samples in self.groups)

    def measure(self, rounds: int) -> dict[str, float]:
        said = self.grid()
        seconds = statistics.median(timed(self.grid)[0] for _ in range(rounds))
        return {
            "cells": len(self.cells),
            "images": len(self.groups),
            "questions": self.questions,
            "branches": round(sum(1 / shared for *_, shared in said.values())),
            "seconds": seconds,
        }


def fit(points: list[dict[str, float]]) -> dict[str, float]:
    """Seconds per image, per question and per branch, and the largest relative error."""
    counts = np.array([[point[name] for name in ("images", "questions", "branches")] for point in points], float)
    seconds = np.array([point["seconds"] for point in points])
    # weighed by 1/seconds: each point counts by its relative error
    coefficients, _ = nnls(counts / seconds[:, None], np.ones(len(points)))
    worst = float(np.max(np.abs(counts @ coefficients / seconds - 1)))
    return dict(zip(("image", "question", "branch"), coefficients.tolist(), strict=True)) | {"worst_error": worst}


def predicted(point: dict[str, float], law: dict[str, float]) -> float:
    """Seconds predicted by the model for one point."""
    return law["image"] * point["images"] + law["question"] * point["questions"] + law["branch"] * point["branches"]


def plot(points: list[dict[str, float]], law: dict[str, float], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    by_cells, by_questions = points[: len(CELLS)], points[len(CELLS) :]
    _panel(left, "cells", [point["cells"] for point in by_cells], by_cells, law)
    _panel(right, "questions per image", [p["questions"] / p["images"] for p in by_questions], by_questions, law)
    figure.tight_layout()
    figure.savefig(out, dpi=90)


def _panel(axis, label: str, counts: list[float], points: list[dict[str, float]], law: dict[str, float]) -> None:
    axis.plot(counts, [predicted(point, law) for point in points], color="#0072b2", label="fitted")
    axis.plot(counts, [point["seconds"] for point in points], "o", color="#d55e00", label="measured")
    axis.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds")
    axis.set_xticks(counts, [f"{count:g}" for count in counts])
    axis.minorticks_off()
    axis.legend(frameon=False)


@click.command()
@click.option("--config", default=str(ROOT / "configs/default.yaml"))
@click.option("--images", default=3)
@click.option("--rounds", default=3)
@click.option("--device", default="auto")
@click.option("--dtype", default="auto")
@click.option("--threads", default=2)
@click.option("--plot", "picture", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def main(config, images, rounds, device, dtype, threads, picture, as_json) -> None:
    torch.set_num_threads(threads)
    shapes = [(cells, 6) for cells in CELLS] + [(9, questions) for questions in QUESTIONS]
    points = [Slice(config, cells, images, asked, device, dtype).measure(rounds) for cells, asked in shapes]
    law = fit(points)
    if picture:
        plot(points, law, picture)
    result = {"points": points, "law": law, "machine": describe(torch.device("cpu" if device == "auto" else device))}
    click.echo(json.dumps(result) if as_json else "\n".join(map(str, [*points, law, result["machine"]])))


if __name__ == "__main__":
    main()
