"""Budgets whose cells see unlike numbers of tokens are named beside the tables."""

from __future__ import annotations

import pandas as pd

from headwise.analysis.means import mean_notes


def cells(*rows: tuple[str, int | None, float | None], metric: str = "mean_tokens") -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["strategy", "tokens", metric])
    return frame.astype({"tokens": "Int64"})


def test_means_within_half_a_token_are_one_budget():
    assert mean_notes(cells(("fastv", 192, 191.62), ("pdrop", 192, 192.06), ("vanilla", None, 576.0))) == []


def test_a_budget_of_unlike_means_is_named_with_its_ends():
    (note,) = mean_notes(cells(("fastv", 192, 192.0), ("downsample", 192, 169.0), ("fastv", 64, 64.0)))
    assert note.startswith("tokens 192: a decoder layer sees 169.0 to 192.0 visual tokens on average")
    assert "(downsample 169.0, fastv 192.0)" in note


def test_runs_of_an_older_headwise_have_another_name():
    assert len(mean_notes(cells(("a", 8, 8.0), ("b", 8, 9.0), metric="mean_visual_tokens"))) == 1
    both = cells(("a", 8, 8.0), ("b", 8, None)).assign(mean_visual_tokens=[None, 9.0])
    assert len(mean_notes(both)) == 1
    assert mean_notes(pd.DataFrame({"strategy": ["a"], "tokens": [8]})) == []
    assert mean_notes(cells(("a", 8, None), ("b", 8, 9.0))) == []


def test_only_the_ends_of_many_are_named():
    (note,) = mean_notes(cells(*((f"m{number}", 8, float(number)) for number in range(9))))
    assert "(m0 0.0, m1 1.0, …, m7 7.0, m8 8.0)" in note
