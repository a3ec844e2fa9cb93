"""Pictures as thin as can be: answered, or a failed question with its reason where the processor refuses them."""

import numpy as np
import pytest
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.contract import ImageOptions
from headwise.run.answering import Answerer, image_paths, open_windows, unreadable
from headwise.run.settings import load_settings
from headwise.run.tasks import plan
from headwise.study.cells import Cell

CELLS = [Cell(strategy="sparsity", tokens=0.5, heads=0.5, budget="kept")]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_thin_picture_does_not_end_the_study(name, tmp_path, bundle):
    checkpoint = find_checkpoint(str(write_tiny(name, tmp_path / "model")))
    if name.startswith("qwen"):
        checkpoint = checkpoint.seen_as(ImageOptions(min_pixels=256, max_pixels=4096))
    study = load_settings(None, {"benchmark": "mme", "data_dir": str(bundle)})
    [task] = plan(study, checkpoint, CELLS, bundle, "cpu")
    Image.new("RGB", (1, 201)).save(task.benchmark.image_path(bundle, task.samples[0]))
    answerer, done = Answerer(Vlm(checkpoint), 3), np.zeros((len(task.samples), 1), dtype=bool)
    windows = open_windows(task, done, "cpu")
    prepared = [answerer.prepare(window, image_paths(task, window), task.cells) for window in windows]
    answered = {line["question"] for each in prepared for line in answerer.answer(task, each)}
    thin = [place for place, sample in enumerate(task.samples) if sample.image == task.samples[0].image]
    failed = thin if name.startswith("qwen") else []
    assert answered == {key for place, key in enumerate(task.questions) if place not in failed}
    assert sorted(unreadable(task, done)) == failed
    if failed:
        assert "1 x 201 pixels is more than 200 times as long as wide" in unreadable(task, done)[failed[0]]
        reasons = {reason for each in prepared for reason in each.unreadable.values()}
        assert reasons == {unreadable(task, done)[failed[0]]}
