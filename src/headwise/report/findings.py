"""What is known about each cell of a benchmark, and about each configuration over all benchmarks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from headwise.stats import (
    LEVEL,
    Outcomes,
    Replicates,
    best_set_p,
    bootstrap,
    holm,
    mcnemar,
    percentile_interval,
    sign_flip_p,
)
from headwise.stats.outcomes import Aggregate, Floats

ALPHA = 1 - LEVEL
OVERALL = "overall"
"""Name of the findings over all benchmarks; their score is the mean percent of vanilla."""

COSTS = ("flops", "kv_bytes", "prefill_seconds", "token_seconds", "peak_bytes")
SIZES = ("kept_tokens", "mean_visual_tokens", "measured_questions")
"""What stands beside the costs, and is none to be weighed against a score."""
NAMES = ["configuration", "strategy", "tokens", "heads"]
VARIED = ("model", "tokens", "heads", "layer", "budget", "score_dtype", "seed")
"""What two cells must share to differ in strategy only."""


class Verdicts(Protocol):
    """What is read of a `compare.VerdictMatrix` (see there for shapes)."""

    @property
    def aggregate(self) -> Aggregate: ...
    @property
    def unit(self) -> str: ...
    @property
    def correct_CQ(self) -> np.ndarray: ...
    @property
    def prediction_CQ(self) -> np.ndarray: ...
    @property
    def predictions(self) -> list[str]: ...
    @property
    def questions(self) -> pd.DataFrame: ...
    @property
    def image_Q(self) -> np.ndarray: ...
    @property
    def category_Q(self) -> np.ndarray: ...
    @property
    def truth_Q(self) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The statistics of one benchmark's cells.

    Rows of `cells`, `replicates` (scores) and `relative` (the same in percent of `scale`) correspond.
    `cells` are those of the comparison, its logged `score` kept as `logged_score`, and with columns:

    - `score`, `low`, `high`: the score on the questions shared by all cells, and its 95 % interval;
    - `vs_vanilla`, `vs_vanilla_low`, `vs_vanilla_high`: difference to the unpruned model, paired;
      `p_vanilla`: sign-flip p by image, Holm-corrected over the benchmark; `p_mcnemar`: uncorrected;
    - `vs_best`, `vs_best_low`, `vs_best_high`: difference to the best pruned cell, paired;
    - `of_vanilla`, `of_vanilla_low`, `of_vanilla_high`: percent of the unpruned model's score (of the best
      pruned cell's where there is no vanilla: `scale` says which);
    - `p_best`: adjusted p of "some pruned cell is better"; `in_best_set`: it is above 5 %;
    - `best_at_budget`: the same among the cells of its token budget only.

    Missing (NaN, False) where it makes no sense: vanilla is no candidate for the best pruned cell.
    """

    benchmark: str
    unit: str
    scale: str
    cells: pd.DataFrame
    replicates: Replicates
    relative: Replicates

    @cached_property
    def pruned(self) -> pd.DataFrame:
        """The candidates: every cell but the unpruned ones."""
        return self.cells[self.cells["strategy"] != "vanilla"]

    @cached_property
    def best(self) -> pd.Series:
        """The pruned cell with the highest score."""
        return self.pruned.iloc[self.pruned["score"].to_numpy().argmax()]

    def best_set(self) -> pd.DataFrame:
        """The cells that cannot be told from the best, highest score first."""
        return self.cells[self.cells["in_best_set"]].sort_values("score", ascending=False, kind="stable")

    def best_among(self, rows: np.ndarray) -> np.ndarray:
        """Bool: which of these rows cannot be told from the best of them."""
        return best_set_p(self.replicates.of(rows)) > ALPHA


def find(benchmark: str, cells: pd.DataFrame, verdicts: Verdicts, seed: int = 0) -> Findings:
    """The findings of one benchmark; `cells` row for row those of `verdicts`."""
    outcomes = as_outcomes(verdicts)
    # Benchmarks draw their images independently of each other; the name keeps the draw when others come or go.
    replicates = bootstrap(outcomes, seed=seed + zlib.crc32(benchmark.encode()))
    reference_C = vanilla_rows(cells)
    table = cells.rename(columns={"score": "logged_score"}).reset_index(drop=True)
    table = pd.concat([table, _vanilla_tests(cells, outcomes, reference_C, seed)], axis=1)
    return _findings(benchmark, verdicts.unit, table, replicates)


def as_outcomes(verdicts: Verdicts) -> Outcomes:
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

    Each benchmark's resamples are independent of the others', so their b-th resamples make one resample
    of the mean. A benchmark on which the reference scores nothing (or does in some resample, as over a handful
    of questions) has no percent and stays out; the unit then names those that are in. None below two.
    """
    everything, parts = parts, [part for part in parts if np.isfinite(part.relative.score_CB).all()]
    if len(parts) < 2:
        return None
    indexed = [part.cells.set_index("configuration") for part in parts]
    shared = [name for name in indexed[0].index if all(name in cells.index for cells in indexed)]
    if all(indexed[0].loc[shared, "strategy"] == "vanilla"):
        return None
    rows = [cells.index.get_indexer(pd.Index(shared)) for cells in indexed]
    relative = [part.relative.of(index) for part, index in zip(parts, rows, strict=True)]
    replicates = Replicates(
        np.mean([each.score_C for each in relative], axis=0), np.mean([each.score_CB for each in relative], axis=0)
    )
    known = [name for name in dict.fromkeys([*NAMES, *VARIED]) if name == "configuration" or name in indexed[0]]
    table = indexed[0].loc[shared].reset_index()[known]
    for cost in (*COSTS, *SIZES):
        if columns := [cells.loc[shared, cost].to_numpy(float) for cells in indexed if cost in cells]:
            table[cost] = np.mean(columns, axis=0)
    scales = {part.scale for part in parts}
    unit = f"% of {scales.pop() if len(scales) == 1 else 'vanilla or best'}"
    if len(parts) < len(everything):
        unit += f", {' and '.join(part.benchmark for part in parts)} only"
    return _findings(OVERALL, unit, table, replicates)


def vanilla_rows(cells: pd.DataFrame) -> np.ndarray:
    """For each row the row of its model's vanilla cell, −1 where that model has none."""
    first: dict[str, int] = {}
    for row, (model, strategy) in enumerate(zip(cells["model"].astype(str), cells["strategy"], strict=True)):
        if strategy == "vanilla":
            first.setdefault(model, row)
    return np.array([first.get(model, -1) for model in cells["model"].astype(str)], dtype=int)


def _findings(benchmark: str, unit: str, table: pd.DataFrame, replicates: Replicates) -> Findings:
    table = table.assign(score=replicates.score_C)
    _interval(table, "", replicates.score_CB)
    reference_C, pruned = vanilla_rows(table), np.flatnonzero(table["strategy"] != "vanilla")
    _against(table, "vs_vanilla", replicates, reference_C)
    best = pruned[np.argmax(replicates.score_C[pruned])] if len(pruned) else -1
    _against(table, "vs_best", replicates, np.full(len(table), best))
    scale, relative = _relative(replicates, reference_C, best)
    table["of_vanilla"] = relative.score_C
    _interval(table, "of_vanilla_", relative.score_CB)
    _mark_best(table, replicates, pruned)
    return Findings(
        benchmark=benchmark, unit=unit, scale=scale, cells=table, replicates=replicates, relative=relative
    )


def _interval(table: pd.DataFrame, prefix: str, values_CB: Floats) -> None:
    bounds = percentile_interval(values_CB)
    table[f"{prefix}low"], table[f"{prefix}high"] = bounds[:, 0], bounds[:, 1]


def _against(table: pd.DataFrame, name: str, replicates: Replicates, reference_C: np.ndarray) -> None:
    """Difference to the row's reference and its paired interval; NaN where the reference is −1."""
    missing = reference_C < 0
    table[name] = np.where(missing, np.nan, replicates.score_C - replicates.score_C[reference_C])
    gaps = replicates.score_CB - replicates.score_CB[reference_C]
    _interval(table, f"{name}_", np.where(missing[:, None], np.nan, gaps))


def _relative(replicates: Replicates, reference_C: np.ndarray, best: int) -> tuple[str, Replicates]:
    """Scores in percent of vanilla; where a model has no vanilla cell, of the best cell's observed score."""
    if (reference_C >= 0).all():
        whole, resampled = replicates.score_C[reference_C], replicates.score_CB[reference_C]
        return "vanilla", Replicates(_percent(replicates.score_C, whole), _percent(replicates.score_CB, resampled))
    top = replicates.score_C[best]
    return "best", Replicates(_percent(replicates.score_C, top), _percent(replicates.score_CB, top))


def _percent(part: Floats, whole: Floats) -> Floats:
    return 100 * np.divide(part, whole, out=np.full_like(part, np.nan), where=np.asarray(whole) != 0)


def _mark_best(table: pd.DataFrame, replicates: Replicates, pruned: np.ndarray) -> None:
    table["p_best"], table["best_at_budget"] = np.nan, False
    if len(pruned):
        table.loc[pruned, "p_best"] = best_set_p(replicates.of(pruned))
        for rows in table.loc[pruned].groupby("tokens").indices.values():
            at_budget = pruned[rows]
            table.loc[at_budget, "best_at_budget"] = best_set_p(replicates.of(at_budget)) > ALPHA
    table["in_best_set"] = table["p_best"] > ALPHA


def _vanilla_tests(cells: pd.DataFrame, outcomes: Outcomes, reference_C: np.ndarray, seed: int) -> pd.DataFrame:
    """p_vanilla (Holm over the pruned cells) and p_mcnemar against each row's vanilla cell."""
    flip = np.full(len(cells), np.nan)
    exact = np.full(len(cells), np.nan)
    tested = (reference_C >= 0) & (cells["strategy"] != "vanilla").to_numpy()
    for vanilla in np.unique(reference_C[tested]):
        rows = np.flatnonzero(tested & (reference_C == vanilla))
        flip[rows] = sign_flip_p(outcomes.rows([*rows, vanilla]), len(rows), seed=seed)[:-1]
        exact[rows] = mcnemar(outcomes.correct_CQ[rows], outcomes.correct_CQ[vanilla])
    flip[tested] = holm(flip[tested])
    return pd.DataFrame({"p_vanilla": flip, "p_mcnemar": exact})
