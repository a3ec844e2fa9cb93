"""Study runs: the run that cells belong to, opened, continued and always ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from headwise.errors import TrackingError
from headwise.tracking.connection import connect, reaching
from headwise.tracking.ending import run_lifecycle
from headwise.tracking.links import compare_url, runs_url
from headwise.tracking.orphans import TAG, marked

EXPERIMENT = "headwise"
DEFAULT_EXPERIMENT = "Default"
# Makes the MLflow UI show the experiment as runs with metrics, not as GenAI traces.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
PARAMS_PER_BATCH = 100


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """The run that a study's cells refer to."""

    run_id: str
    experiment_id: str
    experiment: str
    uri: str

    def ui_url(self) -> str:
        """The MLflow UI's table of this study's cells, best score first."""
        return runs_url(self.uri, self.experiment_id, study=self.run_id)

    def compare_url(self, run_ids: Sequence[str]) -> str:
        """The MLflow UI's page that compares these runs."""
        return compare_url(self.uri, self.experiment_id, run_ids)


@contextmanager
def open_study(
    params: Mapping[str, Any],
    *,
    experiment: str | None = None,
    tags: Mapping[str, str] | None = None,
    kind: str = "study",
    resume: str | None = None,
    mark: str | None = None,
) -> Iterator[StudyRun]:
    """Open the study's run; it ends FINISHED, FAILED on an error, KILLED on Ctrl-C or SIGTERM.

    Under `mlflow run` (MLFLOW_RUN_ID) that run, in its experiment, is the study; a parameter that it already has
    with another value (`all`) is logged in resolved form as `resolved/<name>`. Otherwise a run is created in
    `experiment`, or MLFLOW_EXPERIMENT_NAME, or "headwise", unless `resume` is the id of the interrupted run of the
    same study, which is then continued. `mark` is the tag the run has from its creation (`orphans.marked`).
    SIGTERM raises SystemExit(143) inside the block. ServerUnreachable and TrackingError as in `connect`.
    """
    uri = connect()
    with reaching(uri):
        run, where, name = _found(experiment, resume)
    with marked(where, mark) as marks:
        with reaching(uri):
            run = _begun(run, where, marks | {"headwise.kind": kind})
            _set_params(run, params)
            context = {key: value for key, value in context_tags().items() if key not in run.data.tags}
            _set_tags(run.info.run_id, {**context, **(tags or {}), "headwise.kind": kind})
        with run_lifecycle(run.info.run_id, uri):
            yield StudyRun(run_id=run.info.run_id, experiment_id=where, experiment=name, uri=uri)


def _found(experiment: str | None, resume: str | None) -> tuple[Run | None, str, str]:
    """The run to continue, if any; id and name of its present or future experiment."""
    client = MlflowClient()
    if run_id := os.environ.get("MLFLOW_RUN_ID") or resume:
        run = client.get_run(run_id)
        found = run, run.info.experiment_id, client.get_experiment(run.info.experiment_id).name
    else:
        name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = None, experiment_id(name), name
    if found[2] == DEFAULT_EXPERIMENT:
        print(_IN_DEFAULT, file=sys.stderr)
    return found


def _begun(run: Run | None, experiment: str, tags: Mapping[str, str]) -> Run:
    """The run, RUNNING, with these tags from its creation."""
    client = MlflowClient()
    if run is None:
        return client.create_run(experiment, tags={**context_tags(), **tags})
    _set_tags(run.info.run_id, {TAG: tags[TAG]})
    if run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    return run


_IN_DEFAULT = (
    "headwise: logging to experiment Default; to choose another: "
    "mlflow run --experiment-name NAME …, or set MLFLOW_EXPERIMENT_NAME"
)


def experiment_id(name: str) -> str:
    """The id of the experiment, created if it does not exist (another process may be faster)."""
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, tags=EXPERIMENT_TAGS)
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(f"experiment {name!r} is deleted; restore it or choose another (MLFLOW_EXPERIMENT_NAME)")
    return found.experiment_id


@cache
def context_tags() -> dict[str, str]:
    """MLflow's context tags: user, source and git commit (computed once per process)."""
    return resolve_tags()


def _set_params(run: Run, params: Mapping[str, Any]) -> None:
    texts = {name: as_text(value) for name, value in params.items() if value is not None}
    held = run.data.params
    resolved = {f"resolved/{k}" if held.get(k, v) != v else k: v for k, v in texts.items()}
    clash = [name for name, value in resolved.items() if held.get(name, value) != value]
    if clash:
        raise TrackingError(
            f"run {run.info.run_id} already holds {clash[0]}={held[clash[0]]}, not {resolved[clash[0]]}: "
            "it belongs to another study; start a new run"
        )
    new = [Param(name, value) for name, value in resolved.items() if name not in held]
    for start in range(0, len(new), PARAMS_PER_BATCH):
        MlflowClient().log_batch(run.info.run_id, params=new[start : start + PARAMS_PER_BATCH])


def as_text(value: Any) -> str:
    """A parameter as logged text: lists are comma-separated, as on the command line."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    MlflowClient().log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])
