"""The slow check on tiny checkpoints of every family: it agrees, and it can disagree."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.cli import headwise
from headwise.engine import branches


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(3)
    for number, (width, height) in enumerate([(60, 40), (30, 70)]):
        picture = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        (tmp_path / "images").mkdir(exist_ok=True)
        picture.save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


def check(name, tmp_path, images):
    folder = write_tiny(name, tmp_path / name)
    return CliRunner().invoke(headwise, ["check-model", str(folder), "--images", str(images), "--count", "2"])


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """The families' default limits are for patches of 14 pixels; these have 4."""
    for module in ("qwen2_5_vl", "qwen3_vl"):
        monkeypatch.setattr(
            f"headwise.models.{module}.{_CLASS[module]}.options", {"min_pixels": 256, "max_pixels": 4096}
        )


_CLASS = {"qwen2_5_vl": "Qwen25Vl", "qwen3_vl": "Qwen3Vl"}


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
