"""Questions to look at: where configurations disagree most, and some drawn evenly from the rest."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from headwise.analysis.evidence import Evidence
from headwise.analysis.roles import in_order, is_method, is_reference
from headwise.analysis.verdicts import VerdictMatrix
from headwise.benchmarks.boxes import padded
from headwise.errors import DataError
from headwise.report import boxes
from headwise.report.figures import is_dark
from headwise.study.grids import as_numbers
from headwise.system.reading import read_image

# Questions a benchmark in the report: the most disputed ones, and as many more evenly from the rest.
DISAGREEING, OTHERS = 16, 8
# Configurations a question in the report, the best ones; the files of the runs hold them all.
CELLS = 150
SIDE = 288
# CLIP's mean colour, as LLaVA-1.5 pads images to a square.
PADDING = (122, 116, 104)

# A line of answers.jsonl: question_id, prompt, and text or error.
Row = dict[str, Any]
# Benchmark, question id, image name and prompt → the image file, None where it is not at hand.
ImagePath = Callable[[str, str, str, str], Path | None]


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A few questions of one benchmark, under its cells.

    `places` are columns of the verdicts, `cells` rows of them; `texts[cell][place]` raw answers by position in
    those two lists; `images` one a place (None where the image is not at hand), `sizes` theirs in the file, in pixels.
    """

    benchmark: str
    places: np.ndarray
    cells: pd.DataFrame
    prompts: list[str]
    texts: list[list[str | None]]
    images: list[Image.Image | None]
    sizes: list[boxes.Size | None]
    disagreement: np.ndarray


def disagreement(verdicts: VerdictMatrix, rows: np.ndarray) -> np.ndarray:
    """For each question the chance that two of the cells, drawn at random, answer differently, [Q].

    Hardly two boxes are equal: they differ where one is right and the other is not.
    """
    answer_CQ = verdicts.prediction_CQ[rows]
    if boxes.has_boxes(verdicts.benchmark):
        answer_CQ = np.nan_to_num(verdicts.correct_CQ[rows], nan=-1).astype(np.int32)
    answered_Q = np.maximum((answer_CQ >= 0).sum(axis=0), 1)
    same_Q = np.zeros(answer_CQ.shape[1])
    for code in np.unique(answer_CQ[answer_CQ >= 0]):
        same_Q += ((answer_CQ == code).sum(axis=0) / answered_Q) ** 2
    return np.where((answer_CQ >= 0).any(axis=0), 1 - same_Q, 0)


def choose(disagreement_Q: np.ndarray, images_Q: np.ndarray) -> np.ndarray:
    """Places of the questions to show, most disputed first: one per image as long as there are images."""
    order = np.argsort(-disagreement_Q, kind="stable")
    _, first = np.unique(images_Q[order], return_index=True)
    distinct = order[np.sort(first)]
    ranked = np.concatenate([distinct, order[~np.isin(order, distinct)]])
    top, rest = ranked[:DISAGREEING], np.sort(ranked[DISAGREEING:])
    even = rest[np.linspace(0, len(rest) - 1, min(OTHERS, len(rest))).round().astype(int)]
    chosen = np.concatenate([top, even])
    return chosen[np.argsort(-disagreement_Q[chosen], kind="stable")]


def sample(
    benchmark: str, cells: pd.DataFrame, verdicts: VerdictMatrix, answers: Callable[[str], Path], image_path: ImagePath
) -> Sampled:
    """Draw the questions and read their prompts, raw answers and images.

    `cells` row for row those of `verdicts`; `answers` gives a run's answers.jsonl.
    """
    pruned = np.flatnonzero(~is_reference(cells))
    disputed_Q = disagreement(verdicts, pruned if len(pruned) else np.arange(len(cells)))
    places = choose(disputed_Q, verdicts.image_Q)
    inside = shown(cells)
    questions = verdicts.questions.iloc[places]
    prompts, texts = read_texts([answers(run) for run in inside["run_id"]], questions)
    keys = zip(questions["question_id"], questions["image"], prompts, strict=True)
    files = [image_path(benchmark, str(name), str(image), prompt) for name, image, prompt in keys]
    images, sizes = zip(*map(_square, files), strict=True)
    return Sampled(
        benchmark=benchmark,
        places=places,
        cells=inside,
        prompts=prompts,
        texts=texts,
        images=list(images),
        sizes=list(sizes),
        disagreement=disputed_Q[places],
    )


def read_texts(files: Sequence[Path], questions: pd.DataFrame) -> tuple[list[str], list[list[str | None]]]:
    """Prompts of these questions (indexed by their place in the question file), and each file's raw answers.

    A complete file has one line per question in their order, so only the lines needed are parsed; in any
    other file answers are looked up by question id and prompt.
    """
    names = questions["question_id"].astype(str).tolist()
    rows = [_rows_at(file, questions.index, names) for file in files]
    complete = next((found for found in rows if found), None)
    if complete is None:
        complete = [_by_key(files[0]).get((name, None), {}) for name in names]
    prompts = [str(row.get("prompt", "")) for row in complete]
    texts = []
    for file, found in zip(files, rows, strict=True):
        by_key = {} if found else _by_key(file)
        found = found or [by_key.get(key, {}) for key in zip(names, prompts, strict=True)]
        texts.append([row.get("text") for row in found])
    return prompts, texts


def _rows_at(file: Path, places: Sequence[int] | pd.Index, names: Sequence[str]) -> list[Row] | None:
    """The lines at these places; None where the file is shorter or its questions are others."""
    lines = file.read_text(encoding="utf-8").split("\n")
    if max(places) >= len(lines) or not all(lines[place] for place in places):
        return None
    rows = [json.loads(lines[place]) for place in places]
    return rows if [str(row["question_id"]) for row in rows] == list(names) else None


def _by_key(file: Path) -> dict[tuple[str, str | None], Row]:
    """Every line by question id and prompt, and by id alone (the first of its id)."""
    found: dict[tuple[str, str | None], Row] = {}
    for line in filter(str.strip, file.read_text(encoding="utf-8").split("\n")):
        row = json.loads(line)
        name = str(row["question_id"])
        found[name, str(row["prompt"])] = row
        found.setdefault((name, None), row)
    return found


def shown(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells whose answers and evidence a report reads: vanilla and the best ones, in table order."""
    ranked = cells.assign(last=~is_reference(cells)).sort_values(["last", "score"], ascending=[True, False])
    return cells.loc[sorted(ranked.index[:CELLS])]


def _square(path: Path | None) -> tuple[Image.Image | None, boxes.Size | None]:
    """The image as the model sees it, padded to a square, at most SIDE pixels wide; and the size of the file's.

    None and None where it cannot be read.
    """
    if path is None:
        return None, None
    try:
        full = read_image(path)
    except DataError:
        return None, None  # the run has counted it as failed; the report shows the question without it
    side, left, top = map(int, padded(*full.size))
    square = Image.new("RGB", (side, side), PADDING)
    square.paste(full, (left, top))
    return square.resize((SIDE, SIDE), Image.Resampling.LANCZOS), full.size


def for_browser(sampled: Sampled, verdicts: VerdictMatrix, evidence: dict[str, Evidence]) -> dict[str, Any]:
    """The sample browser's data as plain JSON values."""
    cells = sampled.cells
    side = max((found.side or 0 for found in evidence.values()), default=0)
    areas = Areas(evidence, sampled.places)
    samples = [_one(sampled, verdicts, evidence, areas, number) for number in range(len(sampled.places))]
    return {
        "benchmark": sampled.benchmark,
        "side": side,
        "cells": cells["configuration"].tolist(),
        "vanilla": is_reference(cells).tolist(),
        "total": len(verdicts.image_Q),
        "samples": samples,
        "areas": areas.distinct,
    }


class Areas:
    """Where merged rows come from, as the browser gets it: each map once, however many cells and questions have it.

    A map says of each token which merged row it is in, from 1 (0: none).
    """

    def __init__(self, evidence: Mapping[str, Evidence], places: np.ndarray) -> None:
        """Read the maps of the questions at `places` [N] from each run's evidence."""
        self._numbers: dict[bytes, int] = {}
        self._maps = {
            run: dict(zip(inside.tolist(), map(self._number, found.areas(inside)), strict=True))
            for run, found in evidence.items()
            if found.file is not None and found.side is not None
            for inside in (places[places < len(found.kept_NV)],)
        }

    @property
    def distinct(self) -> list[str]:
        """The maps as base64 of unsigned integers: a byte per token, two (little-endian) for over 255 rows."""
        return [base64.b64encode(area).decode() for area in self._numbers]

    def of(self, run: str, place: int) -> int | None:
        """Which map is that of a run's question; None where no row comes from an area."""
        return self._maps.get(run, {}).get(place)

    def _number(self, area_V: np.ndarray) -> int | None:
        size = "u1" if area_V.max(initial=0) < 256 else "<u2"
        return self._numbers.setdefault(area_V.astype(size).tobytes(), len(self._numbers)) if area_V.any() else None


def _one(
    sampled: Sampled, verdicts: VerdictMatrix, evidence: dict[str, Evidence], areas: Areas, number: int
) -> dict[str, Any]:
    place, image = sampled.places[number], sampled.images[number]
    question = verdicts.questions.iloc[place]
    correct = verdicts.correct_CQ[sampled.cells.index, place]
    return {
        "id": str(question["question_id"]),
        "category": str(question["category"]),
        "question": sampled.prompts[number],
        "truth": str(question["truth"]),
        "image": _data_url(image),
        "boxes": boxes.for_question(
            sampled.benchmark, verdicts, np.asarray(sampled.cells.index), int(place), sampled.sizes[number]
        ),
        "dark": image is not None and is_dark(np.asarray(image)),
        "disagreement": round(float(sampled.disagreement[number]), 3),
        "answers": [texts[number] for texts in sampled.texts],
        "correct": [None if np.isnan(value) else round(float(value), 3) for value in correct],
        "grids": _grids(evidence.values(), place),
        "kept": [_kept(evidence.get(run), place) for run in sampled.cells["run_id"]],
        "merged": [_merged(evidence.get(run), place) for run in sampled.cells["run_id"]],
        "area": [areas.of(run, int(place)) for run in sampled.cells["run_id"]],
        "stages": [_stages(evidence.get(run), place) for run in sampled.cells["run_id"]],
    }


def _kept(found: Evidence | None, place: int) -> str | None:
    """Packed bits of the kept tokens as base64; None where unknown, or where the tokens form no square."""
    if found is None or place >= len(found.kept_NV) or (found.side is None and not found.grids(place)):
        return None
    return base64.b64encode(found.kept_NV[place].tobytes()).decode()


def _grids(evidence: Iterable[Evidence], place: int) -> list[list[float]]:
    """Where the image's tokens lie, as `grids.as_numbers` writes it; empty where they form one square, or unknown."""
    found = (each.grids(place) for each in evidence if place < len(each.kept_NV))
    return as_numbers(next(filter(None, found), ()))


def _merged(found: Evidence | None, place: int) -> int:
    """How many merged rows stand behind the kept tokens; 0 where that is unknown."""
    return 0 if found is None or place >= len(found.kept_NV) else found.merged(place)


def _stages(found: Evidence | None, place: int) -> list[tuple[int, int]]:
    """After which layer each stage prunes and how many tokens it leaves, where there are several."""
    stages = [] if found is None or place >= len(found.kept_NV) else found.stages(place)
    return stages if len(stages) > 1 else []


def _data_url(image: Image.Image | None) -> str | None:
    if image is None:
        return None
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def strategies_to_show(cells: pd.DataFrame, count: int = 4) -> Sequence[int]:
    """Rows for the kept-token picture: at the tightest budget the best, the middle and the worst, and a control.

    The control is random tokens where the study has them, else the last of its controls; no budget, no row.
    """
    tight = cells[cells["tokens"] == cells["tokens"].min()].sort_values("score", ascending=False)
    names = in_order(tight.loc[~is_method(tight), "strategy"])
    control = tight.index[tight["strategy"] == names[-1]][:1].tolist() if names else []
    ranked = tight.index[~tight.index.isin(control)]
    spread = np.linspace(0, len(ranked) - 1, min(count - len(control), len(ranked)))
    return [*ranked[np.unique(spread.round().astype(int))], *control]
