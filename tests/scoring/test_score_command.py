"""The score command: an answer file, and runs once more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from headwise import tracking
from headwise.cli import headwise
from headwise.errors import ConfigError, DataError
from headwise.records import write_jsonl
from headwise.scoring.score import LABELS_TAG, SCORER_TAG, key_tags, score_answers, write_verdicts

PROMPT = "\nAnswer the question using a single word or phrase."


@pytest.fixture
def answers(tmp_path):
    rows = [
        {"question_id": "100", "prompt": "Is it red?" + PROMPT, "text": "Yes."},
        {"question_id": "101", "prompt": "What is left of it?" + PROMPT, "text": "dog"},
    ]
    folder = tmp_path / "cell"
    folder.mkdir()
    write_jsonl(folder / "answers.jsonl", rows)
    return folder / "answers.jsonl"


def run(*arguments):
    return CliRunner().invoke(headwise, ["score", *map(str, arguments)])


def test_json_is_one_object_on_stdout(bundle, answers):
    result = run("--benchmark", "gqa", "--answers", answers, "--data-dir", bundle, "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert {name: record[name] for name in ("benchmark", "score", "complete", "samples", "failed")} == {
        "benchmark": "gqa",
        "score": 50.0,
        "complete": True,
        "samples": 2,
        "failed": 0,
    }
    assert record["category/structural/query"] == 0.0


def test_without_json_there_is_a_table(bundle, answers):
    result = run("--benchmark", "gqa", "--answers", answers, "--data-dir", bundle)
    assert "50.00" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [("--benchmark", "gqa"), ("--answers", "a.jsonl"), ("--answers", "a.jsonl", "--benchmark", "gqa", "--study", "1")],
)
def test_options_that_do_not_go_together_are_refused(arguments):
    assert isinstance(run(*arguments).exception, ConfigError)


def test_a_data_dir_that_is_not_there_is_named(answers, tmp_path):
    result = run("--benchmark", "gqa", "--answers", answers, "--data-dir", tmp_path / "none")
    assert isinstance(result.exception, DataError)
    assert "none is not a folder" in str(result.exception)


def test_scoring_loads_neither_torch_nor_mlflow(bundle, answers):
    code = (
        "import sys; from headwise.cli import headwise\n"
        f"headwise(['score','--benchmark','gqa','--answers',{str(answers)!r},'--data-dir',{str(bundle)!r},'--json'],"
        "standalone_mode=False)\n"
        "assert not {'torch','transformers','mlflow'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": "src"})
    assert done.returncode == 0, done.stderr


@pytest.fixture
def cell(store, bundle, answers):
    """A logged cell whose score metric is wrong."""
    write_verdicts(answers.parent, score_answers("gqa", bundle, answers)[1])
    params = {"benchmark": "gqa", "strategy": "sparsity", "tokens": 64, "heads": 8, "data_dir": str(bundle), "limit": 2}
    with tracking.open_study({}, experiment="x") as study:
        run_id = tracking.log_cell(
            study,
            params=params,
            metrics={"score": 7.0, "failed": 0, "missing": 0},
            tags={},
            folder=answers.parent,
            dataset={"name": "gqa", "digest": "0", "source": str(bundle)},
            note="",
        )
    return study.run_id, run_id


def test_runs_are_rescored_by_study_by_run_and_by_experiment(cell):
    study, run_id = cell
    for choice in (["--study", study], ["--run", run_id], ["--experiment", "x"]):
        result = run(*choice, "--json")
        assert result.exit_code == 0, result.exception
        assert json.loads(result.stdout)[0]["score"] == 50.0
    row = tracking.find_cells(study=study).iloc[0]
    assert (row["score"], row["category/binary"]) == (50.0, 100.0)
    key = key_tags("gqa", Path(row["data_dir"]), 2)
    assert {tag: row[f"tags.{tag}"] for tag in (LABELS_TAG, SCORER_TAG)} == key
    assert tracking.download(run_id, "verdicts.parquet").is_file()
    assert "7.00" not in run("--run", run_id).stdout


def test_the_project_s_words_for_nothing_given_are_understood(cell, bundle, answers):
    study, _ = cell
    nothing = ["--answers", "none", "--benchmark", "none", "--data-dir", "none", "--limit", "all", "--json"]
    assert json.loads(run("--study", study, *nothing).stdout)[0]["score"] == 50.0
    file = ["--answers", answers, "--benchmark", "gqa", "--data-dir", bundle, "--limit", "all", "--json"]
    assert json.loads(run("--study", "latest", *file).stdout)["score"] == 50.0


def test_the_newest_study_of_an_experiment_is_found_by_its_word(cell):
    assert run("--study", "latest", "--experiment", "x", "--json").exit_code == 0
