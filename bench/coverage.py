"""How often the best set and the intervals keep their promise, in simulated studies.

    python bench/coverage.py --replicates 2000

Null studies: every cell is equally good. A question is answered right where its difficulty, which all cells share and
which questions about one image share in part, is less than the cell's ability plus a draw of its own. Counted are the
studies in which every cell stays in the best set; and the intervals of the first cell's score and of its difference
to the second that have the true value in them. At 100 images 20 points are taken from one cell, too: the studies in
which it is excluded. Partial nulls: six equally good cells, which draw for themselves more or less, beside six worse
ones. Counted are the studies in which all six stay. Nothing here measures a model.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm

from headwise.stats import Mean, MeanF1, Outcomes, PairSum, best_set_p, estimate, flip

IMAGES = (1, 2, 4, 10, 20, 30, 60, 100)
CELLS = (4, 15, 28, 63)
AGGREGATES = {"mean": Mean(), "mme": PairSum(), "mean_f1": MeanF1()}
# Questions per image of each kind of study.
QUESTIONS = {"mean": 5, "mme": 2, "mean_f1": 6, "mean, one question": 1, "mean, 97 % right": 5}
# How far cells draw for themselves; difficulty has variance 1 among images and 1 among questions of one image.
OWN = 0.5
UNLIKE = (0.2, 0.2, 0.5, 0.5, 1.5, 1.5)
# Partial nulls: how far the six best cells draw for themselves, and the shares right of the six worse ones.
WORSE = (0.5, 0.5, 0.5, 0.2, 0.2, 0.2)
# Images of the partial nulls.
PARTIAL = (20, 60)
# Images at which a cell 20 points worse must be excluded.
ENOUGH = 100
# Images of the study that gives the true scores.
LARGE = 100_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--replicates", type=int, default=2000)
    options.add_argument("--images", type=int, nargs="+", default=IMAGES)
    options.add_argument("--cells", type=int, nargs="+", default=CELLS)
    options.add_argument("--kinds", nargs="+", choices=list(QUESTIONS), default=list(AGGREGATES), metavar="KIND")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    began = time.perf_counter()
    rows = []
    for row in measured(given.kinds, given.images, given.cells, given.replicates):
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    error = 100 * (0.95 * 0.05 / given.replicates) ** 0.5
    found = {"replicates": given.replicates, "standard_error": error, "seconds": time.perf_counter() - began}
    print(json.dumps(found | {"rows": rows}) if given.json else markdown(rows))


def measured(kinds: list[str], images: list[int], cells: list[int], replicates: int) -> Iterator[dict[str, object]]:
    """Each null study, and for each kind the partial nulls."""
    for kind in kinds:
        for count, width in itertools.product(images, cells):
            yield coverage(kind, count, width, replicates)
        for count in sorted(set(PARTIAL) & set(images)):
            yield partial(kind, count, replicates)


def coverage(kind: str, images: int, cells: int, replicates: int) -> dict[str, object]:
    """Percent of the replicates in which each promise was kept; None where it was not made."""
    share = share_right(kind)
    rng, truth = generator(kind, images, cells), true_score(kind, share, images)
    kept, worse, score, difference = (np.full(replicates, np.nan) for _ in range(4))
    for number in range(replicates):
        null = estimate(study(rng, kind, images, np.full(cells, share)))
        kept[number] = (best_set_p(flip(null, number)) > 0.05).all()
        score[number] = _inside(null.intervals()[0], truth)
        difference[number] = _inside(null.differences(np.array([1, *range(1, cells)]))[0], 0)
        if images >= ENOUGH:
            lower = np.full(cells, share)
            lower[-1] -= 0.2
            worse[number] = best_set_p(flip(estimate(study(rng, kind, images, lower)), number))[-1] <= 0.05
    promises = {"all_kept": kept, "worse_excluded": worse, "score_covered": score, "difference_covered": difference}
    shares = {name: None if np.isnan(each).any() else 100 * float(each.mean()) for name, each in promises.items()}
    return {"kind": kind, "images": images, "cells": cells} | shares


def partial(kind: str, images: int, replicates: int) -> dict[str, object]:
    """Percent of the replicates in which all of the equally good cells stay beside worse ones."""
    rng, own_C = generator(kind, images, 0), np.array([*UNLIKE, *[OWN] * len(WORSE)])
    share_C = np.array([*(tied_share(kind, own) for own in UNLIKE), *WORSE])
    kept = np.zeros(replicates, bool)
    for number in range(replicates):
        found = estimate(study(rng, kind, images, share_C, own_C))
        kept[number] = (best_set_p(flip(found, number))[: len(UNLIKE)] > 0.05).all()
    return {"kind": kind, "images": images, "tied": len(UNLIKE), "tied_kept": 100 * float(kept.mean())}


def _inside(interval: np.ndarray, value: float) -> float:
    """Whether the interval has the value in it; NaN where there is no interval."""
    return np.nan if np.isnan(interval).any() else float(interval[0] <= value <= interval[1])


def generator(kind: str, images: int, cells: int) -> np.random.Generator:
    """A seed for each entry, so that any of them can be measured alone."""
    return np.random.default_rng([zlib.crc32(kind.encode()), images, cells])


def study(
    rng: np.random.Generator, kind: str, images: int, share_C: np.ndarray, own: float | np.ndarray = OWN
) -> Outcomes:
    """Cells with the true shares of right answers `share_C`; `own` is how far each draws for itself."""
    count = QUESTIONS[kind]
    draw = functools.partial(rng.standard_normal, dtype=np.float32)
    own_C = np.full(share_C.shape, own, np.float32)[:, None, None]
    able = norm.ppf(share_C).astype(np.float32)[:, None, None] * np.sqrt(2 + own_C**2)
    right = draw((images, 1)) + draw((images, count)) + own_C * draw((len(share_C), images, count)) < able
    image = np.repeat(np.arange(images), count)
    category = {"mme": image % categories(images), "mean_f1": np.tile(np.arange(count) % 3, images)}
    return Outcomes(
        aggregate=AGGREGATES[kind.split(",")[0]],
        correct_CQ=right.reshape(len(share_C), -1).astype(np.float32),
        image_Q=image,
        category_Q=category.get(kind, np.zeros_like(image)),
        labels={"positive": np.tile(np.arange(count) // 3 % 2 == 0, images)},
    )


def share_right(kind: str) -> float:
    return 0.97 if "97" in kind else 0.6


@functools.cache
def true_score(kind: str, share: float, images: int) -> float:
    """The score of very many images; MME's is of as many categories as a study of `images` has."""
    outcomes = study(np.random.default_rng(0), kind, LARGE, np.array([share]))
    if kind == "mme":
        outcomes = replace(outcomes, category_Q=outcomes.image_Q % categories(images))
    return float(estimate(outcomes).score_C[0])


@functools.cache
def tied_share(kind: str, own: float) -> float:
    """The share right with which a cell that draws for itself by `own` has the score of one that draws by OWN.

    Means and F1 need the same share. MME counts images with both questions right as well, which a cell that draws
    less for itself has more of.
    """
    share = share_right(kind)
    if kind != "mme":
        return share
    whole = share + _both_right(share, OWN)
    return float(brentq(lambda other: other + _both_right(other, own) - whole, share - 0.1, share + 0.1))


def _both_right(share: float, own: float) -> float:
    """The chance that both questions about an image are answered right: the mean over the image's difficulty."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    able = norm.ppf(share) * np.sqrt(2 + own**2)
    return float(norm.cdf((able - nodes) / np.sqrt(1 + own**2)) ** 2 @ weights / weights.sum())


def categories(images: int) -> int:
    """MME's categories in a study: four, of two images each where there are few."""
    return min(4, max(1, images // 2))


def markdown(rows: list[dict[str, object]]) -> str:
    """Row per kind and number of images: all cells kept, by number of cells; the tied ones; intervals, over cells."""
    means = ["score_covered", "difference_covered"]
    columns = ["kind", "images", "cells", "all_kept", "tied_kept", "worse_excluded", *means]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:], float) | {"cells": "Int64"})
    place = ["kind", "images"]
    null = table[table["cells"].notna()]
    kept = null.pivot(index=place, columns="cells", values="all_kept").add_prefix("kept of ")
    rest = null.groupby(place).agg({"worse_excluded": "min", **dict.fromkeys(means, "mean")})
    tied = table.groupby(place)["tied_kept"].first().rename(f"kept of {len(UNLIKE)} unlike")
    whole = kept.join(tied).join(rest).loc[pd.MultiIndex.from_frame(null[place].drop_duplicates())]
    whole[means] = whole[means].astype(object).where(whole[means].notna(), "none")
    whole = whole.reset_index()
    lines = [list(map(str, whole.columns)), ["---"] * whole.shape[1]]
    lines += [[_shown(value) for value in row] for row in whole.values]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(value: object) -> str:
    return str(value) if not isinstance(value, float) else "" if np.isnan(value) else f"{value:.1f}"


if __name__ == "__main__":
    main()
