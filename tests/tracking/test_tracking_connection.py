"""Reaching a server: bounded waits, one-line errors, one initialisation."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from headwise import tracking
from headwise.errors import TrackingError
from headwise.tracking.connection import BOUNDED


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_without_a_setting_the_store_is_mlflow_s_own_default_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking.connect() == f"sqlite:///{tmp_path}/mlflow.db"
    assert (tmp_path / "mlflow.db").is_file()


def test_the_default_store_lies_in_a_folder_whose_name_has_a_space(tmp_path):
    folder = tmp_path / "other study"
    folder.mkdir()
    code = "from headwise import tracking; print(tracking.connect()); print(tracking.connect())"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(Path(tracking.__file__).parents[2])
    said = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert said.stdout.split("\n")[:2] == [f"sqlite:///{folder}/mlflow.db"] * 2, said.stderr
    assert (folder / "mlflow.db").is_file()


def test_a_dead_port_is_one_line(monkeypatch):
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    began = time.monotonic()
    with pytest.raises(tracking.ServerUnreachable) as caught:
        tracking.connect()
    assert time.monotonic() - began < 10
    assert uri in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_accepts_and_never_answers_is_given_up(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(tracking.ServerUnreachable):
            tracking.connect()
    assert time.monotonic() - began < 3 * 1 + 6


def test_the_default_wait_is_bounded_by_half_a_minute():
    tries = 1 + int(BOUNDED["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    pauses = sum(int(BOUNDED["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"]) * 2**n + 1 for n in range(1, tries - 1))
    assert tries * int(BOUNDED["MLFLOW_HTTP_REQUEST_TIMEOUT"]) + pauses < 30


def test_the_user_s_own_limits_are_kept(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    tracking.connect()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:////no/such/folder/mlflow.db", "there is no folder /no/such/folder"),
        ("nonsense://somewhere", "nonsense://somewhere"),
    ],
)
def test_a_uri_that_cannot_work_is_one_line(uri, message, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match=message) as caught:
        tracking.connect()
    assert "\n" not in str(caught.value)
    assert not os.path.exists("/no/such")


def test_a_server_that_died_is_not_asked_once_more_to_end_the_run(store):
    with pytest.raises(tracking.ServerUnreachable), tracking.open_study({}) as study:
        raise tracking.ServerUnreachable("gone")
    assert MlflowClient().get_run(study.run_id).info.status == "RUNNING"


def test_a_study_s_own_error_is_reported_though_the_server_died_too(store, monkeypatch):
    with pytest.raises(ValueError, match="bug") as caught, tracking.open_study({}):  # noqa: PT012
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
        raise ValueError("bug")
    assert "does not answer" in caught.value.__notes__[0]


def test_processes_that_meet_on_an_empty_store_initialise_it_once(tmp_path):
    program = "from headwise import tracking\nwith tracking.open_study({}) as study:\n    print(study.run_id)\n"
    env = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, cwd=tmp_path, env=env, **pipes) for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert sorted(each.name for each in client.search_experiments()) == ["Default", "headwise"]
    found = client.search_runs([client.get_experiment_by_name("headwise").experiment_id])
    assert {run.info.run_id for run in found} == {out.strip() for out, _ in outputs}
    assert {run.info.status for run in found} == {"FINISHED"}
