"""Odd images and odd budgets on families whose images differ in V, held against each question alone."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.contract import ImageOptions
from headwise.records import Sample
from headwise.run.answering import Answerer
from headwise.run.tasks import Task
from headwise.study.cells import Cell
from headwise.system.reading import read_image

SHARED = {"layer": 2, "budget": "kept", "heads": 0.5}
CELLS = [
    Cell(strategy="vanilla", tokens=1.0),
    Cell(strategy="sparsity", tokens=0.999, **SHARED),
    Cell(strategy="sparsity", tokens=0.001, **SHARED),
    Cell(strategy="sparsity", tokens=1, **SHARED),
    Cell(strategy="sparsity", tokens=10_000, **SHARED),
    Cell(strategy="sparsity", tokens=0.5, **SHARED | {"heads": 0.001}),
    Cell(strategy="sparsity", tokens=0.5, **SHARED | {"heads": 0.999}),
]
LIMITS = ImageOptions(min_pixels=256, max_pixels=4096)


def checkpoint_of(name, folder):
    found = find_checkpoint(str(write_tiny(name, folder)))
    return found.seen_as(LIMITS) if name.startswith("qwen") else found


@pytest.fixture(scope="module", params=FAMILIES)
def answerer(request, tmp_path_factory):
    return Answerer(Vlm(checkpoint_of(request.param, tmp_path_factory.mktemp(request.param)), "auto", "cpu"), 4)


def picture(kind, tmp_path):
    """An image as it lies on a disk."""
    rng = np.random.default_rng(7)
    shapes = {"pixel": (1, 1, 3), "tall": (240, 8, 3), "wide": (8, 240, 3), "alpha": (40, 60, 4), "plain": (40, 60, 3)}
    pixels = rng.integers(0, 255, shapes[kind], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"{kind}.png")
    return read_image(tmp_path / f"{kind}.png")


def test_odd_images_in_one_window_answer_as_each_alone(answerer, tmp_path):
    kinds = ["pixel", "tall", "wide", "alpha", "plain"]
    samples = [Sample(benchmark="b", question_id=kind, image=kind, prompt="Is there a w3 ?") for kind in kinds]
    pixels = {kind: answerer.reducer.prepare(picture(kind, tmp_path), CELLS) for kind in kinds}
    together = answerer.branches(CELLS, pixels, samples)
    assert len({found.branches[0].visual for found in together}) > 1
    for sample, found in zip(samples, together, strict=True):
        (alone,) = answerer.branches(CELLS, {sample.image: pixels[sample.image]}, [sample])
        assert [branch.tokens for branch in found.branches] == [branch.tokens for branch in alone.branches]
        visual, heads = found.branches[0].visual, answerer.decoder.attention_heads
        counts = [visual, int(0.999 * visual + 0.5), max(1, int(0.001 * visual + 0.5)), 1, visual]
        assert [len(branch.kept_R) for branch in found.branches[:5]] == counts
        chosen = [len(branch.heads_K) for branch in found.branches[5:]]
        assert chosen == [1, int(0.999 * heads + 0.5)]


@pytest.mark.parametrize(
    ("name", "limit", "values"),
    [
        ("qwen2_5_vl", "max_pixels", (2048, 4096)),
        ("qwen3_vl", "min_pixels", (256, 512)),
        ("internvl", "max_tiles", (3, 12)),
    ],
)
def test_two_limits_of_image_size_share_no_answers(name, limit, values, tmp_path, bundle):
    from headwise.run.settings import load_settings
    from headwise.run.tasks import plan

    found = find_checkpoint(str(write_tiny(name, tmp_path)))
    groups = []
    for value in values:
        study = load_settings(None, {"benchmark": "mme", "data_dir": str(bundle)})
        given = replace(LIMITS if "qwen" in name else ImageOptions(), **{limit: value})
        groups += [task.group for task in plan(study, found.seen_as(given), CELLS, bundle, "cpu")]
    assert len(set(groups)) == 2
    assert all(isinstance(task, Task) for task in plan(study, found, CELLS, bundle, "cpu"))
