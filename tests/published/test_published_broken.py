"""A broken table given to --against is one line that names file, line and what is wrong."""

from __future__ import annotations

import pandas as pd
import pytest

from headwise.errors import DataError
from headwise.published.baseline import Baseline
from headwise.published.figures import read_published

HEADER = "benchmark,tokens,heads,strategy,metric,value\n"
ROW = "gqa,192,16,sum,accuracy,58.0\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; expected the columns benchmark, tokens"),
        (bytes(range(256)) * 4, "not UTF-8 text"),
        (b"a,b\n1,2,3\n1\n4,5,6,7\n", "is no table of text"),
        (HEADER.encode(), "holds no score that can be compared (accuracy of textvqa, total of mme"),
        ((HEADER + ROW + "gqa,many,16,sparsity,accuracy,57\n").encode(), "line 3: tokens 'many' is not a whole number"),
        ((HEADER + ROW + "gqa,64.5,16,sparsity,accuracy,57\n").encode(), "line 3: tokens '64.5' is not a whole number"),
        ((HEADER + "gqa,1e30,16,sparsity,accuracy,57\n").encode(), "line 2: tokens '1e+30' is not a whole number"),
        ((HEADER + ROW + "gqa,64,16,sum,accuracy,good\n").encode(), "line 3: value 'good' is not a number"),
        ((HEADER + "gqa,64,16,sum,accuracy,inf\n").encode(), "line 2: value 'inf' is not a number"),
        ((HEADER + "gqa,64,16,sum,accuracy,\n").encode(), "line 2: value 'nan' is not a number"),
        ((HEADER + ROW + ROW).encode(), "line 3: gqa, 192, 16, sum, accuracy was there before"),
    ],
)
def test_a_broken_scores_table_is_named(tmp_path, content, said):
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_published(tmp_path / "mine.csv")
    assert str(tmp_path / "mine.csv") in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_that_is_there_twice_is_named(tmp_path):
    (tmp_path / "head_strategy_scores.csv").write_text(HEADER + ROW)
    row = "FastV,192,57.1,1821,,57.8,table 1\n"
    (tmp_path / "methods.csv").write_text("method,tokens,gqa,mme,pope,textvqa,source\n" + row)
    assert len(read_published(tmp_path).methods) == 3
    (tmp_path / "methods.csv").write_text("method,tokens,gqa,mme,pope,textvqa,source\n" + row + row)
    with pytest.raises(DataError, match=r"methods.csv, line 3: FastV, 192 was there before"):
        read_published(tmp_path)


def test_cells_answered_in_two_ways_have_two_columns_of_differences(tmp_path):
    (tmp_path / "head_strategy_scores.csv").write_text(HEADER + ROW)
    labels = ["sum dtype=float32", "sum dtype=bfloat16"]
    ours = pd.DataFrame({"benchmark": "gqa", "tokens": [192, 192], "heads": 16, "strategy": "sum", "label": labels})
    ours = ours.assign(score=[59.0, 57.0], model="m")
    shown = dict(Baseline.read(tmp_path, ours)._shown())
    assert shown["Ours - published: GQA"].iloc[0].tolist() == ["192", "16", "+1.00", "-1.00"]
