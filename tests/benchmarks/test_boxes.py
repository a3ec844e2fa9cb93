"""Boxes: where a rule compares them is where they are drawn, and numbers of any length give a number."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from headwise.benchmarks import BENCHMARKS
from headwise.benchmarks.boxes import iou
from headwise.benchmarks.refcoco import Region
from headwise.records import Answer
from headwise.scoring.score import score_records

BUNDLE = Path(__file__).resolve().parents[1] / "golden/benchmarks/refcoco/bundle"
RULES = ["refcoco", "refcoco.lmms-image-v1", "refcoco.vlmevalkit-v1"]
HUGE = "9" * 400


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [(640, 427), (427, 640), (301, 300), (7, 7)])
def test_pixels_are_the_inverse_of_the_space_that_the_rule_compares_in(rule, size):
    bench, box = BENCHMARKS[rule], (1.0, 2.0, 5.5, 6.25)
    truth = bench.target(Region(box, *map(float, size)))
    assert bench.in_pixels(str(list(truth)), *size) == pytest.approx(box)
    assert bench.in_pixels("", *size) is None


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("text", [f"[{HUGE}, 0, {HUGE}, 1]", f"[0, 0, {HUGE}, {HUGE}]", f"[-{HUGE}, 0.1, {HUGE}, 0.2]"])
def test_numbers_of_any_length_are_wrong_boxes_and_no_broken_mean(rule, text):
    samples = BENCHMARKS[rule].samples(BUNDLE)
    said = [Answer(question_id=sample.question_id, prompt=sample.prompt, text=text) for sample in samples]
    card, _ = score_records(rule, BUNDLE, said)
    assert card.complete
    assert all(math.isfinite(value) for value in card.as_metrics().values())
    if rule != "refcoco.vlmevalkit-v1":  # which clips to the image
        assert card.score == 0


def test_touching_boxes_do_not_overlap_and_boxes_without_area_have_no_overlap():
    assert iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0
