"""An SQLite store: whole or not there, whoever is killed while it is made; what cannot be used is one line."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from headwise import tracking
from headwise.errors import TrackingError

CONNECT = "from headwise import tracking; tracking.connect()"


def connecting(folder: Path) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", CONNECT], cwd=folder, env=env, **pipes)


def half_made(path: Path, statement: str = "CREATE TABLE experiments (experiment_id INTEGER)") -> None:
    """What a process leaves that was killed while MLflow made its tables, some time ago."""
    store = sqlite3.connect(path)
    store.execute(statement)
    store.commit()
    store.close()
    os.utime(path, (time.time() - 60,) * 2)


def test_a_process_killed_while_it_makes_the_store_leaves_none_or_a_whole_one(tmp_path, monkeypatch):
    process = connecting(tmp_path)
    while process.poll() is None and not any(each.stat().st_size > 0 for each in tmp_path.glob("mlflow.db*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(tmp_path.glob("mlflow.db.making-*")), "killed while its tables were being made"
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.chdir(tmp_path)
    tracking.connect()
    assert not list(tmp_path.glob("mlflow.db.making-*"))


def test_the_disk_is_waited_for_once_while_the_store_is_made_and_always_afterwards(tmp_path, monkeypatch):
    used: dict[str, set[int]] = {}
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def look(connection: sqlite3.Connection, *_: object) -> None:
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        used.setdefault(Path(path).name, set()).add(connection.execute("PRAGMA synchronous").fetchone()[0])

    def noted(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").resolve().name, (tmp_path / "mlflow.db").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.chdir(tmp_path)
    event.listen(Engine, "checkout", look)
    try:
        tracking.connect()
    finally:
        event.remove(Engine, "checkout", look)
    making = f"mlflow.db.making-{os.getpid()}"
    off, full = 0, 2
    assert used == {making: {off}, "mlflow.db": {full}}
    assert synced == [(making, False)]


def test_two_processes_that_make_it_at_once_make_one(tmp_path):
    started = [connecting(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert sorted(path.name for path in tmp_path.glob("mlflow.db*")) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.parametrize("name", ["mlflow.db", "sub/../store @ home.db"])
def test_an_empty_file_becomes_a_store(tmp_path, monkeypatch, name):
    (tmp_path / "sub").mkdir()
    (tmp_path / name).touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/{name}?timeout=30")
    tracking.connect()
    with tracking.open_study({}):
        pass
    assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE experiments (experiment_id INTEGER)", "CREATE TABLE alembic_version (version_num TEXT)"]
)
def test_a_half_made_store_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, statement):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    half_made(tmp_path / "mlflow.db", statement)
    with pytest.raises(TrackingError, match=f"never finished.*delete {tmp_path}/mlflow.db and run") as caught:
        tracking.connect()
    assert "\n" not in str(caught.value)


def test_a_store_that_another_program_is_making_is_waited_for(tmp_path, monkeypatch, empty_store):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    half_made(tmp_path / "mlflow.db")
    os.utime(tmp_path / "mlflow.db")
    finish = f"import time, shutil; time.sleep(1); shutil.copy({str(empty_store)!r}, {str(tmp_path / 'mlflow.db')!r})"
    with subprocess.Popen([sys.executable, "-c", finish]):
        tracking.connect()


def test_what_is_no_store_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}")
    began = time.monotonic()
    with pytest.raises(TrackingError, match="is a folder; name a file in it"):
        tracking.connect()
    assert time.monotonic() - began < 5
    (tmp_path / "notes.txt").write_text("these are my notes, not a database\n" * 40)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/notes.txt")
    with pytest.raises(TrackingError, match="is not an SQLite database"):
        tracking.connect()


def test_a_lock_of_another_user_is_one_line(tmp_path, monkeypatch, as_another_user):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{as_another_user.folder}/mlflow.db")
    tracking.connect()
    (as_another_user.folder / "mlflow.db").chmod(0o666)
    (as_another_user.folder / "mlflow.db.lock").chmod(0o400)
    with as_another_user, pytest.raises(TrackingError, match=r"cannot lock .*mlflow\.db\.lock \(Permission denied"):
        tracking.connect()


def test_artifacts_that_cannot_be_written_are_one_line(store):
    (store / "mlruns").write_text("a file where the folder of artifacts would be")
    with tracking.open_study({}) as study:
        (store / "cell").mkdir()
        (store / "cell" / "answers.jsonl").touch()
        with pytest.raises(TrackingError, match="cannot read or write artifacts: .*mlruns") as caught:
            tracking.log_cell(
                study,
                params={"benchmark": "gqa", "strategy": "sum"},
                metrics={},
                tags={},
                folder=store / "cell",
                dataset={"name": "gqa", "digest": "d", "source": "s"},
                note="",
            )
    assert "\n" not in str(caught.value)
    with pytest.raises(TrackingError, match="cannot read or write artifacts"):
        tracking.log_compare(study.experiment_id, tables={}, markdown="# best\n")
