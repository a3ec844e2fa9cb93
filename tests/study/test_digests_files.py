"""Digests of files: whole content, remembered for large files, never taken from a file that was replaced."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from headwise.errors import DataError, ModelError
from headwise.models.checkpoint import find_checkpoint
from headwise.study import digests
from headwise.study.digests import ABSENT, REMEMBERED, file_digests, image_digests


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWISE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file just large enough to be remembered, treated as if it had been there for long."""
    monkeypatch.setattr(digests, "SETTLED_NS", -(10**18))
    return large(tmp_path / "model.safetensors", b"old")


def large(path: Path, start: bytes) -> Path:
    with open(path, "r+b" if path.exists() else "wb") as out:
        out.write(start)
        out.truncate(REMEMBERED)
    return path


def truth(path: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest()]


def test_a_digest_that_cannot_be_noted_is_still_the_digest(
    weights: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert file_digests([weights]) == truth(weights)
    assert "read again next time" in caplog.text


def test_weights_replaced_under_their_old_size_and_time_are_other_weights(weights: Path, home: Path) -> None:
    before, times = file_digests([weights]), weights.stat()
    assert len(list((home / "digests").iterdir())) == 1
    large(weights, b"new")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert weights.stat().st_mtime_ns == times.st_mtime_ns
    assert file_digests([weights]) == truth(weights) != before


def test_a_large_file_is_read_once(weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file_digests([weights])
    monkeypatch.setattr(digests, "_read", lambda path: pytest.fail("read again"))
    assert file_digests([weights]) == before


def test_a_file_changed_a_moment_ago_is_not_remembered(tmp_path: Path, home: Path) -> None:
    path = large(tmp_path / "model.safetensors", b"old")
    assert file_digests([path]) == truth(path)
    assert not (home / "digests").exists()


def test_a_file_that_is_being_written_is_refused(weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_while_written(path: Path) -> str:
        large(path, b"new")
        return "0" * 64

    monkeypatch.setattr(digests, "_read", read_while_written)
    with pytest.raises(DataError, match=r"model\.safetensors changed while it was read"):
        file_digests([weights])


def test_a_missing_image_is_absent_and_a_missing_weight_file_an_error(tmp_path: Path) -> None:
    assert image_digests([tmp_path / "a.jpg"]) == [ABSENT]
    with pytest.raises(DataError, match=r"cannot read .*a\.jpg \(No such file or directory\)"):
        file_digests([tmp_path / "a.jpg"])


def test_an_unreadable_weight_file_is_one_line(tmp_path: Path, home: Path) -> None:
    from tiny_llava import write_tiny_llava

    folder = write_tiny_llava(tmp_path / "tiny")
    (folder / "model-2.safetensors").symlink_to(folder / "gone")
    with pytest.raises(ModelError, match=r"^model: cannot read .*model-2\.safetensors \(No such file") as error:
        find_checkpoint(str(folder))
    assert "\n" not in str(error.value)
