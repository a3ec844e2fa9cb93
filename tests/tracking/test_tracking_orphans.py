"""Runs that a killed process left RUNNING are ended by the next command, those of living processes are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from headwise import tracking
from headwise.tracking.orphans import TAG
from headwise.tracking.pending import Note
from headwise.tracking.resume import begun_runs

KILL_AFTER = """
import os, signal
from mlflow import MlflowClient
from headwise import tracking
method = getattr(MlflowClient, {method!r})
def killed(*given, **named):
    method(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)
{before}
setattr(MlflowClient, {method!r}, killed)
{after}
"""
STUDY = "with tracking.open_study({}, mark='m1'): pass"


def killed_after(store, method, after, before=""):
    """Run `after` in a process that is killed as soon as a call of the client's method has come back."""
    program = KILL_AFTER.format(method=method, before=before, after=after)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=store, env=env, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


def statuses(kind):
    client = MlflowClient()
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return [run.info.status for run in runs if run.data.tags.get("headwise.kind") == kind]


@pytest.mark.parametrize("method", ["create_run", "log_batch"])
def test_a_study_killed_while_its_run_is_made_is_found_ended_and_gone_on_with(store, method):
    killed_after(store, method, STUDY)
    assert statuses("study") == ["RUNNING"]
    tracking.connect()
    assert statuses("study") == ["KILLED"]
    note = Note(key="k", study={}, comparing=False, tracking="", experiment="headwise", mark="m1")
    (found,) = begun_runs(note)
    with tracking.open_study({}, resume=found, mark="m1") as study:
        assert study.run_id == found
    assert statuses("study") == ["FINISHED"]
    assert not list((store / ".headwise" / "runs").iterdir())


@pytest.mark.parametrize("method", ["create_run", "log_artifacts", "set_tag"])
def test_a_comparison_killed_while_it_is_logged_is_ended(store, method):
    with tracking.open_study({}) as study:
        pass
    killed_after(store, method, f"tracking.log_compare({study.experiment_id!r}, tables={{}}, markdown='# best')")
    assert statuses("compare") == ["RUNNING"]
    tracking.connect()
    assert statuses("compare") == ["KILLED"]


def test_a_run_that_mlflow_made_is_ended_too(store, monkeypatch):
    made = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    killed_after(store, "log_batch", STUDY)
    monkeypatch.delenv("MLFLOW_RUN_ID")
    tracking.connect()
    assert MlflowClient().get_run(made).info.status == "KILLED"


def test_the_runs_of_living_processes_and_other_stores_are_left_alone(store, monkeypatch, tmp_path):
    with tracking.open_study({}) as study:
        tracking.connect()
        assert MlflowClient().get_run(study.run_id).data.tags[TAG]
        assert statuses("study") == ["RUNNING"]
    killed_after(store, "create_run", STUDY)
    mine = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    tracking.connect()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mine)
    assert sorted(statuses("study")) == ["FINISHED", "RUNNING"]
    tracking.connect()
    assert sorted(statuses("study")) == ["FINISHED", "KILLED"]
