"""Verdict files become one matrix whose columns are the same question for every cell."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwise.analysis import verdicts as reading
from headwise.analysis.verdicts import read_matrix
from headwise.benchmarks import BENCHMARKS
from headwise.errors import DataError
from headwise.records import Verdict
from headwise.scoring.score import write_verdicts


def verdict(question: str, correct: float | None = 1.0, **more) -> Verdict:
    values = {"question_id": question, "image": question[0], "category": "c", "status": "ok", "prediction": "yes"}
    return Verdict(**{**values, "correct": correct, "truth": "yes", **more})


def matrix(tmp_path, **cells):
    files = {}
    for name, verdicts in cells.items():
        write_verdicts(tmp_path / name, verdicts)
        files[name] = tmp_path / name / "verdicts.parquet"
    return read_matrix(BENCHMARKS["gqa"], files)


def test_columns_are_questions_whatever_the_order_of_the_files(tmp_path):
    a, b, c = (verdict(name, correct) for name, correct in (("a1", 1.0), ("a2", 0.0), ("b1", 0.5)))
    found = matrix(tmp_path, one=[a, b, c], two=[c, a, b])
    assert found.run_ids == ["one", "two"]
    assert found.correct_CQ.tolist() == [[1.0, 0.0, 0.5], [1.0, 0.0, 0.5]]
    assert found.questions["question_id"].tolist() == ["a1", "a2", "b1"]
    assert found.image_Q.tolist() == [0, 0, 1]
    assert found.correct_CQ.dtype == np.float32


def test_a_cell_asked_fewer_questions_takes_none_from_the_others(tmp_path):
    a, b, c = verdict("a1"), verdict("a2", 0.0), verdict("b1", 0.5)
    found = matrix(tmp_path, short=[c, b], long=[a, b, c], other=[verdict("b2"), c])
    assert found.questions["question_id"].tolist() == ["a1", "a2", "b1", "b2"]
    expected = [[np.nan, 0.0, 0.5, np.nan], [1.0, 0.0, 0.5, np.nan], [np.nan, np.nan, 0.5, 1.0]]
    np.testing.assert_equal(found.correct_CQ, np.array(expected, np.float32))
    assert (found.prediction_CQ >= 0).tolist() == (~np.isnan(expected)).tolist()
    assert found.run_ids == ["short", "long", "other"]


def test_of_many_cells_asked_the_same_the_questions_are_held_once(tmp_path, monkeypatch):
    read, tables, most = reading._column, [], []

    def column(run_id, path):
        found = read(run_id, path)
        tables.append(weakref.ref(found.keys))
        most.append(sum(table() is not None for table in tables))
        return found

    monkeypatch.setattr(reading, "_column", column)
    matrix(tmp_path, **{f"cell{n}": [verdict("a1"), verdict("a2", 0.0)] for n in range(12)})
    assert max(most) <= 3  # the one that is kept, the last and the one just read; it was one per cell


def test_two_right_answers_to_one_question_are_refused(tmp_path):
    mended = verdict("a1", 0.0, truth="no")
    with pytest.raises(DataError, match="runs one and two .* 1 questions .question a1: 'yes' and 'no'.*headwise score"):
        matrix(tmp_path, one=[verdict("a1"), verdict("b1")], two=[mended, verdict("b1")])


def test_two_questions_under_one_id_stay_two(tmp_path):
    first, second = verdict("a1", 1.0), verdict("a1", 0.0, truth="no")
    found = matrix(tmp_path, one=[first, second], two=[first, replace(second, correct=1.0)])
    assert found.correct_CQ.tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert found.truth_Q.tolist() == ["yes", "no"]


def test_a_failed_question_is_nan_and_has_no_prediction(tmp_path):
    lost = verdict("a2", None, status="failed", prediction="")
    found = matrix(tmp_path, one=[verdict("a1"), lost], two=[verdict("a1", 0.0, prediction="no"), verdict("a2")])
    assert np.isnan(found.correct_CQ[0, 1])
    assert found.prediction_CQ[0, 1] == -1
    words = [[found.predictions[code] for code in row if code >= 0] for row in found.prediction_CQ]
    assert words == [["yes"], ["no", "yes"]]


def test_categories_are_numbered_in_order_of_appearance(tmp_path):
    asked = [verdict(name, category=category) for name, category in (("a1", "z"), ("a2", "y"), ("b1", "z"))]
    found = matrix(tmp_path, one=asked)
    assert found.categories == ["z", "y"]
    assert found.category_Q.tolist() == [0, 1, 0]


def test_cells_of_different_questions_cannot_be_compared(tmp_path):
    with pytest.raises(DataError, match="gqa: the 2 cells have no question in common"):
        matrix(tmp_path, one=[verdict("a1")], two=[verdict("b1")])


def test_a_file_that_is_no_verdicts_is_named(tmp_path):
    (tmp_path / "bad.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="bad.parquet"):
        read_matrix(BENCHMARKS["gqa"], {"r": tmp_path / "bad.parquet"})
    pq.write_table(pa.table({"question_id": ["1"]}), tmp_path / "thin.parquet")
    with pytest.raises(DataError, match="thin.parquet: .*category.*; score the run again"):
        read_matrix(BENCHMARKS["gqa"], {"r": tmp_path / "thin.parquet"})
