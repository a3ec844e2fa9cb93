"""Which cells of a crowded experiment are comparable, and what the reader is told."""

from __future__ import annotations

import pandas as pd
import pytest

from headwise import tracking
from headwise.analysis.comparison import load_comparison


def found(*rows: dict) -> pd.DataFrame:
    common = {
        "experiment_id": "1",
        "model": "m",
        "model_digest": "0123456789",
        "benchmark": "gqa",
        "strategy": "sum",
        "tokens": 192,
        "heads": 16,
        "layer": 2,
        "budget": "average",
        "score_dtype": "float64",
        "seed": 0,
        "limit": None,
        "data_digest": "d",
        "score": 50.0,
        "tags.headwise.labels_digest": "labels",
        "tags.headwise.scorer": "gqa/1",
    }
    table = pd.DataFrame([common | {"run_id": f"r{number}"} | row for number, row in enumerate(rows)])
    integers = ["tokens", "heads", "layer", "seed", "limit"]
    return table.assign(**{name: pd.to_numeric(table[name]).astype("Int64") for name in integers})


@pytest.fixture
def comparison(monkeypatch):
    def load(*rows: dict):
        monkeypatch.setattr(tracking, "find_cells", lambda **asked: found(*rows))
        return load_comparison(experiment="x")

    return load


def test_of_a_cell_run_twice_the_latest_is_compared(comparison):
    result = comparison({}, {"heads": 8}, {})
    assert result.cells["run_id"].tolist() == ["r2", "r1"]
    assert result.notes == ["1 cell was run again later; the latest run of each is compared"]


def test_a_trial_on_a_few_questions_is_set_aside(comparison):
    result = comparison({"limit": 20}, {"limit": 50, "heads": 8}, {"heads": 24})
    assert result.cells["run_id"].tolist() == ["r2"]
    assert result.notes == ["gqa: 2 cells were asked fewer questions (limit); set aside"]


def test_cells_on_other_data_are_set_aside(comparison):
    result = comparison({"data_digest": "old"}, {"heads": 8})
    assert result.cells["run_id"].tolist() == ["r1"]
    assert "other data" in result.notes[0]


def test_what_else_differs_is_part_of_the_name(comparison):
    result = comparison({}, {"score_dtype": "float16"}, {"layer": 3})
    assert set(result.cells["configuration"]) == {
        "192/16/sum layer=2 float64",
        "192/16/sum layer=2 float16",
        "192/16/sum layer=3 float64",
    }
    assert comparison({}, {"heads": 8}).cells["label"].tolist() == ["sum", "sum"]


def test_two_checkpoints_under_one_name_are_told_apart(comparison):
    result = comparison({}, {"model_digest": "abcdef0123"})
    assert set(result.cells["model"]) == {"m@01234567", "m@abcdef01"}


def test_vanilla_is_one_cell_whatever_its_unused_parameters(comparison):
    vanilla = {"strategy": "vanilla", "tokens": 576, "heads": None}
    result = comparison(vanilla, vanilla | {"score_dtype": "float16", "tokens": 192})
    assert result.cells["configuration"].tolist() == ["vanilla"]
    assert result.cells["tokens"].isna().all()
