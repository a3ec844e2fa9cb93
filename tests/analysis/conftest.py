"""One small study in an sqlite store: two benchmarks, two strategies, a tie, a hole, controls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from headwise import tracking
from headwise.benchmarks import benchmark
from headwise.records import Verdict
from headwise.scoring.score import write_verdicts

QUESTIONS = 120
STRATEGIES = ("sum", "sparsity")
BUDGETS = [(tokens, heads) for tokens in (192, 64) for heads in (16, 8)]
HOLE = ("pope", "sparsity", 64, 8)


@dataclass(frozen=True)
class Store:
    folder: Path
    study: str
    scores: dict[tuple, float]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder, before = tmp_path_factory.mktemp("store"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.chdir(folder)
        with tracking.open_study({"strategy": list(STRATEGIES)}) as study:
            scores = {cell: log(study, folder, *cell) for cell in grid()}
        yield Store(folder, study.run_id, scores)
    assert Path.cwd() == before


def grid() -> list[tuple]:
    cells: list[tuple] = []
    for name in ("gqa", "pope"):
        cells += [(name, "vanilla", 576, None), (name, "random_tokens", 192, None), (name, "random_tokens", 64, None)]
        cells += [(name, strategy, *budget) for strategy in STRATEGIES for budget in BUDGETS]
    return [cell for cell in cells if cell != HOLE]


def log(
    study: tracking.StudyRun,
    folder: Path,
    name: str,
    strategy: str,
    tokens: int,
    heads: int | None,
    role: str | None = None,
    mean: float | None = None,
    **more,
) -> float:
    """Log a cell whose answers get worse with fewer tokens; the two strategies tie at 192/16."""
    share = {576: 0.9, 270: 0.85, 192: 0.8, 64: 0.5}[tokens] - 0.25 * (strategy == "random_tokens")
    share -= 0.2 * (strategy == "sum" and (tokens, heads) != (192, 16))
    rank = np.random.default_rng(3).permutation(QUESTIONS) / QUESTIONS
    verdicts = made_verdicts(name, rank < share)
    card = benchmark(name).summarise(verdicts)
    files = folder / "cell"
    write_verdicts(files, verdicts)
    params = {"benchmark": name, "strategy": strategy, "tokens": tokens, "heads": heads}
    settings = {"model": "m", "layer": 2, "budget": "average", "score_dtype": "float64", "seed": 0}
    tracking.log_cell(
        study,
        params=params | settings | more,
        metrics=card.as_metrics()
        | {
            "kept_tokens": tokens,
            "mean_visual_tokens": mean or tokens,
            "seconds": 1.0,
            "prefill_seconds": tokens * 1e-5,
        },
        tags={"headwise.labels_digest": "labels", "headwise.scorer": f"{name}/1"}
        | ({"headwise.role": role} if role else {}),
        folder=files,
        dataset={"name": name, "digest": "d", "source": "made"},
        note="made",
    )
    return float(card.score or 0)


def made_verdicts(name: str, right: np.ndarray) -> list[Verdict]:
    categories = ("random", "popular", "adversarial") if name == "pope" else ("verify/attr/3/6",)
    verdicts = []
    for number, correct in enumerate(right):
        truth, other = ("yes", "no") if number % 2 else ("no", "yes")
        verdicts.append(
            Verdict(
                question_id=str(number),
                image=f"{number // 2}.jpg",
                category=categories[number // 2 % len(categories)],
                status="ok",
                correct=float(correct),
                prediction=truth if correct else other,
                truth=truth,
            )
        )
    return verdicts
