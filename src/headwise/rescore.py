"""Finished runs scored anew from their answers artifact: a mended scorer or answer key, no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from headwise import tracking
from headwise.data import data_folder
from headwise.records import Scorecard, Verdict, read_jsonl
from headwise.score import ANSWERS, key_tags, labelled_key_tags, score_answers, score_labelled, write_verdicts

KEY_IN_ANSWERS = "answers"
"""Value of the parameter `data_dir` of a run whose answers carry their own labels."""


def rescore(cells: Iterable[Mapping[str, Any]], data_dir: str | None = None) -> Iterator[tuple[str, Scorecard]]:
    """Score each cell (a row of `tracking.find_cells`) again and log the figures; yields its run id and card.

    Labels come from `data_dir`, or from where the run's own parameter says. TrackingError where a run has no
    answers, DataError where answers and questions do not fit; the runs before it stay rescored.
    """
    for cell in cells:
        answers = tracking.download(cell["run_id"], ANSWERS, cell["artifact_uri"])
        card, verdicts, tags = _score(cell, answers, data_dir or str(cell["data_dir"]))
        with tempfile.TemporaryDirectory(prefix="headwise-") as folder:
            write_verdicts(Path(folder), verdicts)
            tracking.update_cell(cell["run_id"], metrics=card.as_metrics(), folder=Path(folder), tags=tags)
        yield cell["run_id"], card


def _score(
    cell: Mapping[str, Any], answers: Path, data_dir: str
) -> tuple[Scorecard, list[Verdict], dict[str, str]]:
    """Scorecard, verdicts, and the tags of the labels and scorer that they were made by."""
    name = str(cell["benchmark"])
    if data_dir == KEY_IN_ANSWERS:
        card, verdicts = score_labelled(name, answers)
        return card, verdicts, labelled_key_tags(list(read_jsonl(answers)), card)
    limit = None if pd.isna(cell["limit"]) else int(cell["limit"])
    folder = data_folder(data_dir, [name])
    return *score_answers(name, folder, answers, limit), key_tags(name, folder, limit)
