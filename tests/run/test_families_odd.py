"""Odd pictures and budgets on every family: one pixel, very tall, transparent, unlike sizes side by side."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.errors import ConfigError
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.contract import ImageOptions
from headwise.records import Sample
from headwise.run.answering import Answerer, image_paths, open_windows, unreadable
from headwise.run.settings import load_settings
from headwise.run.tasks import plan
from headwise.study.cells import Cell
from headwise.system.reading import read_image

LIMITS = {"min_pixels": 256, "max_pixels": 4096}
CELLS = [
    Cell(strategy="vanilla", tokens=1.0),
    Cell(strategy="sparsity", tokens=0.999, heads=0.001, budget="kept"),
    Cell(strategy="sparsity", tokens=0.001, heads=0.999, budget="kept"),
    Cell(strategy="sparsity", tokens=1, heads=0.5, budget="kept"),
    Cell(strategy="sparsity", tokens=10**6, heads=0.5, budget="kept"),
]


@pytest.fixture(scope="module", params=FAMILIES)
def answerer(request, tmp_path_factory):
    checkpoint = find_checkpoint(str(write_tiny(request.param, tmp_path_factory.mktemp("model"))))
    if "min_pixels" in checkpoint.image_options:
        checkpoint = checkpoint.seen_as(ImageOptions(**LIMITS))
    return Answerer(Vlm(checkpoint), 3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of a pixel, a very tall one, one with alpha, a palette, greys of 16 bits."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    made = {
        "pixel": Image.new("RGB", (1, 1), (200, 10, 10)),
        "tall": Image.fromarray(rng.integers(0, 255, (600, 4, 3), dtype=np.uint8)),
        "alpha": Image.fromarray(rng.integers(0, 255, (40, 70, 4), dtype=np.uint8)),
        "palette": Image.fromarray(rng.integers(0, 255, (30, 30, 3), dtype=np.uint8)).convert("P"),
    }
    for name, image in made.items():
        image.save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in made}


def test_odd_pictures_and_budgets_together_are_answered_as_alone(answerer, pictures):
    names = list(pictures)
    pixels = {name: answerer.reducer.prepare(read_image(pictures[name]), CELLS) for name in names}
    asked = [Sample(benchmark="gqa", question_id=name, image=name, prompt="Is there a w5 ?") for name in names]
    together = answerer.branches(CELLS, pixels, asked)
    assert len({found.branches[0].visual for found in together}) > 1
    for sample, found in zip(asked, together, strict=True):
        visual = found.branches[0].visual
        want = [visual, max(1, int(0.999 * visual + 0.5)), max(1, int(0.001 * visual + 0.5)), 1, visual]
        assert [len(branch.kept_R) for branch in found.branches] == want
        heads = answerer.decoder.attention_heads
        assert [len(branch.heads_K) for branch in found.branches[1:3]] == [1, max(1, int(0.999 * heads + 0.5))]
        assert found.branches[4].tokens == found.branches[0].tokens
        [alone] = answerer.branches(CELLS, {sample.image: pixels[sample.image]}, [sample])
        for one, other in zip(alone.branches, found.branches, strict=True):
            assert one.tokens == other.tokens
            assert one.kept_R.tolist() == other.kept_R.tolist()


def test_a_picture_that_a_processor_refuses_is_a_failed_question(tmp_path, bundle):
    """Qwen's processor refuses what is over 200 times as long as wide: the study goes on, and says why."""
    checkpoint = find_checkpoint(str(write_tiny("qwen2_5_vl", tmp_path / "qwen")))
    study = load_settings(None, {"benchmark": "mme", "data_dir": str(bundle), **LIMITS})
    checkpoint = checkpoint.seen_as(study.image_limits)
    [task] = plan(study, checkpoint, CELLS[:1], bundle, "cpu")
    thin = task.benchmark.image_path(bundle, task.samples[0])
    Image.new("RGB", (1, 201)).save(thin)
    answerer = Answerer(Vlm(checkpoint), 3)
    done = np.zeros((len(task.samples), 1), dtype=bool)
    [window] = open_windows(task, done, "cpu")
    prepared = answerer.prepare(window, image_paths(task, window), task.cells)
    answered = {line["question"] for line in answerer.answer(task, prepared)}
    failed = [place for place, sample in enumerate(task.samples) if sample.image == task.samples[0].image]
    assert answered == {key for place, key in enumerate(task.questions) if place not in failed}
    assert sorted(unreadable(task, done)) == failed
    assert "1 x 201 pixels is more than 200 times as long as wide" in unreadable(task, done)[failed[0]]


def test_two_limits_never_share_answers(tmp_path, bundle):
    """Settings of image size are in the fingerprint, the defaults spelled out like those left out."""
    qwen = find_checkpoint(str(write_tiny("qwen2_5_vl", tmp_path / "qwen")))
    internvl = find_checkpoint(str(write_tiny("internvl", tmp_path / "internvl")))

    def group(checkpoint, **limits):
        study = load_settings(None, {"benchmark": "mme", "data_dir": str(bundle), **limits})
        return plan(study, checkpoint.seen_as(study.image_limits), [], bundle, "cpu")[0].group

    default = group(qwen)
    assert group(qwen, max_pixels=2048 * 28 * 28) == default
    assert len({default, group(qwen, max_pixels=10**6), group(qwen, min_pixels=28 * 28)}) == 3
    assert group(internvl, max_tiles=12) == group(internvl) != group(internvl, max_tiles=6)


@pytest.mark.parametrize(
    ("name", "limits", "words"),
    [
        ("llava_next", {"max_pixels": 4096}, "max_pixels: LLaVA-NeXT does not read this setting"),
        (
            "internvl",
            {"min_pixels": 4096},
            "min_pixels: InternVL3, InternVL3.5 does not read this setting; it reads max",
        ),
        ("qwen2_5_vl", {"min_pixels": 9000000}, "min_pixels: 9000000 is more than max_pixels"),
    ],
)
def test_limits_that_a_family_does_not_read_are_refused(name, limits, words, tmp_path):
    checkpoint = find_checkpoint(str(write_tiny(name, tmp_path / "model")))
    with pytest.raises(ConfigError, match=words):
        checkpoint.seen_as(ImageOptions(**limits))


def test_whole_numbers_with_the_average_are_refused_before_weights(tmp_path):
    checkpoint = find_checkpoint(str(write_tiny("internvl", tmp_path / "model")))
    for tokens, budget in ((12, "average"), (192, "published"), (0.2, "published")):
        study = load_settings(None, {"tokens": tokens, "budget": budget, "heads": 0.5})
        with pytest.raises(ConfigError) as refused:
            study.cells(checkpoint.geometry)
        assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="feasible shares are those above"):
        load_settings(None, {"tokens": 0.1, "heads": 0.5, "layer": 2}).cells(checkpoint.geometry)
