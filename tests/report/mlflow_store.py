"""A small finished study in an sqlite store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from headwise import tracking
from headwise.benchmarks import benchmark
from headwise.records import Verdict
from headwise.scoring.score import write_verdicts

QUESTIONS = 30
SHARES = {("vanilla", 576): 0.9, ("sum", 192): 0.8, ("sparsity", 192): 0.8, ("sum", 64): 0.3, ("sparsity", 64): 0.2}


def log_study(folder: Path) -> str:
    """One benchmark, five cells with answers, evidence and costs; the study's run id."""
    with tracking.open_study({"strategy": ["sum", "sparsity"]}) as study:
        for (strategy, tokens), share in SHARES.items():
            _log_cell(study, folder / f"{strategy}{tokens}", strategy, tokens, share)
    return study.run_id


def _log_cell(study: tracking.StudyRun, files: Path, strategy: str, tokens: int, share: float) -> None:
    random = np.random.default_rng(tokens)
    verdicts = [_verdict(number, random.random() < share) for number in range(QUESTIONS)]
    write_verdicts(files, verdicts)
    said = {v.question_id: v.prediction for v in verdicts}
    answers = [{"question_id": name, "prompt": f"Is {name} red?", "text": text} for name, text in said.items()]
    (files / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    heads = np.packbits(random.random((QUESTIONS, 32)) < 0.25, axis=1)
    kept = np.packbits(random.random((QUESTIONS, 576)) < tokens / 576, axis=1)
    np.savez_compressed(files / "evidence.npz", head_count=32, visual=576, heads_NH=heads, kept_NV=kept)
    costs = {"flops": 1e9 * tokens, "prefill_seconds": tokens / 1e4, "measured_questions": 3}
    tracking.log_cell(
        study,
        params={"benchmark": "gqa", "model": "m", "strategy": strategy, "tokens": tokens, "heads": 8},
        metrics=benchmark("gqa").summarise(verdicts).as_metrics() | costs,
        tags={},
        folder=files,
        dataset={"name": "gqa", "digest": "d", "source": "made"},
        note="made",
    )


def _verdict(number: int, right: bool) -> Verdict:
    truth, other = ("yes", "no") if number % 2 else ("no", "yes")
    return Verdict(
        question_id=f"q{number}",
        image=f"{number // 2}.jpg",
        category="verify/attr/3/6",
        status="ok",
        correct=float(right),
        prediction=truth if right else other,
        truth=truth,
    )
