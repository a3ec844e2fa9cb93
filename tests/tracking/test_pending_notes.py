"""Notes of studies that were begun: whole or not there, held by one process at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from headwise.cli import headwise
from headwise.errors import ConfigError
from headwise.run.lifecycle import sync_note
from headwise.tracking.pending import Note, open_notes, read, study_lock, try_study_lock

SILENT = print


def compare_nothing(*_: object) -> None:
    raise AssertionError("nothing was logged, so there is nothing to compare")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWISE_HOME", str(tmp_path))


def note(key: str = "one", **more: Any) -> Note:
    return Note(key=key, study={"limit": 2}, comparing=False, tracking="sqlite:///x.db", **more)


def test_a_note_comes_back_as_it_was_saved() -> None:
    saved = note().save(run_id="abc", state="open")
    assert read("one") == saved
    assert read("two") is None


def test_only_open_studies_are_left_to_upload_oldest_first() -> None:
    for key, state in (("b", "open"), ("a", "open"), ("c", "finished"), ("d", "new")):
        note(key).save(state=state)
    assert [found.key for found in open_notes()] == ["b", "a"]
    note("b").forget()
    assert [found.key for found in open_notes()] == ["a"]


def test_a_damaged_note_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    note().save()
    (tmp_path / "studies/one.json").write_text('{"key": "one", "stu')
    with pytest.raises(ConfigError, match=r"one\.json is damaged"):
        open_notes()


def test_a_note_that_cannot_be_written_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before = note().save(run_id="abc")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ConfigError, match="No space left"):
        note().save(run_id="other")
    assert read("one") == before


def test_two_processes_never_hold_one_study() -> None:
    with study_lock(note(), SILENT):
        with try_study_lock(note()) as mine:
            assert not mine
        with try_study_lock(note("another")) as mine:
            assert mine
    with try_study_lock(note()) as mine:
        assert mine


def test_the_same_command_goes_on_with_an_open_study_and_begins_a_finished_one_anew() -> None:
    opened = note().save(run_id="abc", state="open")
    with study_lock(note(), SILENT) as held:
        assert held == opened
    opened.save(state="finished")
    with study_lock(note(), SILENT) as held:
        assert held.run_id is None
        assert held.state == "new"


@pytest.mark.parametrize("study", [{"limit": 2, "colour": "red"}, {"layer": "second"}, {"benchmark": 3}])
@pytest.mark.parametrize("forget", [False, True])
def test_a_note_of_an_older_headwise_is_one_line_and_can_be_forgotten(
    study: dict[str, Any], forget: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = Note(key="one", study=study, comparing=False, tracking="x").save(state="open")
    assert not sync_note(saved, Console(width=500), compare_nothing, forget)
    out = capsys.readouterr().out
    assert "begun by another version of headwise" in out
    assert out.count("\n") == 1
    assert ("forgotten" in out) == forget
    assert (read("one") is None) == forget


@pytest.mark.parametrize("content", ['{"key": "one", "began": 3}', '{"key": "one", "stu', "[]", "null", "3"])
def test_sync_names_a_note_it_cannot_read_and_forgets_it(tmp_path: Path, content: str, store: Path) -> None:
    note().save()
    (tmp_path / "studies/one.json").write_text(content)
    with pytest.raises(ConfigError, match="another version's; delete it"):
        open_notes()
    done = CliRunner().invoke(headwise, ["sync", "--forget"])
    assert done.exit_code == 0
    assert not open_notes()


def test_a_lock_or_a_note_of_another_user_is_one_line(monkeypatch: pytest.MonkeyPatch, as_another_user: Any) -> None:
    monkeypatch.setenv("HEADWISE_HOME", str(as_another_user.folder))
    with study_lock(note().save(), SILENT):
        pass
    for name, what in (("one.lock", "cannot lock"), ("one.holder", "cannot write"), ("one.json", "cannot read")):
        path = as_another_user.folder / "studies" / name
        for each in path.parent.iterdir():
            each.chmod(0o666)
        path.parent.chmod(0o777)
        path.chmod(0o000)
        with as_another_user, pytest.raises(ConfigError, match=rf"set it to a folder of your own.*{what} .*{name}"):  # noqa: SIM117
            with study_lock(note(), SILENT):
                pass
