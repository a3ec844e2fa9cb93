"""What is known about a comparison's cells: findings, tables in the published layout, tables of statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from headwise.analysis import tables
from headwise.analysis.beside import of_vanilla
from headwise.analysis.comparison import Comparison
from headwise.analysis.findings import Findings, find, over_benchmarks
from headwise.analysis.lineup import SHOWN
from headwise.analysis.recommendation import recommend
from headwise.analysis.score_tables import ScoreTable, score_table, tops
from headwise.errors import DataError

OVERALL = "overall"
# Cells of a benchmark beyond which a table of all pairs is of use to nobody.
PAIRWISE = 250


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A comparison, what the statistics say of each benchmark, and of the mean over benchmarks.

    `overall` is on the scale percent of vanilla, which benchmarks share, over the configurations that every
    benchmark has; None with a single benchmark or where there are no such configurations.
    """

    comparison: Comparison
    findings: Mapping[str, Findings]
    overall: Findings | None

    @cached_property
    def score_tables(self) -> dict[str, ScoreTable]:
        """Logged scores in the published layout, a benchmark each, and the mean percent of vanilla."""
        comparison = self.comparison
        found = {
            name: score_table(name, comparison.of(name).assign(full=part.cells["full"]))
            for name, part in self.findings.items()
        }
        if self.overall is not None:
            labels = comparison.cells.drop_duplicates("configuration").set_index("configuration")["label"]
            cells = self.overall.cells.assign(label=self.overall.cells["configuration"].map(labels))
            found[OVERALL] = score_table("mean % of vanilla", cells)
        return {name: each for name, each in found.items() if each is not None}

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by the name it is logged under."""
        return {name: table for name, table in self._tables() if not table.empty}

    def _tables(self) -> Iterator[tuple[str, pd.DataFrame]]:
        parts = list(self.findings.values())
        pruned = [part for part in parts if not part.pruned.empty]
        for name, each in self.score_tables.items():
            yield f"best_{name}", each.as_table()
        for name, part in self.all_findings.items():
            yield f"scores_{name}", tables.scores(part)
            yield f"efficiency_{name}", tables.efficiency(part)
        for name, part in self.findings.items():
            if len(part.cells) > PAIRWISE:
                continue
            shares = tables.agreement(self.comparison.of(name), self.comparison.verdicts(name))
            yield f"agreement_{name}", shares.reset_index()
        yield "front", tables.front(self.beside_costs)
        if pruned:
            yield "retained", tables.retained(pruned)
            yield "recommendation", self.recommendation
            yield "wins", self.wins
        if len(parts) > 1:
            yield "of_vanilla", of_vanilla(parts, self.overall)
        if self.overall is not None:
            yield "strategies", tables.strategies(self.overall)

    @property
    def all_findings(self) -> dict[str, Findings]:
        """The benchmarks' findings and, where there is more than one benchmark, the overall ones."""
        return {**self.findings, **({OVERALL: self.overall} if self.overall is not None else {})}

    @property
    def beside_costs(self) -> Findings:
        """The findings that costs are shown beside: over all benchmarks, or the only one's."""
        return self.overall if self.overall is not None else next(iter(self.findings.values()))

    @cached_property
    def wins(self) -> pd.DataFrame:
        """One row per strategy with rivals: rows it tops (as published studies count), and what is significant."""
        benchmarks = [self.score_tables[name] for name in self.findings if name in self.score_tables]
        if not benchmarks:
            return pd.DataFrame()
        won = tables.wins(list(self.findings.values()))
        topped = tops(benchmarks).assign(strategy=lambda table: table["strategy"].map(self._strategy_of))
        counts = topped.groupby("strategy")["all"].sum().rename("topped")
        return won.join(counts, on="strategy")[["strategy", "topped", *won.columns[1:]]]

    @cached_property
    def _strategy_of(self) -> dict[str, str]:
        """The strategy of each column of the grids (`sparsity` of `sparsity float16`)."""
        return dict(self.comparison.cells[["label", "strategy"]].itertuples(index=False))

    @cached_property
    def recommendation(self) -> pd.DataFrame:
        """A configuration for each budget by `recommend.RULE`; over all benchmarks where there are several."""
        return recommend(self.beside_costs.full, self.beside_costs.images)


# How far a logged score and that of its verdicts may be apart: float32 verdicts, far below one answer's worth.
LOGGED_TO = 1e-4


def check_logged(benchmark: str, cells: pd.DataFrame) -> None:
    """DataError where the score that a run logged is not that of its verdicts: one of the two was changed later."""
    apart = ~np.isclose(cells["logged_score"].astype(float), cells["score"], rtol=0, atol=LOGGED_TO, equal_nan=True)
    if apart.any():
        row = cells[apart].iloc[0]
        more = f" (and {apart.sum() - 1} other runs)" if apart.sum() > 1 else ""
        raise DataError(
            f"{benchmark}: run {row['run_id']} ({row['configuration']}) logged the score {row['logged_score']:.4f}, "
            f"its verdicts give {row['score']:.4f}{more}; score it anew: `headwise score --run {row['run_id']}`"
        )


def _incomplete(benchmark: str, cells: pd.DataFrame) -> Iterator[str]:
    """What a reader must know of cells that did not answer every question."""
    partly = cells.loc[~cells["full"], "configuration"].tolist()
    if partly:
        named = ", ".join(partly[:SHOWN]) + (f" and {len(partly) - SHOWN} more" if len(partly) > SHOWN else "")
        yield (
            f"{benchmark}: {named} did not answer every question. Scores are over what each answered, differences over "
            "the questions that both answered; such a cell neither wins nor loses and is not recommended"
        )


def _found(comparison: Comparison, benchmark: str, seed: int) -> Findings:
    """The findings of one benchmark. Verdicts of many cells are not kept beside those of the next benchmark."""
    found = find(benchmark, comparison.of(benchmark), comparison.verdicts(benchmark), seed)
    if len(found.cells) > PAIRWISE:
        comparison.forget(benchmark)
    return found


def analyse(comparison: Comparison, seed: int = 0) -> Analysis:
    """Read the verdicts of every benchmark and compute what is known. DataError where verdicts do not fit."""
    names = comparison.benchmarks
    # numpy lets go of the interpreter, so benchmarks share two cores; BLAS threads beside them would fight for both.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda name: _found(comparison, name, seed), names)
        findings = dict(zip(names, parts, strict=True))
    for name, part in findings.items():
        check_logged(name, part.cells)
        comparison.notes.extend(_incomplete(name, part.cells))
    overall = over_benchmarks(list(findings.values())) if len(findings) > 1 else None
    return Analysis(comparison=comparison, findings=findings, overall=overall)
