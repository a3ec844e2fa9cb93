"""A comparison says which cells of a budget were given more or fewer visual tokens per layer than the others."""

from __future__ import annotations

import pandas as pd
import pytest

from headwise.analysis.means import unequal_means
from headwise.analysis.score_tables import score_table


def cells(*rows: tuple[str, float, float], **changed) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["label", "tokens", "mean_visual_tokens"])
    return table.assign(**{"model": "m", "benchmark": "gqa"} | changed)


OTHERS = [(f"m{number}", 192, 191.8 + number / 10) for number in range(5)]


def test_means_within_half_a_token_are_equal_terms():
    assert unequal_means(cells(("a", 192, 191.75), ("b", 192, 192.25), ("c", 64, 64), ("vanilla", None, 576))) == []
    assert unequal_means(pd.DataFrame({"label": ["a"]})) == []


def test_every_cell_apart_is_named_beside_what_most_have():
    [note] = unequal_means(cells(("downsample", 192, 169), *OTHERS, ("dart", 192, 189.75)))
    assert note == (
        "mean visual tokens per layer differ within a budget: "
        "at 192 tokens 169.0 (downsample), 189.8 (dart) and 191.8 to 192.2 (5 others)"
    )


def test_two_cells_name_each_other_and_budgets_stand_side_by_side():
    [note] = unequal_means(cells(("a", 192, 190), ("b", 192, 192), ("a", 64, 64.6), ("b", 64, 64)))
    assert note.endswith("at 192 tokens 192.0 (b) and 190.0 (a); at 64 tokens 64.6 (a) and 64.0 (b)")


def test_of_many_cells_apart_the_first_are_named():
    [note] = unequal_means(cells(*[(f"x{n}", 192, 10 * n) for n in range(1, 8)], *OTHERS))
    assert "50.0 (x5), 2 more and 191.8" in note


def test_shares_keep_their_size_and_benchmarks_are_named_where_they_differ():
    first = cells(("a", 0.25, 90), ("b", 0.25, 92))
    same = first.assign(benchmark="mme")
    [note] = unequal_means(pd.concat([first, same]))
    assert note.endswith("budget: at 0.25 tokens 92.0 (b) and 90.0 (a)")
    [note] = unequal_means(pd.concat([first, same.assign(mean_visual_tokens=[80.0, 80.2])]))
    assert note.endswith("budget: gqa: at 0.25 tokens 92.0 (b) and 90.0 (a)")


def test_two_models_are_no_unequal_terms():
    both = pd.concat([cells(("a", 0.5, 144)), cells(("a", 0.5, 288), model="n")])
    assert unequal_means(both) == []


@pytest.mark.parametrize(("heads", "name"), [(4, "20/4/sum"), (0.5, "20/0.5/sum")])
def test_tied_cells_are_named_as_they_are_called_beside_methods_without_heads(heads, name):
    rows = [("sum", 20, heads, 50.0), ("fastv", 20, None, 50.0), ("vanilla", None, None, 90.0)]
    table = pd.DataFrame(rows, columns=["strategy", "tokens", "heads", "score"])
    table = table.assign(label=table["strategy"], role=["method", "method", "reference"])
    assert score_table("GQA", table).best_cells() == [name, "20/fastv"]
