"""The slow check on tiny checkpoints of every family: it agrees, and it can disagree."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.cli import headwise
from headwise.engine import branches
from headwise.models.checkpoint import Vlm


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(3)
    for number, (width, height) in enumerate([(60, 40), (30, 70)]):
        picture = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        (tmp_path / "images").mkdir(exist_ok=True)
        picture.save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


def check(name, tmp_path, images, *words):
    folder = write_tiny(name, tmp_path / name)
    # The families' own limits are for patches of 14 pixels; these have 4.
    limits = ("--min-pixels", "256", "--max-pixels", "4096") if name.startswith("qwen") else ()
    given = ("--images", str(images), "--count", "2", *limits, *words)
    return CliRunner().invoke(headwise, ["check-model", str(folder), *given])


@pytest.mark.parametrize("name", FAMILIES)
def test_engine_and_forward_agree(name, tmp_path, images):
    done = check(name, tmp_path, images)
    assert done.exit_code == 0, done.output
    assert "16 of 16 agree" in done.output


def test_a_mistake_in_the_engine_is_seen(tmp_path, images, monkeypatch):
    monkeypatch.setattr(branches, "add_deep", lambda *_: None)
    done = check("qwen3_vl", tmp_path, images)
    assert done.exit_code == 1, done.output
    assert "other answer" in done.output


def test_a_folder_without_pictures_is_refused(tmp_path):
    done = CliRunner().invoke(headwise, ["check-model", "embedded", "--images", str(tmp_path)])
    assert "holds no picture" in str(done.exception)


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("internvl", ("--layer", "6"), "layer: 6 is not between 1 and 5"),
        ("internvl", ("--max-pixels", "4096"), "max_pixels: InternVL3, InternVL3.5 does not read this setting"),
        ("qwen3_vl", ("--min-pixels", "5000"), "min_pixels: 5000 is more than max_pixels, 4096"),
    ],
)
def test_what_cannot_be_checked_is_refused_before_weights(name, words, said, tmp_path, images, monkeypatch):
    monkeypatch.setattr(Vlm, "__init__", lambda *_, **__: pytest.fail("weights were read"))
    assert said in str(check(name, tmp_path, images, *words).exception)


def test_tiles_are_as_many_as_asked_for(tmp_path, images, monkeypatch):
    seen = []
    original = Vlm.prepare

    def spy(self, image):
        seen.append(len((pixels := original(self, image))["pixel_values"]))
        return pixels

    monkeypatch.setattr(Vlm, "prepare", spy)
    assert check("internvl", tmp_path, images, "--max-tiles", "1").exit_code == 0
    assert seen == [1, 1]
