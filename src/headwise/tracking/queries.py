"""Queries: the latest study and its cells. The server does the filtering."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run

from headwise.errors import TrackingError
from headwise.tracking.connection import NothingFound, reaching
from headwise.tracking.study import EXPERIMENT

PAGE = 1000
# Accepted in place of a study's run id: the latest finished study.
LATEST = "latest"
WHOLE = re.compile(r"[+-]?\d{1,19}")
INTEGERS = ("tokens", "heads", "layer", "limit", "seed")
# Parameters that may be a share of all that there are.
SHARES = ("tokens", "heads")


def find_cells(
    *,
    study: str | None = None,
    experiment: str | None = None,
    run_ids: Sequence[str] | None = None,
    include_incomplete: bool = False,
) -> pd.DataFrame:
    """Finished cell runs of a study, of an experiment (by name), or of `run_ids`; one row per run.

    Columns: run_id, run_name, study, experiment_id, artifact_uri, complete (bool); every parameter under
    its name (text; tokens, heads, layer, limit and seed Int64); every metric under its name (float);
    every `headwise.` tag under `tags.<name>`. Rows are in order of start time. The experiment is the study's,
    else that of `experiment_of`; `latest` is the study of `latest_study`. NothingFound if there are none.
    """
    if study == LATEST:
        study = latest_study(experiment)
    with reaching():
        if run_ids:
            return _table([_cell(run_id) for run_id in run_ids])
        where = _experiment_of_study(study) if study else experiment_of(experiment)
        runs = list(_search(where.experiment_id, _cell_filter(study, include_incomplete)))
    if not runs:
        searched = f"study {study}" if study else f"experiment {where.name!r}"
        hint = "" if include_incomplete else " that is complete (--include-incomplete adds the others)"
        raise NothingFound(f"{searched} has no finished cell{hint}")
    return _table(runs)


def latest_study(experiment: str | None = None) -> str:
    """Run id of the finished study of an experiment that started last; NothingFound if there is none."""
    with reaching():
        where = experiment_of(experiment)
        query = "attributes.status = 'FINISHED' and tags.`headwise.kind` = 'study'"
        found = MlflowClient().search_runs([where.experiment_id], query, max_results=1, order_by=["start_time DESC"])
        if not found:
            raise NothingFound(f"experiment {where.name!r} has no finished study; {_elsewhere()}")
    return found[0].info.run_id


def study_of(run_id: str) -> str | None:
    """The run id of the study that a cell belongs to."""
    with reaching():
        return MlflowClient().get_run(run_id).data.tags.get("headwise.study")


def experiment_of(name: str | None = None) -> Experiment:
    """The experiment `name`, else that of `mlflow run`'s run, else MLFLOW_EXPERIMENT_NAME, else "headwise"."""
    client = MlflowClient()
    if name is None and (run_id := os.environ.get("MLFLOW_RUN_ID")):
        return client.get_experiment(client.get_run(run_id).info.experiment_id)
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None:
        raise NothingFound(f"there is no experiment {name!r}; {_elsewhere()}")
    return found


def _cell_filter(study: str | None, include_incomplete: bool) -> str:
    terms = ["attributes.status = 'FINISHED'", "tags.`headwise.kind` = 'cell'"]
    terms += [f"tags.`headwise.study` = '{study}'"] if study else []
    terms += [] if include_incomplete else ["tags.`headwise.status` = 'complete'"]
    return " and ".join(terms)


def _search(experiment_id: str, query: str) -> Iterator[Run]:
    token = None
    while True:
        page = MlflowClient().search_runs(
            [experiment_id], query, max_results=PAGE, order_by=["start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _experiment_of_study(study: str) -> Experiment:
    run = MlflowClient().get_run(study)
    kind = run.data.tags.get("headwise.kind")
    if kind != "study":
        raise TrackingError(f"run {study} is not a study (its headwise.kind is {kind})")
    return MlflowClient().get_experiment(run.info.experiment_id)


def _cell(run_id: str) -> Run:
    """A cell requested by id; it may be in any experiment and in any state."""
    run = MlflowClient().get_run(run_id)
    kind = run.data.tags.get("headwise.kind")
    if kind != "cell":
        raise TrackingError(f"run {run_id} is not a cell (its headwise.kind is {kind})")
    return run


def _table(runs: Sequence[Run]) -> pd.DataFrame:
    table = pd.DataFrame([_row(run) for run in runs])
    for name in INTEGERS:
        if name not in table:
            table[name] = pd.NA
        table[name] = _counts(table, name) if name in SHARES else _whole_numbers(table, name)
    return table


def _counts(table: pd.DataFrame, name: str) -> pd.Series:
    """Int64, or Float64 where a run logged a share below 1 instead of a count."""
    share = table[name].map(_is_share, na_action="ignore").fillna(False).astype(bool)
    if not share.any():
        return _whole_numbers(table, name)
    counted = _whole_numbers(table.assign(**{name: table[name].mask(share)}), name).astype("Float64")
    return counted.mask(share, pd.to_numeric(table[name].where(share)).astype("Float64"))


def _is_share(text: str) -> bool:
    """A share of all tokens or heads; 1.0 is all of them."""
    try:
        return "." in text and 0 < float(text) <= 1
    except ValueError:
        return False


def _whole_numbers(table: pd.DataFrame, name: str) -> pd.Series:
    """The parameter as Int64; TrackingError names the run whose value is not a 64-bit integer."""
    fits = table[name].map(_fits, na_action="ignore").fillna(True).astype(bool)
    if not fits.all():
        row = table[~fits].iloc[0]
        raise TrackingError(
            f"run {row['run_id']} has {name}={row[name]}, which is not a 64-bit integer; delete that run "
            f"(`mlflow runs delete --run-id {row['run_id']}`)"
        )
    return pd.to_numeric(table[name]).astype("Int64")


def _fits(text: str) -> bool:
    """True for a 64-bit integer."""
    return WHOLE.fullmatch(text) is not None and abs(int(text)) < 2**63


def _row(run: Run) -> dict[str, Any]:
    tags = run.data.tags
    own = {f"tags.{key}": value for key, value in tags.items() if key.startswith("headwise.")}
    return {
        "run_id": run.info.run_id,
        "run_name": run.info.run_name,
        "study": tags.get("headwise.study"),
        "experiment_id": run.info.experiment_id,
        "artifact_uri": run.info.artifact_uri,
        "complete": tags.get("headwise.status") == "complete",
        **run.data.params,
        **run.data.metrics,
        **own,
    }


def _elsewhere() -> str:
    """The experiments that have studies, for the message that this one has none."""
    query = "tags.`headwise.kind` = 'study'"
    experiments = MlflowClient().search_experiments()
    names = [e.name for e in experiments if MlflowClient().search_runs([e.experiment_id], query, max_results=1)]
    return f"experiments with studies: {', '.join(names)}" if names else "no experiment of this store has one"
