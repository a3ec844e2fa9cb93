"""The published layout: best of a row, ties, holes, controls."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from headwise.analysis.score_tables import score_table, tops
from headwise.report.markup import score_html
from headwise.report.text import score_table_markdown


def cells(*rows) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["strategy", "tokens", "heads", "score"])
    return table.astype({"tokens": "Int64", "heads": "Int64"}).assign(label=table["strategy"])


@pytest.fixture
def found():
    table = score_table(
        "gqa",
        cells(
            ("vanilla", None, None, 62.0),
            ("random_tokens", 192, None, 41.0),
            ("random_tokens", 64, None, 31.0),
            ("random_heads", 64, 8, 33.0),
            ("sum", 192, 16, 58.0),
            ("sparsity", 192, 16, 58.0),
            ("sum", 192, 8, 57.0),
            ("sparsity", 192, 8, 57.5),
            ("sum", 64, 8, 50.0),
        ),
    )
    assert table is not None
    return table


def test_rows_are_all_budgets_largest_first_and_holes_stay(found):
    assert found.values.index.tolist() == [(192, 16), (192, 8), (64, 16), (64, 8)]
    assert found.values.columns.tolist() == ["sum", "sparsity"]
    assert found.holes == 3
    assert found.values.loc[(64, 16)].isna().all()


def test_the_best_of_each_row_is_marked_and_ties_are_all_marked(found):
    assert found.best.to_numpy().tolist() == [[True, True], [False, True], [False, False], [True, False]]
    assert found.as_table()["best"].tolist() == ["sum = sparsity", "sparsity", "", "sum"]
    assert found.best_cells() == ["192/16/sum", "192/16/sparsity"]


def test_controls_repeat_where_they_do_not_depend_on_tokens_or_heads(found):
    assert found.controls["vanilla"].tolist() == [62.0] * 4
    assert found.controls["random_tokens"].tolist() == [41.0, 41.0, 31.0, 31.0]
    assert found.controls["random_heads"].isna().tolist() == [True, True, True, False]


def test_a_shared_top_counts_as_a_share_and_a_row_without_rivals_not_at_all(found):
    counts = tops([found, replace(found, title="pope")]).set_index("strategy")
    assert counts["gqa"].to_dict() == {"sum": 0.5, "sparsity": 1.5}
    assert counts["all"].to_dict() == {"sum": 1.0, "sparsity": 3.0}


def test_markdown_has_bold_best_and_dots_for_holes(found):
    lines = score_table_markdown(found).splitlines()
    assert lines[0] == "| tokens | heads | sum | sparsity | vanilla | random_tokens | random_heads |"
    assert lines[2] == "| 192 | 16 | **58.00** | **58.00** | 62.00 | 41.00 | · |"
    assert lines[4] == "| 64 | 16 | · | · | 62.00 | 31.00 | · |"


def test_controls_alone_make_no_grid():
    assert score_table("gqa", cells(("vanilla", None, None, 62.0))) is None


def test_a_strategy_without_heads_has_rows_of_its_own():
    table = score_table(
        "gqa",
        cells(
            ("vanilla", None, None, 62.0),
            ("random_tokens", 192, None, 41.0),
            ("sum", 192, 16, 58.0),
            ("sum", 64, 16, 50.0),
            ("headless", 192, None, 59.0),
        ),
    )
    assert [(tokens, None if pd.isna(heads) else heads) for tokens, heads in table.values.index] == [
        *((192, 16), (192, None), (64, 16)),
    ]
    assert table.values["headless"].dropna().tolist() == [59.0]
    assert table.controls["random_tokens"].iloc[:2].tolist() == [41.0, 41.0]
    assert table.holes == 0  # no method without heads was run at 64 tokens; with a number of heads none can be
    assert table.best_cells() == ["192/headless"]
    assert table.tops().sum() == 0  # no row has rivals


def test_methods_without_heads_are_shown_in_a_table_of_their_own():
    rows = [("vanilla", None, None, 62.0), ("random_tokens", 192, None, 41.0), ("random_heads", 192, 16, 50.0)]
    rows += [("sum", 192, 16, 58.0), ("sparsity", 192, 16, 57.0), ("fastv", 192, None, 59.0)]
    table = score_table("gqa", cells(*rows, ("pdrop", 192, None, 60.0), ("pdrop", 270, None, 61.0)))
    by_heads, headless = score_table_markdown(table).split("\n\n")
    assert by_heads.splitlines() == [
        "| tokens | heads | sum | sparsity | vanilla | random_tokens | random_heads |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| 192 | 16 | **58.00** | 57.00 | 62.00 | 41.00 | 50.00 |",
    ]
    assert headless.splitlines() == [
        "| tokens | fastv | pdrop | vanilla | random_tokens |",
        "| --- | --- | --- | --- | --- |",
        "| 270 | · | **61.00** | 62.00 | · |",
        "| 192 | 59.00 | **60.00** | 62.00 | 41.00 |",
    ]
    assert table.holes == 1  # fastv at 270 tokens; sum was not asked for them
    html = score_html("g", "", table.parts()[1], 2)
    assert [[field.text for field in row] for row in html.rows] == [
        ["270", "–", "61.00", "62.00", "–"], ["192", "59.00", "60.00", "62.00", "41.00"],
    ]  # fmt: skip
