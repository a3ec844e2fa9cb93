"""The published figures: headline, holes, misprints, and ours beside them."""

import hashlib

import pandas as pd
import pytest

from headwise.errors import ConfigError, DataError
from headwise.published.figures import FOLDER, read_published


@pytest.fixture(scope="module")
def published():
    return read_published()


def cells(*rows):
    table = pd.DataFrame(rows, columns=["benchmark", "tokens", "heads", "strategy", "score"])
    return table.astype({"tokens": "Int64", "heads": "Int64"})


def test_the_headline_is_the_published_one(published):
    best = published.best()
    assert list(zip(best["benchmark"], best["score"].round(2), strict=True)) == [
        ("textvqa", 58.02),
        ("mme", 1853.72),
        ("gqa", 57.78),
        ("pope", 77.15),
    ]
    assert (best["tokens"].unique(), best["heads"].unique()) == ([192], [16])
    assert list(best["strategy"]) == ["sparsity", "sparsity", "hierarchical", "hierarchical"]


def test_holes_are_the_cells_that_never_ran(published):
    holes = published.holes()
    assert (len(published.every_cell()), len(holes)) == (252, 18)
    eight = holes[(holes["strategy"] == "hierarchical") & (holes["heads"] == 8)]
    pope = holes[(holes["benchmark"] == "pope") & (holes["tokens"] == 128)]
    assert len(eight) == 12
    assert len(pd.concat([eight, pope]).drop_duplicates()) == 18


def test_the_table_shows_a_hole_as_a_hole(published):
    table = published.table("pope")
    assert table.index.tolist()[:4] == [(192, 24), (192, 16), (192, 8), (128, 24)]
    assert table.loc[(128, 8)].isna().all()
    assert table.loc[(192, 16), "hierarchical"] == pytest.approx(77.153102)


def test_each_misprint_is_the_score_of_the_next_cell_that_ran(published):
    found = published.neighbours()
    owners = zip(found["owner_tokens"], found["owner_heads"], found["owner_strategy"], strict=True)
    assert list(owners) == [(128, 24, "max_attention"), (64, 24, "max_attention"), (128, 24, "max_attention")]
    assert list(found["owner_score"].round(2)) == list(found["printed"])


def test_ours_minus_published_for_every_cell(published):
    ours = cells(
        ("mme", 192, 16, "sparsity", 1850.0),
        ("mme", pd.NA, pd.NA, "vanilla", 1862.5),
        ("mme", 64, 32, "all_heads", 1295.0),
        ("gqa", 192, 8, "hierarchical", 50.0),
    )
    rows = published.differences(ours)
    assert list(rows["difference"].fillna(-999).round(4)) == [-3.7249, 0.5, 11.0, -999]
    assert list(rows["source"].fillna("")) == ["the study", "LLaVA model zoo", "RESTORE table 1", ""]


def test_our_best_cell_stands_beside_other_methods(published):
    ours = cells(("gqa", 64, 8, "sum", 40.0), ("gqa", 64, 16, "sum", 50.0), ("gqa", 64, pd.NA, "random_tokens", 60.0))
    rows = published.beside(ours)
    assert list(rows["tokens"]) == sorted(rows["tokens"], reverse=True)
    mine = rows[rows["method"] == "headwise, best cell"].iloc[0]
    assert (mine["tokens"], mine["gqa"]) == (64, 50.0)
    assert pd.isna(mine["pope"])
    assert mine["source"] == "this comparison"
    assert len(rows) == 22 + 19 + 1


def test_every_lineage_of_a_method_is_a_row_of_its_own_and_ours_stands_beside_them(published):
    ours = cells(("gqa", 128, pd.NA, "pdrop", 55.0), ("pope", 128, pd.NA, "pdrop", 80.0), ("gqa", 128, 8, "sum", 50.0))
    rows = published.beside(ours)
    pdrop = rows[(rows["tokens"] == 128) & rows["method"].str.contains("pdrop", case=False)].set_index("source")
    assert pdrop["gqa"].to_dict() == {
        "RESTORE table 1": 51.6,
        "ProViP table 1 (copied lineage)": 56.0,
        "EADP table 1": 56.8,
        "this comparison": 55.0,
    }
    assert pdrop.loc["EADP table 1", "mme_p"] == 1421.9
    assert pd.isna(pdrop.loc["EADP table 1", "mme"])
    assert pdrop.loc["this comparison", ["method", "pope"]].tolist() == ["headwise, pdrop", 80.0]


def test_lineages_do_not_change_what_a_cell_is_held_against(published):
    rows = published.differences(cells(("gqa", 128, pd.NA, "all_heads", 54.0)))
    assert rows[["published", "source"]].to_numpy().tolist() == [[54.1, "RESTORE table 1"]]


def test_another_folder_or_file_of_the_same_form_is_taken(tmp_path):
    text = "benchmark,tokens,heads,strategy,metric,value\ngqa,64,8,sparsity,accuracy,50\ngqa,64,8,sparsity,open,40\n"
    (tmp_path / "head_strategy_scores.csv").write_text(text)
    for source in (tmp_path, tmp_path / "head_strategy_scores.csv"):
        found = read_published(source)
        assert found.scores["score"].tolist() == [50]
        assert found.methods.empty
        assert found.best()["score"].tolist()[2] == 50


def test_a_source_that_is_none_and_a_file_without_columns_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="against: no head_strategy_scores.csv"):
        read_published(tmp_path)
    (tmp_path / "head_strategy_scores.csv").write_text("benchmark\n")
    with pytest.raises(DataError, match="lacks the column tokens"):
        read_published(tmp_path)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("head_strategy_scores.csv", "b5beba272bb901910d67b6a7c68802e4ec1b4aafec8d01ecf5c20d5f40495051"),
        ("methods_inside.csv", "a2a1f5e710ebd0e7a53d5d046b0d9f1cd2b45c2502849a7b8c92014e8ef5e24e"),
        ("methods.csv", "0527773aaf6f49787573a3a041063827ce6f182acd8e004393b07c1dec0a92c4"),
    ],
)
def test_the_figures_are_the_published_ones_byte_for_byte(name, digest):
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest
