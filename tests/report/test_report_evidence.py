"""Evidence of heads and tokens: packed sets give frequencies and overlaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from headwise.analysis.evidence import (
    Evidence,
    frequency_maps,
    jaccard,
    overlaps,
    precision_table,
    read_evidence,
    ruzicka,
)
from headwise.errors import DataError


def packed(sets, size) -> np.ndarray:
    flags = np.zeros((len(sets), size), bool)
    for row, members in enumerate(sets):
        flags[row, list(members)] = True
    return np.packbits(flags, axis=1)


def evidence(heads, kept, agreement=None) -> Evidence:
    return Evidence(packed(heads, 10), packed(kept, 16), 10, 16, agreement)


@pytest.fixture
def study():
    cells = pd.DataFrame(
        [("a", "sum", 64, 2), ("b", "sum", 32, 2), ("c", "sparsity", 64, 2), ("d", "random_tokens", 64, None)],
        columns=["run_id", "strategy", "tokens", "heads"],
    ).astype({"tokens": "Int64", "heads": "Int64"})
    found = {
        "a": evidence([{0, 9}, {0, 1}], [{0, 1}, {2, 3}], 0.9),
        "b": evidence([{0, 9}, {0, 9}], [{0}, {1}], 0.7),
        "c": evidence([{0, 9}, {2, 3}], [{0, 1}, {3, 15}], 0.5),
        "d": evidence([set(), set()], [{4}, {5}]),
    }
    return cells, found


def test_frequency_is_the_share_of_questions_and_the_mean_over_budgets(study):
    table = frequency_maps(*study)[2]
    assert list(table.index) == ["sum", "sparsity"]
    assert table.loc["sum", [0, 1, 9]].tolist() == pytest.approx([1, 0.25, 0.75])


def test_failed_questions_do_not_lower_frequencies():
    assert evidence([{1, 2}, set()], [{0}, set()]).frequency()[1] == 1


def test_overlap_compares_cells_that_differ_in_strategy_only(study):
    heads, kept = overlaps(*study, "heads"), overlaps(*study, "kept")
    assert heads.loc["sum", "sparsity"] == heads.loc["sparsity", "sum"] == pytest.approx((1 + 0) / 2)
    assert kept.loc["sparsity", "sum"] == pytest.approx((1 + 1 / 3) / 2)
    assert heads.loc["sum", "sum"] == 1


def test_jaccard_skips_questions_without_any_set():
    assert jaccard(packed([{1}, set()], 8), packed([{1, 2}, set()], 8)) == 0.5


def test_kept_tokens_are_unpacked_in_order(study):
    assert np.flatnonzero(study[1]["c"].kept(1)).tolist() == [3, 15]


def test_float16_agreement_is_set_beside_chance(study):
    table = precision_table(*study)
    assert table["strategy"].tolist() == ["sparsity", "sum"]
    assert table["float16_agreement"].tolist() == pytest.approx([0.5, 0.8])
    assert table["chance"].tolist() == [0.2, 0.2]


def test_the_file_is_read_as_evaluate_writes_it(tmp_path):
    content = {"heads_NH": packed([{1}], 32), "kept_NV": packed([{0, 575}], 576), "head_count": 32, "visual": 576}
    np.savez_compressed(tmp_path / "evidence.npz", **content)
    read = read_evidence(tmp_path / "evidence.npz")
    assert np.flatnonzero(read.kept(0)).tolist() == [0, 575]
    assert read.float16_agreement is None


def test_a_broken_file_is_one_clear_error(tmp_path):
    (tmp_path / "evidence.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"cannot read the evidence .*evidence\.npz"):
        read_evidence(tmp_path / "evidence.npz")


def merging(path, kept, areas) -> Evidence:
    """Evidence of one head and a 4 × 4 image as evaluate writes it, one row per question."""
    merged = np.array([[max(area, default=0) for area in areas]])
    content = {"heads_NH": packed([set()] * len(kept), 8), "kept_NV": packed(kept, 16), "head_count": 8, "visual": 16}
    content |= {"stage_layers": [0], "stages_GNV": packed(kept, 16)[None], "merged_GN": merged}
    np.savez_compressed(path, areas_NV=np.array(areas, dtype=np.uint16), **content)
    return read_evidence(path)


POOLED = [[1, 1, 2, 2] * 2 + [3, 3, 4, 4] * 2]


def test_a_merged_row_is_one_token_spread_over_its_area(tmp_path):
    pooled = merging(tmp_path / "pool.npz", [set()], POOLED)
    assert pooled.shares([0]).tolist() == [[0.25] * 16]
    trimmed = merging(tmp_path / "trim.npz", [{0, 5}], [[0] + [1] * 4 + [0] + [1] * 10])
    assert trimmed.shares([0])[0, [0, 1, 5, 15]] == pytest.approx([1, 1 / 14, 1, 1 / 14])
    assert pooled.shares([0]).sum() == 4
    assert trimmed.shares([0]).sum() == pytest.approx(3)


def test_merged_rows_overlap_with_kept_tokens_by_their_areas(tmp_path):
    cells = pd.DataFrame(
        [("a", "pooling", 4, None), ("b", "fastv", 4, None), ("c", "trim", 4, None)],
        columns=["run_id", "strategy", "tokens", "heads"],
    ).astype({"tokens": "Int64", "heads": "Int64"})
    found = {
        "a": merging(tmp_path / "a.npz", [set(), set()], POOLED * 2),
        "b": evidence([set()] * 2, [{0, 1, 2, 3}, {0, 1, 2, 3}]),
        "c": merging(tmp_path / "c.npz", [{0, 1, 2}, set()], [[0] * 3 + [1] * 13, [0] * 16]),
    }
    kept = overlaps(cells, found, "kept")
    assert kept.loc["pooling", "pooling"] == 1
    assert kept.loc["pooling", "fastv"] == pytest.approx(1 / 7)  # 4 · ¼ of 4 + 12 · ¼: what chance gives
    first = (3 * 0.25 + 13 * min(0.25, 1 / 13)) / (3 + 13 * 0.25)
    assert kept.loc["pooling", "trim"] == pytest.approx((first + 0) / 2)
    assert kept.loc["trim", "fastv"] == pytest.approx(((3 + 1 / 13) / (4 + 12 / 13) + 0) / 2)


def test_overlap_of_shares_is_that_of_sets_where_nothing_is_merged():
    sets = [{1, 2}, {5}, set()], [{2, 3}, {5}, set()]
    first, second = (packed(each, 8) for each in sets)
    assert ruzicka(*(np.unpackbits(each, axis=1) for each in (first, second))) == jaccard(first, second)


def test_cells_that_kept_no_token_at_one_budget_have_an_overlap_at_the_others(study):
    cells, found = study
    row = (
        {"run_id": "e", "strategy": "sum", "tokens": 8, "heads": 2},
        {"run_id": "f", "strategy": "sparsity", "tokens": 8, "heads": 2},
    )
    more = pd.concat([cells, pd.DataFrame(row)], ignore_index=True).astype(cells.dtypes)
    empty = evidence([{1}, {1}], [set(), set()])
    kept = overlaps(more, found | {"e": empty, "f": empty}, "kept")
    assert kept.loc["sparsity", "sum"] == overlaps(cells, found, "kept").loc["sparsity", "sum"]
