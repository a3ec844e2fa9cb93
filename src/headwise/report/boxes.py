"""True and predicted boxes of grounding benchmarks, where the scorer measured them, in the report's square picture."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from headwise.analysis.verdicts import VerdictMatrix
from headwise.benchmarks import BENCHMARKS, Benchmark
from headwise.benchmarks.boxes import Box, into_square, iou

# Corners are drawn at most this many squares away from the picture: an answer may hold a number of any length.
FARTHEST = 10.0
Size = tuple[int, int]


def has_boxes(benchmark: str) -> bool:
    """Whether the benchmark's answers are boxes."""
    return benchmark in BENCHMARKS and BENCHMARKS[benchmark].boxes


def for_question(
    benchmark: str, verdicts: VerdictMatrix, rows: np.ndarray, place: int, size: Size | None
) -> dict[str, Any] | None:
    """The boxes of one question under the cells `rows`; None for benchmarks whose answers are no boxes.

    `truth` and, per cell, `said` are in fractions of the padded square, None where the answer has no box or the
    image's `size` in pixels is unknown. `iou` per cell is None where the scorer read no box. Nothing is parsed here:
    verdicts hold the boxes that the rule compared.
    """
    if not has_boxes(benchmark):
        return None
    bench, truth = BENCHMARKS[benchmark], str(verdicts.truth_Q[place])
    codes = verdicts.prediction_CQ[rows, place]
    said = ["" if code < 0 else verdicts.predictions[code] for code in codes]
    return {
        "truth": in_square(bench, truth, size),
        "said": [in_square(bench, text, size) for text in said],
        "iou": [round(iou(json.loads(text), json.loads(truth)), 3) if text else None for text in said],
    }


def in_square(bench: Benchmark, said: str, size: Size | None) -> Box | None:
    """The box of a verdict's text in fractions of the padded square."""
    if size is None or (box := bench.in_pixels(said, *size)) is None:
        return None
    x1, y1, x2, y2 = (min(max(value, -FARTHEST), FARTHEST) for value in into_square(box, *size))
    return x1, y1, x2, y2
