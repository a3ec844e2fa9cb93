"""Published figures on the console, in JSON and as tables, with and without cells of ours."""

import io
import json

import pandas as pd
import pytest
from click.testing import CliRunner
from rich.console import Console

from headwise.cli import headwise
from headwise.errors import ConfigError
from headwise.published.baseline import NO_CELLS, Baseline

OURS = pd.DataFrame(
    {
        "benchmark": ["mme", "mme", "mme"],
        "tokens": pd.array([192, 192, pd.NA], dtype="Int64"),
        "heads": pd.array([16, 8, pd.NA], dtype="Int64"),
        "strategy": ["sparsity", "sparsity", "vanilla"],
        "score": [1850.0, 1810.1676, 1862.0],
        "model": "llava-v1.5-7b",
    }
)


def printed(baseline):
    console = Console(file=io.StringIO(), width=200)
    baseline.print(console)
    return console.file.getvalue()


def test_the_command_prints_headline_and_holes_without_any_run():
    result = CliRunner().invoke(headwise, ["data", "published"])
    assert result.exit_code == 0
    for figure in ("58.02", "1853.72", "57.78", "77.15", "· never ran"):
        assert figure in result.stdout
    assert "Ours" not in result.stdout
    record = json.loads(CliRunner().invoke(headwise, ["data", "published", "--json"]).stdout)
    assert len(record["published_holes"]) == 18


def test_differences_are_printed_with_their_sign():
    text = printed(Baseline.read("published", OURS))
    lines = [line.split() for line in text.split("Ours - published: MME")[1].splitlines()]
    assert ["192", "16", "-3.72", "·"] in lines
    assert ["192", "8", "0.00", "·"] in lines


def test_another_model_is_said_and_the_same_is_not():
    assert Baseline.read("published", OURS).note() == ""
    assert Baseline.read("published", OURS.assign(model="llava-hf/llava-1.5-7b-hf")).note() == ""
    assert "not of embedded" in Baseline.read("published", OURS.assign(model="embedded")).note()


def test_json_has_null_for_what_is_missing():
    record = Baseline.read("published", OURS.assign(strategy=["sum", "sparsity", "vanilla"])).as_json()
    assert record["published_difference"][0]["difference"] is None
    json.dumps(record, allow_nan=False)


def test_tables_can_be_empty_of_ours():
    assert Baseline.read("published", NO_CELLS).tables()["published_difference"].empty


def test_a_baseline_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="against: no head_strategy_scores.csv"):
        Baseline.read(tmp_path / "none", OURS)
