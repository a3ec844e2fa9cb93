"""Finished runs scored anew from their answers artifact: a mended scorer or answer key, no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from headwise import tracking
from headwise.benchmarks.bundles.check import data_folder
from headwise.records import Scorecard, Verdict, read_jsonl
from headwise.scoring.score import (
    ANSWERS,
    agrees,
    key_tags,
    labelled_key_tags,
    score_answers,
    score_labelled,
    write_verdicts,
)

# Value of the parameter `data_dir` of a run whose answers carry their own labels.
KEY_IN_ANSWERS = "answers"
# Status of an imported cell whose answers score otherwise than its log says; LOG_SCORE tags what that is.
CONTRADICTED = "contradicted"
LOG_SCORE = "headwise.log_score"


def rescore(
    cells: Iterable[Mapping[str, Any]], data_dir: str | None = None, log: bool = True
) -> Iterator[tuple[str, Scorecard]]:
    """Score each cell (a row of `tracking.find_cells`) again; yields its run id and card. The run gets it with `log`.

    Labels come from `data_dir`, or from where the run's own parameter says. TrackingError where a run has no
    answers, DataError where answers and questions do not fit; the runs before it stay rescored.
    """
    for cell in cells:
        answers = tracking.download(cell["run_id"], ANSWERS, cell["artifact_uri"])
        card, verdicts, tags = _score(cell, answers, data_dir or str(cell["data_dir"]))
        if log:
            _log(cell, card, verdicts, tags)
        yield cell["run_id"], card


def _log(cell: Mapping[str, Any], card: Scorecard, verdicts: list[Verdict], tags: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="headwise-") as folder:
        write_verdicts(Path(folder), verdicts)
        against = contradicted(cell, card)
        tags |= {"headwise.status": CONTRADICTED} if against else {}
        note = _note(cell, card, against)
        tracking.update_cell(cell["run_id"], metrics=card.as_metrics(), folder=Path(folder), tags=tags, note=note)


def contradicted(cell: Mapping[str, Any], card: Scorecard) -> bool:
    """Whether a cell's log says another score: what was contradicted stays so, unless it now scores what the log says.

    `cell` is its row before it was scored again.
    """
    if cell.get("tags.headwise.status") != CONTRADICTED:
        return False
    printed = cell.get(f"tags.{LOG_SCORE}")
    return not (isinstance(printed, str) and agrees(cell["benchmark"], card.score, float(printed)))


def _note(cell: Mapping[str, Any], card: Scorecard, against: bool) -> str:
    """The line that the UI shows of the run: with the old score in it, it would contradict the new one."""
    score = "no score" if card.score is None else f"{card.score:.2f}"
    counts = {"failed": card.failed, "missing": card.missing, "unparsed": card.unparsed}
    lost = ", ".join(f"{value} {name}" for name, value in counts.items() if value)
    note = f"{cell['run_name']}: {score} over {card.samples} questions" + (f" ({lost})" if lost else "")
    said = cell.get(f"tags.{LOG_SCORE}")
    return f"{note}, scored anew." + (f" Contradicted: its log says {said}." if against else "")


def _score(cell: Mapping[str, Any], answers: Path, data_dir: str) -> tuple[Scorecard, list[Verdict], dict[str, str]]:
    """Scorecard, verdicts, and the tags of the labels and scorer that they were made by."""
    name = str(cell["benchmark"])
    if data_dir == KEY_IN_ANSWERS:
        card, verdicts = score_labelled(name, answers)
        return card, verdicts, labelled_key_tags(list(read_jsonl(answers)), card)
    limit = None if pd.isna(cell["limit"]) else int(cell["limit"])
    folder = data_folder(data_dir, [name])
    return *score_answers(name, folder, answers, limit), key_tags(name, folder, limit)
