"""A study's run: where it is, what it holds, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from headwise import tracking
from headwise.errors import ConfigError, TrackingError
from headwise.tracking.study import experiment_id


def run_of(study: tracking.StudyRun):
    return MlflowClient().get_run(study.run_id)


def test_a_study_is_a_finished_run_in_experiment_headwise(store):
    with tracking.open_study({"strategy": ["sum", "sparsity"], "limit": None}, tags={"colour": "red"}) as study:
        assert run_of(study).info.status == "RUNNING"
    run = run_of(study)
    assert (run.info.status, study.experiment) == ("FINISHED", "headwise")
    assert run.data.params == {"strategy": "sum,sparsity"}
    assert run.data.tags["headwise.kind"] == "study"
    assert run.data.tags["colour"] == "red"


def test_the_experiment_of_the_environment_is_used(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    with tracking.open_study({}) as study:
        assert study.experiment == "ours"
    with tracking.open_study({}, experiment="named") as study:
        assert study.experiment == "named"


def test_the_run_that_mlflow_made_is_the_study(store, monkeypatch, capsys):
    client = MlflowClient()
    made = client.create_run("0")
    client.log_param(made.info.run_id, "strategy", "all")
    client.log_param(made.info.run_id, "tokens", "192")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    params = {"strategy": ["sum", "sparsity"], "tokens": [192], "heads": [8]}
    for _ in range(2):  # the same study once more on the same run must not raise either
        with tracking.open_study(params) as study:
            assert (study.run_id, study.experiment_id) == (made.info.run_id, "0")
    held = run_of(study).data.params
    assert held == {"strategy": "all", "tokens": "192", "heads": "8", "resolved/strategy": "sum,sparsity"}
    assert len(client.search_runs(["0"])) == 1
    assert client.get_experiment_by_name("headwise") is None


def test_logging_to_default_is_said_aloud(store, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_RUN_ID", MlflowClient().create_run("0").info.run_id)
    with tracking.open_study({}):
        pass
    assert "experiment Default" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_RUN_ID")
    with tracking.open_study({}):
        pass
    assert capsys.readouterr().err == ""


def test_a_run_of_another_study_is_refused(store, monkeypatch):
    made = MlflowClient().create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    MlflowClient().log_param(made.info.run_id, "strategy", "all")
    with tracking.open_study({"strategy": ["sum"]}):
        pass
    with pytest.raises(TrackingError, match="another study"), tracking.open_study({"strategy": ["entropy"]}):
        pass


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConfigError("tokens: 1 is too small"), "FAILED"), (ValueError("bug"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_the_run_ends_as_its_block_does(store, error, status):
    with pytest.raises(type(error)), tracking.open_study({}) as study:
        raise error
    run = run_of(study)
    assert run.info.status == status
    assert run.data.tags.get("headwise.error") == (str(error) if isinstance(error, ConfigError) else None)


def test_sigterm_ends_the_run_as_killed_with_the_shell_s_exit_code(store):
    program = (
        "import os, signal, time\n"
        "from headwise import tracking\n"
        "with tracking.open_study({}) as study:\n"
        "    print(study.run_id, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 128 + signal.SIGTERM
    assert MlflowClient().get_run(done.stdout.strip()).info.status == "KILLED"


def test_the_handler_of_sigterm_is_put_back(store):
    before = signal.getsignal(signal.SIGTERM)
    with tracking.open_study({}):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_deleted_experiment_is_named(store):
    MlflowClient().delete_experiment(experiment_id("gone"))
    with pytest.raises(TrackingError, match="'gone' is deleted"), tracking.open_study({}, experiment="gone"):
        pass


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
