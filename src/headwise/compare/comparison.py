"""A comparison: the cell runs that are compared, and their verdicts one benchmark at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pandas as pd

from headwise import tracking
from headwise.benchmarks import benchmark as benchmark_of
from headwise.compare.verdicts import VERDICTS, VerdictMatrix, read_matrix
from headwise.names import BENCHMARKS, CONTROLS, STRATEGIES, needs_heads, needs_tokens

RANKING = ["layer", "budget", "score_dtype", "seed"]
"""Parameters that change what a pruned cell keeps, and nothing of the unpruned one."""
IDENTITY = ["model", "benchmark", "strategy", "tokens", "heads", *RANKING]
"""Parameters that say which cell a run is; of runs with the same identity the latest is compared."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The cells that are compared.

    `cells` has one row a cell run, indexed 0..C-1 and sorted by benchmark, strategy, tokens and heads
    (largest budget first). Columns:

    - `run_id`, `run_name`, `study`, `artifact_uri`, `complete` (bool);
    - the logged parameters under their names: `model`, `benchmark`, `strategy` (str), `tokens`, `heads`
      (Int64, missing where the strategy has none), `layer`, `budget`, `score_dtype`, …;
    - the logged metrics under their names: `score`, `category/…`, `samples`, `failed`, `unparsed`,
      `seconds`, `mean_visual_tokens`, `kept_tokens`, `degenerate_rankings`, … (float);
    - `configuration`: the cell's name within its benchmark, `192/16/sparsity` (followed by whatever else
      differs between the cells compared, such as `float16`); equal over benchmarks.

    `notes` are lines a reader must see: what was set aside and why.
    """

    cells: pd.DataFrame
    experiment_id: str
    study: str | None = None
    notes: list[str] = field(default_factory=list)
    _read: dict[str, VerdictMatrix] = field(default_factory=dict, init=False, repr=False)

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks that occur, in the order of `headwise.names.BENCHMARKS`."""
        return list(dict.fromkeys(self.cells["benchmark"]))

    def of(self, benchmark: str) -> pd.DataFrame:
        """The rows of `cells` of one benchmark, same order, index reset."""
        return self.cells[self.cells["benchmark"] == benchmark].reset_index(drop=True)

    def verdicts(self, benchmark: str) -> VerdictMatrix:
        """Verdicts of the rows of `of(benchmark)`, row for row; read once."""
        if benchmark not in self._read:
            cells = self.of(benchmark)
            with ThreadPoolExecutor(8) as pool:  # a remote store answers several questions at once
                files = pool.map(tracking.download, cells["run_id"], [VERDICTS] * len(cells), cells["artifact_uri"])
                named = dict(zip(cells["run_id"], files, strict=True))
            self._read[benchmark] = read_matrix(benchmark, benchmark_of(benchmark).kind, named)
        return self._read[benchmark]


def load_study(
    *,
    study: str | None = None,
    experiment: str | None = None,
    run_ids: Sequence[str] | None = None,
    include_incomplete: bool = False,
) -> Comparison:
    """The finished cells of a study (default: the latest finished one), of a whole experiment, or those named.

    Cells that are not comparable are set aside and named in `notes`: those asked fewer questions than the
    others (`limit`) and all but the latest run of a configuration. TrackingError where nothing is found.
    """
    if not (study or experiment or run_ids):
        study = tracking.latest_study()
    found = tracking.find_cells(
        study=study, experiment=experiment, run_ids=run_ids, include_incomplete=include_incomplete
    )
    notes: list[str] = []
    cells = _without_superseded(_without_shorter(_normalised(found), notes), notes)
    cells = _sorted(cells).assign(configuration=lambda table: configurations(table))
    return Comparison(cells=cells, experiment_id=str(cells["experiment_id"].iloc[0]), study=study, notes=notes)


def _normalised(cells: pd.DataFrame) -> pd.DataFrame:
    """Parameters a strategy does not use are missing, so that they distinguish nothing."""
    cells = cells.copy()
    for name in (*IDENTITY, "limit"):
        if name not in cells:
            cells[name] = pd.NA
    cells.loc[~cells["strategy"].map(needs_heads), "heads"] = pd.NA
    cells.loc[~cells["strategy"].map(needs_tokens), ["tokens", *RANKING]] = pd.NA
    return cells


def _without_shorter(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """A trial run on the first n questions would cut every paired comparison to those n."""
    asked = cells["limit"].astype("Float64").fillna(float("inf"))
    longest = asked.groupby(cells["benchmark"]).transform("max")
    for benchmark, count in cells.loc[asked < longest, "benchmark"].value_counts().items():
        notes.append(f"{benchmark}: {count} cells were asked fewer questions (limit) and are set aside")
    return cells[asked >= longest]


def _without_superseded(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    superseded = cells.duplicated(IDENTITY, keep="last")
    if superseded.any():
        notes.append(f"{superseded.sum()} cells were run again later; the latest run of each is compared")
    return cells[~superseded]


def _sorted(cells: pd.DataFrame) -> pd.DataFrame:
    keys = pd.DataFrame(
        {
            "benchmark": cells["benchmark"].map(_rank(BENCHMARKS)),
            "strategy": cells["strategy"].map(_rank(CONTROLS + STRATEGIES)),
            "tokens": -cells["tokens"],
            "heads": -cells["heads"],
        }
    )
    order = keys.sort_values(["benchmark", "strategy", "tokens", "heads"], kind="stable").index
    return cells.loc[order].reset_index(drop=True)


def _rank(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def configurations(cells: pd.DataFrame) -> list[str]:
    """Names such as `192/16/sparsity`, with what else differs between the cells (`… float16`)."""
    plain = [
        "/".join(str(part) for part in row if not pd.isna(part))
        for row in cells[["tokens", "heads", "strategy"]].itertuples(index=False)
    ]
    varying = [name for name in ("model", *RANKING) if cells[name].nunique() > 1]
    extras = [
        " ".join(_extra(name, value) for name, value in zip(varying, row, strict=True) if not pd.isna(value))
        for row in cells[varying].itertuples(index=False)
    ]
    return [f"{name} {extra}".strip() for name, extra in zip(plain, extras, strict=True)]


def _extra(name: str, value: object) -> str:
    return str(value) if name in ("model", "budget", "score_dtype") else f"{name}={value}"
