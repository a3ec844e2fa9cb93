"""A comparison: the cell runs that are compared, and their verdicts one benchmark at a time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from headwise import tracking
from headwise.analysis.lineup import answered_otherwise, check_scored_alike, without_incomplete, without_partial
from headwise.analysis.means import unequal_means
from headwise.analysis.roles import REFERENCE, in_order, roles
from headwise.analysis.verdicts import VERDICTS, VerdictMatrix, read_matrix
from headwise.benchmarks import BENCHMARKS
from headwise.benchmarks import benchmark as benchmark_of
from headwise.benchmarks.files import coverage
from headwise.study.names import ANSWERING, CONTROLS, QUERIES, RANKING, STRATEGIES, needs_heads, needs_seed
from headwise.system.wording import counted

# Parameters that say which cell a run is; of runs with the same identity the latest is compared.
IDENTITY = ["model", "model_digest", "benchmark", "strategy", "tokens", "heads", *RANKING, *ANSWERING]


# Named nowhere: names say a query where it is another one.
DEFAULT_QUERY = ("query", QUERIES[0])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The cells that are compared.

    `cells` has one row per cell run, indexed 0..C-1 and sorted by benchmark, strategy, tokens and heads
    (largest budget first). Columns:

    - `run_id`, `run_name`, `study`, `artifact_uri`, `complete` (bool);
    - `role`: `reference`, `control` or `method`, as the run says, or by name where it does not;
    - the logged parameters under their names: `model`, `benchmark`, `strategy` (str), `tokens`, `heads`
      (Int64, missing where the strategy has none), `layer`, `budget`, `score_dtype`, `query`, …;
    - the logged metrics under their names: `score`, `category/…`, `samples`, `failed`, `unparsed`,
      `seconds`, `mean_visual_tokens`, `kept_tokens`, `degenerate_rankings`, … (float);
    - `label`: the strategy, followed by whatever else differs between the cells compared (`sparsity float16`);
    - `configuration`: the cell's name within its benchmark, `192/16/` and the label; equal over benchmarks.

    `notes` are lines a reader must see: what was set aside and why.
    """

    cells: pd.DataFrame
    experiment_id: str
    study: str | None = None
    notes: list[str] = field(default_factory=list)
    _read: dict[str, VerdictMatrix] = field(default_factory=dict, init=False, repr=False)

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks that occur, in the order of `headwise.benchmarks.BENCHMARKS`."""
        return list(dict.fromkeys(self.cells["benchmark"]))

    def of(self, benchmark: str) -> pd.DataFrame:
        """The rows of `cells` of one benchmark, same order, index reset."""
        return self.cells[self.cells["benchmark"] == benchmark].reset_index(drop=True)

    def verdicts(self, benchmark: str) -> VerdictMatrix:
        """Verdicts of the rows of `of(benchmark)`, row for row; kept until `forget`."""
        if benchmark not in self._read:
            cells = self.of(benchmark)
            with ThreadPoolExecutor(8) as pool:  # a remote store answers several questions at once
                files = pool.map(tracking.download, cells["run_id"], [VERDICTS] * len(cells), cells["artifact_uri"])
                named = dict(zip(cells["run_id"], files, strict=True))
            self._read[benchmark] = read_matrix(benchmark_of(benchmark), named)
        return self._read[benchmark]

    def forget(self, benchmark: str) -> None:
        """Let go of the verdicts; asked for again, they are read again."""
        self._read.pop(benchmark, None)


def load_comparison(
    *,
    study: str | None = None,
    experiment: str | None = None,
    run_ids: Sequence[str] | None = None,
    include_incomplete: bool = False,
) -> Comparison:
    """The finished cells of a study (default: the latest finished one), of a whole experiment, or those named.

    Cells that are not comparable are set aside and named in `notes`: incomplete ones, those asked fewer questions
    than the others, and all but the latest run of a configuration. NothingFound where nothing is left, DataError
    where cells of a benchmark were scored by different labels or rules.
    """
    if study == tracking.LATEST or not (study or experiment or run_ids):
        study = tracking.latest_study(experiment)
    found = tracking.find_cells(study=study, experiment=experiment, run_ids=run_ids, include_incomplete=True)
    notes: list[str] = []
    cells = _normalised(found)
    if not include_incomplete:
        cells = without_incomplete(cells, IDENTITY, notes)
    cells = _without_superseded(_without_other_data(_without_shorter(cells, notes), notes), notes)
    if not include_incomplete:
        cells = without_partial(cells, notes)
    check_scored_alike(cells, notes)
    cells = _named(_sorted(cells))
    notes += [*_machines(cells), *answered_otherwise(cells), *_categories(cells), *unequal_means(cells)]
    return Comparison(cells=cells, experiment_id=str(cells["experiment_id"].iloc[0]), study=study, notes=notes)


def _normalised(cells: pd.DataFrame) -> pd.DataFrame:
    """Parameters a strategy does not use are missing, so that they distinguish nothing."""
    cells = cells.copy()
    for name in (*IDENTITY, "limit", "data_digest", "score"):
        if name not in cells:
            cells[name] = pd.NA
    cells["score"] = cells["score"].astype(float)
    cells["complete"] = cells["complete"].astype(bool) if "complete" in cells else True
    digests = cells.groupby("model")["model_digest"].transform("nunique")
    several = cells["model"] + "@" + cells["model_digest"].astype(str).str[:8]
    cells["model"] = cells["model"].where((digests <= 1) | cells["model_digest"].isna(), several)
    cells["role"] = roles(cells)
    # A strategy that is not known here may choose heads: then it has logged how many.
    cells.loc[cells["strategy"].isin([name for name in CONTROLS if not needs_heads(name)]), "heads"] = pd.NA
    cells.loc[~cells["strategy"].map(needs_seed), "seed"] = pd.NA
    cells.loc[cells["strategy"] == "random_tokens", ["score_dtype", "query"]] = pd.NA  # it ranks nothing
    # Runs log the query only where it is not the default; methods without heads have none.
    asks = cells["strategy"].isin([*STRATEGIES, *CONTROLS]) & (cells["strategy"] != "random_tokens")
    cells["query"] = cells["query"].where(cells["query"].notna() | ~asks, QUERIES[0])
    cells.loc[cells["role"] == REFERENCE, ["tokens", "heads", *RANKING]] = pd.NA
    return _as_answered(cells)


def _as_answered(cells: pd.DataFrame) -> pd.DataFrame:
    """`device` and `dtype` as they were, not as they were asked for: `auto` is another thing on another machine.

    `compile` as it was: off where it was not logged.
    """
    cells["compile"] = cells["compile"].where(cells["compile"].notna(), "False")  # logged only where it is on
    for name in ("device", "dtype"):
        tag = f"tags.headwise.{name}"
        if tag in cells:
            cells[name] = cells[tag].where(cells[tag].notna(), cells[name])
    cells["device"] = cells["device"].map(lambda device: str(device).split(":")[0], na_action="ignore")
    return cells


def _without_shorter(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """A trial run on the first n questions would cut every paired comparison to those n."""
    asked = cells["limit"].astype("Float64").fillna(float("inf"))
    longest = asked.groupby(cells["benchmark"]).transform("max")
    for benchmark, count in cells.loc[asked < longest, "benchmark"].value_counts().items():
        notes.append(
            f"{benchmark}: {counted(count, 'cell was', 'cells were')} asked fewer questions (limit); set aside"
        )
    return cells[asked >= longest]


def _without_other_data(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Answers to different questions are no pairs: the data of the latest cell of each benchmark stay."""
    latest = cells.groupby("benchmark")["data_digest"].transform("last")
    other = cells["data_digest"].notna() & (cells["data_digest"] != latest)
    for benchmark, count in cells.loc[other, "benchmark"].value_counts().items():
        notes.append(f"{benchmark}: {counted(count, 'cell', 'cells')} answered other data (data_digest); set aside")
    return cells[~other]


def _without_superseded(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    complete_last = cells.sort_values("complete", kind="stable")
    superseded = complete_last.duplicated(IDENTITY, keep="last").reindex(cells.index)
    if superseded.any():
        count = counted(int(superseded.sum()), "cell was", "cells were")
        notes.append(f"{count} run again later; the latest run of each is compared")
    return cells[~superseded]


def _machines(cells: pd.DataFrame) -> list[str]:
    """Seconds that two machines took say nothing of two cells."""
    tag = "tags.headwise.measured_on"
    names: list[str] = sorted(cells[tag].dropna().unique()) if tag in cells else []
    return [f"seconds and peak memory were measured on {' and '.join(names)}"] if len(names) > 1 else []


def _categories(cells: pd.DataFrame) -> list[str]:
    """A mean or sum over some of a benchmark's official categories is no figure of the benchmark."""
    notes = []
    for name, rows in cells.groupby("benchmark", sort=False):
        bench = benchmark_of(str(name))
        present = rows.columns[rows.notna().any()]
        if partial := coverage(bench.categories, present):
            notes.append(f"{bench.title}: the score is of {partial}")
    return notes


def _sorted(cells: pd.DataFrame) -> pd.DataFrame:
    methods = in_order(set(cells["strategy"]) - set(CONTROLS))
    keys = pd.DataFrame(
        {
            "benchmark": cells["benchmark"].map(_rank(list(BENCHMARKS))),
            "strategy": cells["strategy"].map(_rank([*CONTROLS, *methods])),
            "tokens": -cells["tokens"],
            "heads": -cells["heads"],
        }
    )
    order = keys.sort_values(["benchmark", "strategy", "tokens", "heads"], kind="stable").index
    return cells.loc[order].reset_index(drop=True)


def _rank(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _named(cells: pd.DataFrame) -> pd.DataFrame:
    """Add the columns `label` and `configuration`, which is unique within its benchmark."""
    varying = [name for name in ("model", *RANKING, *ANSWERING) if cells[name].nunique() > 1]
    if cells["source"].nunique(dropna=False) > 1:
        varying = [*dict.fromkeys([*varying, "source"])]
    rows = cells[["strategy", "tokens", "heads", *varying]].to_dict("records")
    labels = pd.Series([" ".join([row["strategy"], *_extras(row, varying)]) for row in rows], index=cells.index)
    budgets = [[str(row[name]) for name in ("tokens", "heads") if not pd.isna(row[name])] for row in rows]
    prefixes = pd.Series(["/".join(budget) for budget in budgets], index=cells.index)
    # Of two cells that an older headwise logged less about, the names would be the same.
    alike = pd.DataFrame([cells["benchmark"], prefixes, labels]).T.duplicated(keep=False)
    labels = labels.where(~alike, labels + " run=" + cells["run_id"].str[:8])
    names = prefixes.where(prefixes == "", prefixes + "/") + labels
    return cells.assign(label=labels, configuration=names)


def _extras(row: Mapping[Hashable, Any], varying: Sequence[str]) -> list[str]:
    known = {name: row[name] for name in varying if not pd.isna(row[name]) and (name, row[name]) != DEFAULT_QUERY}
    plain = ("model", "budget", "score_dtype", "source", "device", "query")
    return [str(value) if name in plain else f"{name}={value}" for name, value in known.items()]
