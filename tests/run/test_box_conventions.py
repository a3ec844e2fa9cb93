"""Each family's boxes are asked for and scored in its own coordinates, and the space is logged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_families import write_tiny
from tiny_llava import write_tiny_llava

from headwise.benchmarks import BENCHMARKS
from headwise.benchmarks.refcoco import Region
from headwise.benchmarks.refcoco_resized import resized
from headwise.errors import ConfigError
from headwise.models import FAMILIES
from headwise.run.cell_runs import cell_params
from headwise.run.evaluate import Job
from headwise.run.settings import StudySettings

QWEN = "refcoco.qwen2_5_vl-v1"


@pytest.fixture
def refcoco(tmp_path) -> Path:
    folder = tmp_path / "eval/refcoco"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(folder / "0.png")
    row = {"image": "0.png", "sent": "it", "bbox": [8, 8, 40, 40], "width": 64, "height": 48}
    (folder / "refcoco_val.jsonl").write_text(json.dumps(row))
    return folder.parent


def job(model: Path, data_dir: Path, **settings) -> Job:
    given = {"model": str(model), "data_dir": str(data_dir), "benchmark": ["refcoco"], "max_new_tokens": 48}
    strategies = {"strategy": ["sparsity"], "controls": ["vanilla"], "tokens": [0.5], "heads": [2], "budget": "kept"}
    return Job.of(StudySettings(**given | strategies | settings))


@pytest.mark.parametrize(
    ("family", "rule", "space"),
    [
        ("llava", "refcoco", "padded"),
        ("internvl", "refcoco.vlmevalkit-v1", "any"),
        ("qwen3_vl", "refcoco.vlmevalkit-v1", "any"),
        ("qwen2_5_vl", QWEN, "resized"),
        ("llava_next", "refcoco.lmms-image-v1", "image"),
    ],
)
def test_a_study_takes_the_rule_that_reads_the_familys_boxes(tmp_path, refcoco, caplog, family, rule, space):
    write = write_tiny_llava if family == "llava" else lambda folder: write_tiny(family, folder)
    made = job(write(tmp_path / "model"), refcoco)
    assert made.study.benchmark == [task.name for task in made.tasks] == [rule]
    assert cell_params(made, made.tasks[0], made.cells[0])["box_space"] == space
    assert (f"scored as {rule}" in caplog.text) == (rule != "refcoco")


def test_a_rule_that_is_named_is_kept_and_named_once(tmp_path, refcoco):
    model = write_tiny("internvl", tmp_path / "model")
    assert job(model, refcoco, benchmark=["refcoco.lmms-image-v1"]).study.benchmark == ["refcoco.lmms-image-v1"]
    both = ["refcoco", "refcoco.vlmevalkit-v1"]
    assert job(model, refcoco, benchmark=both).study.benchmark == ["refcoco.vlmevalkit-v1"]


def test_boxes_of_images_of_another_size_are_refused(tmp_path, refcoco):
    model = write_tiny("qwen2_5_vl", tmp_path / "model")
    with pytest.raises(ConfigError, match="scales boxes back from images of min_pixels=200704, max_pixels=1605632"):
        job(model, refcoco, max_pixels=1_000_000)


def test_every_family_answers_in_a_space_that_a_rule_reads():
    for family in FAMILIES.values():
        assert family.box_space in {"padded", *BENCHMARKS["refcoco"].rules_by_space}


def test_the_resized_image_is_the_processors():
    processing = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    limits = {"shortest_edge": 256 * 28 * 28, "longest_edge": 2048 * 28 * 28}
    processor = processing.Qwen2VLImageProcessorPil(size=limits)
    sides = np.random.default_rng(0).integers(20, 1900, (12, 2)).tolist()
    for width, height in [*sides, (640, 480), (300, 300), (14, 800), (640, 427)]:
        pixels = processor(images=Image.new("RGB", (width, height)), return_tensors="np")
        _, rows, columns = pixels["image_grid_thw"][0].tolist()
        assert resized(width, height) == (14 * columns, 14 * rows), (width, height)


def test_pixels_of_the_resized_image_are_scaled_back():
    bench, region = BENCHMARKS[QWEN], Region((64, 48, 320, 240), 640, 480)
    width, height = resized(640, 480)
    said = [64 * width / 640, 48 * height / 480, 320 * width / 640, 240 * height / 480]
    grade = bench.grade(f'```json\n[{{"bbox_2d": {[round(value, 2) for value in said]}}}]```', region)
    assert grade.correct == 1
    assert bench.in_pixels(grade.prediction, 640, 480) == pytest.approx((64, 48, 320, 240), abs=0.02)
    assert BENCHMARKS["refcoco.vlmevalkit-v1"].grade(str(said), region).correct == 0  # thousandths to that rule
