"""What is known about each cell of a benchmark, and about each configuration over all benchmarks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from headwise.analysis.roles import is_reference
from headwise.analysis.verdicts import VerdictMatrix
from headwise.stats import (
    LEVEL,
    Estimates,
    Flipped,
    Outcomes,
    Pairs,
    answered_by_any,
    average,
    best_set_p,
    fewest_images,
    flip,
    holm,
    mcnemar,
    own_estimates,
    sign_flip_p,
)
from headwise.study.names import ANSWERING, RANKING

ALPHA = 1 - LEVEL
FEWEST_IMAGES = fewest_images(LEVEL)
# Name of the findings over all benchmarks; their score is the mean percent of vanilla.
OVERALL = "overall"

COSTS = ("flops", "kv_bytes", "prefill_seconds", "token_seconds", "peak_bytes")
# What stands beside the costs, and is none to be weighed against a score.
SIZES = ("kept_tokens", "mean_visual_tokens", "measured_questions")
NAMES = ["configuration", "strategy", "tokens", "heads"]
# What two cells must share to differ in strategy only.
VARIED = ("model", "tokens", "heads", *RANKING, *ANSWERING)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The statistics of one benchmark's cells.

    Rows of `cells`, `estimates` (scores), `relative` (the same in percent of `scale`) and `flipped` correspond.
    `cells` are those of the comparison, its logged `score` kept as `logged_score`, and with columns:

    - `full`: it answered every question that any cell answered; only such cells can be the best, win or lose;
    - `score`, `low`, `high`: the score on the questions the cell answered, and its 95 % interval (NaN where none);
    - `vs_vanilla`, `vs_vanilla_low`, `vs_vanilla_high`: difference to the unpruned model, paired;
      `p_vanilla`: sign-flip p by image, Holm-corrected over the benchmark; `p_mcnemar`: uncorrected;
    - `vs_best`, `vs_best_low`, `vs_best_high`: difference to the best pruned cell, paired;
    - `of_vanilla`, `of_vanilla_low`, `of_vanilla_high`: percent of the unpruned model's score (of the best
      pruned cell's where there is no vanilla: `scale` says which);
    - `p_best`: adjusted p of "some pruned cell is better"; `in_best_set`: it is above 5 %;
    - `best_at_budget`: the same among the cells of its token budget only.

    Missing (NaN, False) where it makes no sense: vanilla is no candidate for the best pruned cell, a cell has no
    interval to itself, and a single image gives no interval at all. With `too_few` images no two cells can differ.
    What is said of a cell that is not full against another is over the questions that both answered.
    """

    benchmark: str
    unit: str
    scale: str
    cells: pd.DataFrame
    estimates: Estimates
    relative: Estimates
    flipped: Flipped

    @property
    def images(self) -> int:
        """How many images the scores are of."""
        return self.estimates.images

    @property
    def too_few(self) -> bool:
        """Whether there are too few images to tell any two cells apart."""
        return self.images < FEWEST_IMAGES

    @cached_property
    def pruned(self) -> pd.DataFrame:
        """The candidates: every full cell but the unpruned ones."""
        return self.full[~is_reference(self.full)]

    @cached_property
    def full(self) -> pd.DataFrame:
        """The cells that answered every question; their index is that of `cells`."""
        return self.cells[self.cells["full"]]

    @cached_property
    def best(self) -> pd.Series:
        """The pruned cell with the highest score."""
        return self.pruned.iloc[self.pruned["score"].to_numpy().argmax()]

    def best_set(self) -> pd.DataFrame:
        """The cells statistically tied with the best, highest score first."""
        return self.cells[self.cells["in_best_set"]].sort_values("score", ascending=False, kind="stable")

    def best_among(self, rows: np.ndarray) -> np.ndarray:
        """Bool: which of these rows are statistically tied with the best of them."""
        return best_set_p(self.flipped.of(rows)) > ALPHA


def find(benchmark: str, cells: pd.DataFrame, verdicts: VerdictMatrix, seed: int = 0) -> Findings:
    """The findings of one benchmark; `cells` row for row those of `verdicts`."""
    outcomes = answered_by_any(as_outcomes(verdicts))
    estimates, own_C2 = own_estimates(outcomes)
    pairs = Pairs(outcomes, seed)
    table = cells.rename(columns={"score": "logged_score"}).reset_index(drop=True).assign(full=pairs.full_C)
    table = pd.concat([table, _vanilla_tests(cells, pairs)], axis=1)
    found = _findings(benchmark, verdicts.unit, table, estimates, seed)
    partial = ~pairs.full_C
    found.cells.loc[partial, ["low", "high"]] = own_C2[partial]
    _pair_by_pair(found, pairs)
    return found


def as_outcomes(verdicts: VerdictMatrix) -> Outcomes:
    """The verdicts as the statistics take them."""
    return Outcomes(
        aggregate=verdicts.aggregate,
        correct_CQ=verdicts.correct_CQ,
        image_Q=verdicts.image_Q,
        category_Q=verdicts.category_Q,
        labels=verdicts.aggregate.labels({str(name): column.tolist() for name, column in verdicts.questions.items()}),
    )


def over_benchmarks(parts: Sequence[Findings]) -> Findings | None:
    """Findings on the mean percent of vanilla, for configurations that every benchmark has; None if there are none.

    Each benchmark's images are a sample of their own. A benchmark on which the reference scores nothing has no percent
    and stays out; the unit then names those that are in. None below two.
    """
    everything, parts = parts, [part for part in parts if _has_percent(part)]
    if len(parts) < 2:
        return None
    indexed = [part.full.set_index("configuration") for part in parts]
    shared = [name for name in indexed[0].index if all(name in cells.index for cells in indexed)]
    if is_reference(indexed[0].loc[shared]).all():
        return None
    rows = [pd.Index(part.cells["configuration"]).get_indexer(pd.Index(shared)) for part in parts]
    estimates = average([part.relative.of(index) for part, index in zip(parts, rows, strict=True)])
    known = [
        name
        for name in dict.fromkeys([*NAMES, "role", "label", *VARIED])
        if name == "configuration" or name in indexed[0]
    ]
    table = indexed[0].loc[shared].reset_index()[known]
    for cost in (*COSTS, *SIZES):
        if columns := [cells.loc[shared, cost].to_numpy(float) for cells in indexed if cost in cells]:
            table[cost] = np.mean(columns, axis=0)
    scales = {part.scale for part in parts}
    unit = f"% of {scales.pop() if len(scales) == 1 else 'vanilla or best'}"
    if len(parts) < len(everything):
        unit += f", {' and '.join(part.benchmark for part in parts)} only"
    return _findings(OVERALL, unit, table, estimates)


def _has_percent(part: Findings) -> bool:
    rows = part.full.index.to_numpy()
    return len(rows) > 0 and bool(np.isfinite(part.relative.score_C[rows]).all())


def vanilla_rows(cells: pd.DataFrame) -> np.ndarray:
    """For each row the row of vanilla of the same model, answered in the same way, −1 where there is none."""
    known = [name for name in ("model", *ANSWERING) if name in cells]
    alike = list(map(tuple, cells[known].astype(str).to_numpy()))
    first: dict[tuple[str, ...], int] = {}
    for row, (way, unpruned) in enumerate(zip(alike, is_reference(cells), strict=True)):
        if unpruned:
            first.setdefault(way, row)
    return np.array([first.get(way, -1) for way in alike], dtype=int)


def _findings(benchmark: str, unit: str, table: pd.DataFrame, estimates: Estimates, seed: int = 0) -> Findings:
    table = table.assign(score=estimates.score_C, full=table.get("full", True))
    _interval(table, "", estimates.intervals())
    reference_C, pruned = vanilla_rows(table), np.flatnonzero(~is_reference(table) & table["full"])
    _against(table, "vs_vanilla", estimates, reference_C)
    best = pruned[np.argmax(estimates.score_C[pruned])] if len(pruned) else -1
    _against(table, "vs_best", estimates, np.full(len(table), best))
    incomplete_C = (reference_C >= 0) & ~table["full"].to_numpy()[reference_C]
    scale, relative = _relative(estimates, np.where(incomplete_C, -1, reference_C), best)
    table["of_vanilla"] = relative.score_C
    _interval(table, "of_vanilla_", _relative_intervals(relative, reference_C, scale))
    # Benchmarks flip independently of each other; the name keeps the flips when others come or go.
    flipped = flip(estimates, seed + zlib.crc32(benchmark.encode()))
    _mark_best(table, flipped, pruned)
    return Findings(
        benchmark=benchmark,
        unit=unit,
        scale=scale,
        cells=table,
        estimates=estimates,
        relative=relative,
        flipped=flipped,
    )


def _interval(table: pd.DataFrame, prefix: str, bounds: np.ndarray) -> None:
    table[f"{prefix}low"], table[f"{prefix}high"] = bounds[:, 0], bounds[:, 1]


def _against(table: pd.DataFrame, name: str, estimates: Estimates, reference_C: np.ndarray) -> None:
    """Difference to the row's reference and its paired interval; NaN where the reference is −1."""
    missing = reference_C < 0
    table[name] = np.where(missing, np.nan, estimates.score_C - estimates.score_C[reference_C])
    _interval(table, f"{name}_", np.where(missing[:, None], np.nan, estimates.differences(reference_C)))


def _relative(estimates: Estimates, reference_C: np.ndarray, best: int) -> tuple[str, Estimates]:
    """Scores in percent of vanilla; where a model has no vanilla cell, of the best cell's observed score."""
    if (reference_C >= 0).all():
        return "vanilla", estimates.percent_of(reference_C)
    return "best", estimates.percent_of_number(float(estimates.score_C[best]) if best >= 0 else np.nan)


def _relative_intervals(relative: Estimates, reference_C: np.ndarray, scale: str) -> np.ndarray:
    """Intervals of the percentages; vanilla is 100 % of itself, which is no estimate and has none."""
    bounds = relative.intervals()
    if scale == "vanilla":
        bounds[reference_C == np.arange(len(bounds))] = np.nan
    return bounds


def _mark_best(table: pd.DataFrame, flipped: Flipped, pruned: np.ndarray) -> None:
    table["p_best"], table["best_at_budget"] = np.nan, False
    if len(pruned):
        table.loc[pruned, "p_best"] = best_set_p(flipped.of(pruned))
        for rows in table.loc[pruned].groupby("tokens").indices.values():
            at_budget = pruned[rows]
            table.loc[at_budget, "best_at_budget"] = best_set_p(flipped.of(at_budget)) > ALPHA
    table["in_best_set"] = table["p_best"] > ALPHA


def _pair_by_pair(found: Findings, pairs: Pairs) -> None:
    """Differences and percentages of cells that are not full, or whose reference is not, over what both answered."""
    table = found.cells
    vanilla_C = vanilla_rows(table)
    rows = found.pruned.index.to_numpy()
    best = int(rows[found.pruned["score"].to_numpy().argmax()]) if len(rows) else -1
    for name, reference_C in (("vanilla", vanilla_C), ("best", np.full(len(table), best))):
        for row in [row for row, other in enumerate(reference_C) if pairs.needed(row, other)]:
            pair = pairs.of(row, reference_C[row])
            columns = [f"vs_{name}", f"vs_{name}_low", f"vs_{name}_high"]
            table.loc[row, columns] = np.nan if pair is None else [pair.difference, pair.low, pair.high]
            if found.scale == name:
                columns = ["of_vanilla", "of_vanilla_low", "of_vanilla_high"]
                table.loc[row, columns] = (
                    np.nan if pair is None else [pair.percent, pair.percent_low, pair.percent_high]
                )


def _vanilla_tests(cells: pd.DataFrame, pairs: Pairs) -> pd.DataFrame:
    """p_vanilla (Holm over the pruned cells) and p_mcnemar against each row's vanilla cell."""
    outcomes, reference_C = pairs.outcomes, vanilla_rows(cells)
    flip = np.full(len(cells), np.nan)
    exact = np.full(len(cells), np.nan)
    tested = (reference_C >= 0) & ~is_reference(cells).to_numpy()
    for vanilla in np.unique(reference_C[tested]):
        rows = np.flatnonzero(tested & (reference_C == vanilla))
        exact[rows] = mcnemar(outcomes.correct_CQ[rows], outcomes.correct_CQ[vanilla])
        apart = np.array([pairs.needed(row, int(vanilla)) for row in rows.tolist()])
        for row in rows[apart]:
            pair = pairs.of(row, vanilla)
            flip[row] = np.nan if pair is None else pair.p
        if len(rows := rows[~apart]):
            flip[rows] = sign_flip_p(outcomes.rows([*rows, vanilla]), len(rows), seed=pairs.seed)[:-1]
    tested &= ~np.isnan(flip)
    flip[tested] = holm(flip[tested])
    return pd.DataFrame({"p_vanilla": flip, "p_mcnemar": exact})
