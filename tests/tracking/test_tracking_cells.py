"""Cell runs on an sqlite store and on a real server: logged whole, found by the server's filter, rescored."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from mlflow import MlflowClient

from headwise import tracking
from headwise.errors import TrackingError
from headwise.tracking.cells import metric_name

PARAMS = {"benchmark": "gqa", "strategy": "sparsity", "tokens": 192, "heads": 16, "model": "m", "limit": None}
METRICS = {"score": 51.5, "samples": 4.0, "failed": 0.0, "missing": 0.0, "unparsed": 1.0, "category/a": 40.0}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "cell"
    path.mkdir()
    (path / "answers.jsonl").write_text('{"question_id": "1"}\n')
    (path / "config.yaml").write_text("layer: 2\n")
    return path


def log(study, folder, params=None, metrics=None, **more):
    return tracking.log_cell(
        study,
        params=PARAMS | (params or {}),
        metrics=METRICS | (metrics or {}),
        tags={"headwise.source": "test"},
        folder=folder,
        dataset={"name": "gqa", "digest": "d1", "source": "/data", "profile": json.dumps({"questions": 4})},
        note="gqa 192-16-sparsity: 51.50 over 4 questions",
        **more,
    )


def test_a_cell_holds_everything_a_reader_needs(store, folder):
    with tracking.open_study({}) as study:
        run_id = log(study, folder, seconds_range=(1000.0, 1060.5))
    run = MlflowClient().get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "gqa-192-16-sparsity")
    assert (run.info.start_time, run.info.end_time) == (1_000_000, 1_060_500)
    assert run.info.experiment_id == study.experiment_id
    assert run.data.params == {k: str(v) for k, v in PARAMS.items() if v is not None}
    assert run.data.metrics == METRICS
    tags = run.data.tags
    assert (tags["headwise.study"], tags["headwise.kind"]) == (study.run_id, "cell")
    assert tags["headwise.status"] == "complete"
    assert tags["mlflow.note.content"].startswith("gqa 192-16-sparsity: 51.50")
    assert "mlflow.parentRunId" not in tags
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("gqa", "d1")
    assert used.tags[0].value == "eval"
    assert {each.path for each in MlflowClient().list_artifacts(run_id)} == {"answers.jsonl", "config.yaml"}


@pytest.mark.parametrize("lost", [{"failed": 1.0}, {"missing": 2.0}, {"score": None}])
def test_a_cell_with_lost_answers_is_incomplete_and_only_found_when_asked_for(store, folder, lost):
    with tracking.open_study({}) as study:
        whole = log(study, folder)
        partial = log(study, folder, {"heads": 8}, lost)
    assert tracking.find_cells(study=study.run_id)["run_id"].tolist() == [whole]
    everything = tracking.find_cells(study=study.run_id, include_incomplete=True)
    assert everything.set_index("run_id")["complete"].to_dict() == {whole: True, partial: False}


def test_cells_are_found_typed_and_by_study_experiment_or_id(store, folder):
    with tracking.open_study({}) as first:
        one = log(first, folder)
    with tracking.open_study({}) as second:
        two = log(second, folder, {"strategy": "vanilla", "tokens": None, "heads": None})
    assert tracking.find_cells(study=first.run_id)["run_id"].tolist() == [one]
    both = tracking.find_cells(experiment="headwise")
    assert both["run_id"].tolist() == [one, two]
    assert both["tokens"].dtype == both["heads"].dtype == pd.Int64Dtype()
    assert both["tokens"].tolist() == [192, pd.NA]
    assert tracking.find_cells(run_ids=[two])["study"].item() == second.run_id
    assert tracking.latest_study() == second.run_id
    assert tracking.find_cells(study="latest")["run_id"].tolist() == [two]


def test_unfinished_cells_and_other_runs_are_never_found(store, folder):
    with tracking.open_study({}) as study:
        dead = log(study, folder)
        alive = log(study, folder, {"heads": 8})
    MlflowClient().update_run(dead, status="RUNNING")
    assert tracking.find_cells(study=study.run_id)["run_id"].tolist() == [alive]


def test_more_cells_than_a_page_are_all_found(store, folder, monkeypatch):
    monkeypatch.setattr("headwise.tracking.queries.PAGE", 2)
    with tracking.open_study({}) as study:
        logged = [log(study, folder, {"heads": heads}) for heads in range(1, 6)]
    assert tracking.find_cells(study=study.run_id)["run_id"].tolist() == logged


def test_what_is_not_there_is_said(store, folder):
    with pytest.raises(tracking.NothingFound, match="no experiment 'headwise'.*no experiment of this store has one"):
        tracking.latest_study()
    with tracking.open_study({}, experiment="other") as study:
        pass
    with pytest.raises(tracking.NothingFound, match=f"study {study.run_id} has no finished cell"):
        tracking.find_cells(study=study.run_id)
    with pytest.raises(tracking.NothingFound, match="experiments with studies: other"):
        tracking.latest_study()
    with pytest.raises(TrackingError, match="is not a cell"):
        tracking.find_cells(run_ids=[study.run_id])
    with pytest.raises(TrackingError, match="(?i)not found"):
        tracking.find_cells(study="0123456789abcdef0123456789abcdef")


def test_rescoring_replaces_figures_files_and_status(store, folder):
    with tracking.open_study({}) as study:
        run_id = log(study, folder, metrics={"failed": 1.0})
    (folder / "answers.jsonl").write_text("new\n")
    tracking.update_cell(run_id, metrics=METRICS | {"score": 11.0}, folder=folder, tags={"why": "mended"})
    cell = tracking.find_cells(run_ids=[run_id]).iloc[0]
    assert (cell["score"], cell["complete"]) == (11.0, True)
    assert tracking.download(run_id, "answers.jsonl", cell["artifact_uri"]).read_text() == "new\n"


def test_a_local_artifact_is_read_in_place_and_a_missing_one_is_named(store, folder):
    with tracking.open_study({}) as study:
        run_id = log(study, folder)
    assert tracking.download(run_id, "config.yaml").is_relative_to(store / "mlruns")
    with pytest.raises(TrackingError, match=f"run {run_id} has no artifact verdicts.parquet"):
        tracking.download(run_id, "verdicts.parquet")


def test_metric_names_are_those_mlflow_takes():
    assert metric_name("category/acc@1 (%)") == "category/acc_1 ___"
    assert metric_name("category/code_reasoning") == "category/code_reasoning"


def test_the_same_over_http(server, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with tracking.open_study({"strategy": ["sum"]}) as study:
        run_id = log(study, folder)
        partial = log(study, folder, {"heads": 8}, {"missing": 1.0})
    assert tracking.find_cells(study=study.run_id)["run_id"].tolist() == [run_id]
    assert len(tracking.find_cells(study="latest", include_incomplete=True)) == 2
    assert tracking.download(run_id, "config.yaml").read_text() == "layer: 2\n"
    with pytest.raises(TrackingError, match=f"run {partial} has no artifact nothing.txt"):
        tracking.download(partial, "nothing.txt")
    table = pd.DataFrame({"strategy": ["sum"], "score": [51.5]})
    compared = tracking.log_compare(
        study.experiment_id, study=study.run_id, tables={"best": table}, in_ui=["best"], markdown="# best\n"
    )
    shown = MlflowClient().load_table(study.experiment_id, "tables/best.json", [compared])
    assert shown["score"].tolist() == [51.5]
    assert tracking.download(compared, "tables/best.csv").read_text() == "strategy,score\nsum,51.5\n"
    assert tracking.download(compared, "compare.md").read_text() == "# best\n"
    assert study.ui_url().startswith(f"{server}/#/experiments/{study.experiment_id}/runs?searchFilter=")
