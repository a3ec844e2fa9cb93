"""A comparison: the cell runs that are compared, and their verdicts one benchmark at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from headwise import tracking
from headwise.compare.verdicts import VERDICTS, VerdictMatrix, read_matrix
from headwise.errors import TrackingError

IDENTITY = ["model", "benchmark", "strategy", "tokens", "heads", "layer", "budget", "score_dtype", "seed", "limit"]
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

    `notes` are lines a reader must see: duplicates set aside, incomplete cells left out.
    """

    cells: pd.DataFrame
    experiment_id: str
    study: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks that occur, in the order of `headwise.names.BENCHMARKS`."""
        raise NotImplementedError

    def of(self, benchmark: str) -> pd.DataFrame:
        """The rows of `cells` of one benchmark, same order, index reset."""
        return self.cells[self.cells["benchmark"] == benchmark].reset_index(drop=True)

    def verdicts(self, benchmark: str) -> VerdictMatrix:
        """Verdicts of the rows of `of(benchmark)`, row for row; read once."""
        raise NotImplementedError
