"""Orphaned runs (left RUNNING by a killed process): a mark on disk lets the next command end them."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout
from mlflow import MlflowClient

from headwise.errors import ConfigError
from headwise.system.cache import home
from headwise.system.locks import held
from headwise.tracking.pending import tracking_place

TAG = "headwise.mark"


def new_mark() -> str:
    """A random mark that ties a run to the process that opened it."""
    return uuid.uuid4().hex


@contextmanager
def marked(experiment_id: str, mark: str | None = None) -> Iterator[dict[str, str]]:
    """Keep a mark below `.headwise/runs` while the block's run is open; yields the tag to create the run with.

    The run has the tag from its creation, so that it is found even if its process is killed right afterwards.
    After an error the mark stays for the next command, which checks whether the run was ended. If the folder
    cannot be written, there is no mark.
    """
    mark = mark or new_mark()
    folder = home() / "runs"
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(folder / f"{mark}.lock", "HEADWISE_HOME", timeout=60))
            content = {"tracking": tracking_place(), "experiment_id": experiment_id}
            (folder / f"{mark}.json").write_text(json.dumps(content), encoding="utf-8")
        except (OSError, ConfigError):
            pass
        yield {TAG: mark}
        _remove(folder / f"{mark}.json")


def close_orphans() -> None:
    """End, as KILLED, runs in this store that killed processes of this folder left open."""
    for path in (home() / "runs").glob("*.json"):
        with contextlib.suppress(Timeout, ConfigError), held(path.with_suffix(".lock"), "HEADWISE_HOME", timeout=0):
            _close(path)


def marked_runs(mark: str, experiment_id: str) -> list[str]:
    """Ids of the runs with this mark, latest first; under `mlflow run` every start has its own run."""
    return _found(experiment_id, f"tags.`{TAG}` = '{mark}'")


def _close(path: Path) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        place, experiment_id = found["tracking"], found["experiment_id"]
    except FileNotFoundError:  # its process has just ended
        return
    except (ValueError, KeyError, TypeError):  # killed while writing the mark, before the run existed
        _remove(path)
        return
    if place == tracking_place():
        query = f"tags.`{TAG}` = '{path.stem}' and attributes.status = 'RUNNING'"
        for run_id in _found(experiment_id, query):
            MlflowClient().set_terminated(run_id, "KILLED")
        _remove(path)


def _found(experiment_id: str, query: str) -> list[str]:
    runs = MlflowClient().search_runs([experiment_id], query, order_by=["start_time DESC"])
    return [run.info.run_id for run in runs]


def _remove(path: Path) -> None:
    for each in (path, path.with_suffix(".lock")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(each)
