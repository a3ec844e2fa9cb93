"""How often the best set and the intervals keep their promise, in simulated studies.

    PYTHONPATH=src python bench/coverage.py --replicates 1000 --json

Null studies: every cell is equally good. A question is answered right where its difficulty, which all cells share and
which questions about one image share in part, is less than the cell's ability plus a draw of its own. Counted are the
studies in which every cell stays in the best set; and the intervals of the first cell's score and of its difference
to the second that have the true value in them. At 100 images 20 points are taken from one cell, too: the studies in
which it is excluded. Nothing here measures a model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import norm

from headwise.stats import Mean, MeanF1, Outcomes, PairSum, best_set_p, estimate, flip

IMAGES = (1, 2, 4, 10, 20, 30, 60, 100)
CELLS = (4, 15, 28, 63)
AGGREGATES = {"mean": Mean(), "mme": PairSum(), "mean_f1": MeanF1()}
QUESTIONS = {"mean": 5, "mme": 2, "mean_f1": 6, "mean, one question": 1, "mean, 97 % right": 5}
"""Questions per image of each kind of study."""
OWN = 0.5
"""How far cells draw for themselves; difficulty has variance 1 among images and 1 among questions of one image."""
ENOUGH = 100
"""Images at which a cell 20 points worse must be excluded."""
LARGE = 100_000
"""Images of the study that gives the true scores."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--replicates", type=int, default=1000)
    options.add_argument("--images", type=int, nargs="+", default=IMAGES)
    options.add_argument("--cells", type=int, nargs="+", default=CELLS)
    options.add_argument("--kinds", nargs="+", default=list(QUESTIONS))
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    began = time.perf_counter()
    rows = []
    for kind, images, cells in itertools.product(given.kinds, given.images, given.cells):
        rows.append(coverage(kind, images, cells, given.replicates))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    error = 100 * (0.95 * 0.05 / given.replicates) ** 0.5
    found = {"replicates": given.replicates, "standard_error": error, "seconds": time.perf_counter() - began}
    print(json.dumps(found | {"rows": rows}) if given.json else markdown(rows))


def coverage(kind: str, images: int, cells: int, replicates: int) -> dict[str, object]:
    """Percent of the replicates in which each promise was kept."""
    share = 0.97 if "97" in kind else 0.6
    rng, truth = np.random.default_rng([images, cells]), true_score(kind, share, images)
    kept, worse, score, difference = (np.zeros(replicates, bool) for _ in range(4))
    for number in range(replicates):
        null = estimate(study(rng, kind, images, np.full(cells, share)))
        kept[number] = (best_set_p(flip(null, number)) > 0.05).all()
        score[number] = _inside(null.intervals()[0], truth)
        difference[number] = _inside(null.differences(np.array([1, *range(1, cells)]))[0], 0)
        if images < ENOUGH:
            continue
        lower = np.full(cells, share)
        lower[-1] -= 0.2
        worse[number] = best_set_p(flip(estimate(study(rng, kind, images, lower)), number))[-1] <= 0.05
    promises = {"all_kept": kept, "worse_excluded": worse, "score_covered": score, "difference_covered": difference}
    shares = {name: 100 * float(each.mean()) for name, each in promises.items()}
    if images < ENOUGH:
        del shares["worse_excluded"]
    return {"kind": kind, "images": images, "cells": cells} | shares


def _inside(interval: np.ndarray, value: float) -> bool:
    """An interval that does not exist claims nothing."""
    return not (interval[0] > value or interval[1] < value)


def study(
    rng: np.random.Generator, kind: str, images: int, share_C: np.ndarray, own: float | np.ndarray = OWN
) -> Outcomes:
    """Cells with the true shares of right answers `share_C`; `own` is how far each draws for itself."""
    count = QUESTIONS[kind]
    shared = rng.normal(size=(images, 1)) + rng.normal(size=(images, count))
    own_C = np.broadcast_to(own, share_C.shape)[:, None, None]
    able = norm.ppf(share_C)[:, None, None] * np.sqrt(2 + own_C**2)
    right = shared + own_C * rng.normal(size=(len(share_C), images, count)) < able
    image = np.repeat(np.arange(images), count)
    category = {"mme": image % categories(images), "mean_f1": np.tile(np.arange(count) % 3, images)}
    return Outcomes(
        aggregate=AGGREGATES[kind.split(",")[0]],
        correct_CQ=right.reshape(len(share_C), -1).astype(np.float32),
        image_Q=image,
        category_Q=category.get(kind, np.zeros_like(image)),
        labels={"positive": np.tile(np.arange(count) // 3 % 2 == 0, images)},
    )


def true_score(kind: str, share: float, images: int) -> float:
    """The score of very many images; MME's is of as many categories as a study of `images` has."""
    outcomes = study(np.random.default_rng(0), kind, LARGE, np.array([share]))
    if kind == "mme":
        outcomes = replace(outcomes, category_Q=outcomes.image_Q % categories(images))
    return float(estimate(outcomes).score_C[0])


def categories(images: int) -> int:
    """MME's categories in a study: four, of two images each where there are few."""
    return min(4, max(1, images // 2))


def markdown(rows: list[dict[str, object]]) -> str:
    """A row per kind and number of images: all cells kept by number of cells, then means over the numbers of cells."""
    table = pd.DataFrame(rows)
    place = ["kind", "images"]
    kept = table.pivot(index=place, columns="cells", values="all_kept").add_prefix("kept of ")
    rest = table.groupby(place)[["worse_excluded", "score_covered", "difference_covered"]].mean()
    whole = kept.join(rest).loc[pd.MultiIndex.from_frame(table[place].drop_duplicates())].reset_index()
    lines = [list(map(str, whole.columns)), ["---"] * whole.shape[1]]
    lines += [[_shown(value) for value in row] for row in whole.values]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(value: object) -> str:
    return str(value) if not isinstance(value, float) else "" if np.isnan(value) else f"{value:.1f}"


if __name__ == "__main__":
    main()
