"""A comparison as one JSON object, for other programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from headwise.analysis.analyse import Analysis
from headwise.analysis.beside import by_benchmark
from headwise.analysis.findings import COSTS, Findings

CELL = (
    *(
        "run_id",
        "configuration",
        "strategy",
        "role",
        "tokens",
        "heads",
        "score",
        "low",
        "high",
        "of_vanilla",
        "in_best_set",
        "best_at_budget",
        "mean_visual_tokens",
    ),
    *COSTS,
)


def as_json(analysis: Analysis, compare_run: str | None) -> dict[str, Any]:
    """Study, notes, the run that holds the comparison (or null), and per benchmark what is known of its cells.

    That is the best cell, the best set and every cell's score and 95 % interval, whether it is in the best set
    (`in_best_set`; `best_at_budget`: in that of its token budget) and the mean visual tokens that a layer sees.
    `too_few_images` is true where no two cells can be told apart, so that every cell is in the best set. `overall` is
    the same for the mean percent of vanilla over benchmarks, or null; its cells have each benchmark's percent beside
    the mean. Missing numbers are null, the ends of an interval too, where there is a single image.
    """
    comparison = analysis.comparison
    overall = None if analysis.overall is None else _overall(analysis, analysis.overall)
    return {
        "study": comparison.study,
        "experiment_id": comparison.experiment_id,
        "compare_run": compare_run,
        "notes": comparison.notes,
        "benchmarks": {name: _part(part) for name, part in analysis.findings.items()},
        "overall": overall,
        "recommendation": [_plain(row) for row in analysis.recommendation.to_dict("records")],
    }


def _overall(analysis: Analysis, part: Findings) -> dict[str, Any]:
    found, beside = _part(part), analysis.tables.get("of_vanilla")
    if beside is not None:
        percentages = by_benchmark(beside)
        for cell in found["cells"]:
            cell["benchmarks"] = percentages[cell["configuration"]]
    return found


def _part(part: Findings) -> dict[str, Any]:
    names = [name for name in CELL if name in part.cells]
    cells = [_plain(row) for row in part.cells[names].to_dict("records")]
    best = None if part.pruned.empty else _plain(part.best[names].to_dict())
    return {
        "unit": part.unit,
        "images": part.images,
        "too_few_images": part.too_few,
        "best": best,
        "best_set": part.best_set()["configuration"].tolist(),
        "cells": cells,
    }


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """Values as JSON knows them: numpy scalars become numbers, what is missing null."""
    return {str(name): _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value
