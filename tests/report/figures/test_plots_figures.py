"""Figures show what they are given, at a size MLflow can show, and leave matplotlib's settings alone."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from headwise.report import figures
from headwise.report.figures.overlays import faded

STRATEGIES = ("sum", "sparsity", "entropy")


@pytest.fixture
def cells() -> pd.DataFrame:
    rows = [("vanilla", None, None, 90.0)]
    rows += [(s, t, h, t / 4 + h + n) for n, s in enumerate(STRATEGIES) for t in (192, 64) for h in (16, 8)]
    rows += [("all_heads", t, None, t / 4) for t in (192, 64)]
    table = pd.DataFrame(rows, columns=["strategy", "tokens", "heads", "score"])
    table = table.astype({"tokens": "Int64", "heads": "Int64"})
    table["configuration"] = [f"{t}/{h}/{s}" for s, t, h, _ in rows]
    flops = np.where(table["tokens"].isna(), 9.0, table["tokens"].fillna(0).astype(float) / 50)
    inside = table["score"].between(60, 80)
    return table.assign(low=table["score"] - 3, high=table["score"] + 2, in_best_set=inside, flops=flops)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text)]


def test_heat_maps_write_every_score_once_and_dashes_for_holes(cells):
    figure = figures.heat_maps(cells.drop(index=1), "GQA", "%")
    written = texts(figure)
    for score in cells.loc[2:12, "score"]:
        assert f"{score:.1f}" in written
    assert written.count("–") == 1
    assert set(STRATEGIES) <= set(written)


def test_score_by_tokens_draws_each_interval_where_its_score_is(cells):
    figure = figures.score_by_tokens(cells, "GQA", "%")
    (ax,) = figure.axes
    segments = [s for c in ax.collections for s in c.get_segments() if len(s) == 2 and abs(s[1][1] - s[0][1]) == 5]
    drawn = sorted((low, high) for (_, low), (_, high) in segments)
    own = cells[cells["strategy"].isin(STRATEGIES)]
    assert drawn == sorted(zip(own["low"], own["high"], strict=True))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["64", "192"] * 3


def test_cells_that_differ_in_more_than_strategy_are_series_of_their_own(cells):
    """A mean over two queries, or one of the two, would be drawn under the strategy's name."""
    other = cells.assign(label=cells["strategy"] + " text_tokens_only", score=cells["score"] + 1)
    both = pd.concat([cells.assign(label=cells["strategy"]), other[other["heads"].notna()]], ignore_index=True)
    maps = figures.heat_maps(both, "GQA", "%")
    blocks = [np.asarray(image.get_array()) for image in maps.axes[0].images]
    assert len(blocks) == 6
    assert (blocks[1] == blocks[0] + 1).all()
    (ax,) = figures.score_by_tokens(both, "GQA", "%").axes
    assert {"sum", "sum\ntext_tokens_only"} <= {text.get_text() for text in ax.texts}


def test_methods_without_heads_have_a_line_each_and_other_controls_a_dash_of_their_own(cells):
    rows = [("fastv", t, None, "method", t / 5) for t in (192, 64)] + [
        ("pool", t, None, "control", 20) for t in (192, 64)
    ]
    more = pd.DataFrame(rows, columns=["strategy", "tokens", "heads", "role", "score"])
    both = pd.concat([cells, more.assign(low=1.0, high=2.0, in_best_set=False)], ignore_index=True)
    figure = figures.score_by_tokens(both.astype({"tokens": "Int64", "heads": "Int64"}), "GQA", "%")
    line = [line for line in figure.axes[0].lines if line.get_ydata()[0] == pytest.approx(64 / 5)]
    assert [each.get_ydata().tolist() for each in line] == [pytest.approx([12.8, 38.4])]
    assert {"pool", "no heads", "8 heads"} <= set(texts(figure))


def test_best_set_fills_what_is_in_it(cells):
    figure = figures.draw_best_set(cells, "GQA", "%")
    faces = figure.axes[0].collections[-1].get_facecolors()
    filled = (faces[:, :3] != 1).any(axis=1)
    ranked = cells[cells["strategy"] != "vanilla"].sort_values("score", ascending=False, kind="stable")
    assert filled.tolist() == ranked["in_best_set"].tolist()
    assert f"{int(ranked['in_best_set'].sum())} of 14 configurations" in " ".join(texts(figure))


def test_accuracy_against_cost_joins_the_front(cells):
    table = cells.assign(front_flops=cells["score"].isin([90.0, 66.0]))
    figure = figures.accuracy_against_cost(table, "flops", "GQA", "%")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "Pareto front")
    assert line.get_ydata().tolist() == [66, 90]


def test_head_frequency_has_a_panel_a_number_of_heads():
    maps = {n: pd.DataFrame(np.eye(3, 32), index=list(STRATEGIES)) for n in (16, 8)}
    figure = figures.head_frequency(maps, "GQA")
    assert "16 of 32 heads (by chance 0.50)" in texts(figure)
    assert (figure.axes[1].images[0].get_array() == np.eye(3, 32)).all()


def test_overlap_has_heads_above_and_tokens_below_the_diagonal():
    names = list(STRATEGIES)
    heads, kept = (pd.DataFrame(np.full((3, 3), value), index=names, columns=names) for value in (0.25, 0.75))
    shown = np.asarray(figures.overlap(heads, kept, "GQA").axes[0].images[0].get_array())
    assert shown[0, 2] == 0.25
    assert shown[2, 0] == 0.75


def test_dropped_patches_are_shaded_and_kept_ones_are_not():
    kept = np.array([[True, False], [False, True]])
    shaded = faded(np.full((4, 4, 3), 200, np.uint8), kept)
    assert shaded[:2, :2].min() == 200
    assert shaded[:2, 2:].max() == 40


def test_a_dark_image_is_covered_with_light():
    shaded = faded(np.full((2, 2, 3), 20, np.uint8), np.array([[True, False], [False, True]]))
    assert shaded[0, 0].max() == 20
    assert shaded[0, 1].min() > 180


def test_areas_of_merged_rows_are_tinted_each_with_its_border():
    kept, area = np.zeros((4, 4), bool), np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0] * 4, [0] * 4])
    kept[0, 0] = True
    plain = faded(np.full((40, 40, 3), 200, np.uint8), kept)
    shaded = faded(np.full((40, 40, 3), 200, np.uint8), kept, area)
    assert (shaded[5, 5] == 200).all()  # kept as it is, whatever else it is part of
    assert (shaded[20:] == plain[20:]).all()
    first, second = shaded[15, 5], shaded[15, 35]
    assert (first != second).any()
    assert min(first.max(), second.max()) > plain[15, 5].max()
    assert shaded[15, 19].min() == shaded[19, 5].min() == 235
    assert (shaded[12:18, 22:38] == second).all()


def test_a_merged_row_without_an_area_is_counted_alone():
    overlay = figures.Overlay("64/visionzip", "no", 0.0, np.ones((4, 4), bool), merged=11)
    figure = figures.kept_tokens([figures.Seen("Is it?", "yes", np.zeros((8, 8, 3), np.uint8), [overlay])], "GQA")
    assert "+11 merged" in texts(figure)


def test_kept_tokens_tell_right_from_wrong():
    everything = np.ones((4, 4), bool)
    overlays = [figures.Overlay(name, "<b>no</b>", right, everything) for name, right in (("a", 1.0), ("b", 0.0))]
    figure = figures.kept_tokens([figures.Seen("Is it?", "yes", np.zeros((8, 8, 3), np.uint8), overlays)], "GQA")
    written = texts(figure)
    assert "a\n✓ <b>no</b>" in written
    assert "b\n✗ <b>no</b>" in written


def test_boxes_lie_on_the_image_and_leave_its_view_alone():
    everything, image = np.ones((4, 4), bool), np.zeros((100, 100, 3), np.uint8)
    overlays = [
        figures.Overlay("a", "", 1.0, everything, box=(0.5, 0.2, 9.0, 0.8)),
        figures.Overlay("b", "", 0.0, everything),
    ]
    figure = figures.kept_tokens([figures.Seen("Where?", "", image, overlays, (0.1, 0.2, 0.5, 0.8))], "RefCOCO")
    _, first, second = figure.axes
    corners = [(patch.get_xy(), patch.get_width(), patch.get_height()) for patch in first.patches]
    assert corners[1] == ((9.5, 19.5), pytest.approx(40), pytest.approx(60))  # the true box; below it its white edge
    assert corners[3][0] == (49.5, 19.5)
    assert len(second.patches) == 2
    assert figure.png
    assert first.get_xlim() == (-0.5, 99.5)


def test_dollar_signs_in_answers_are_no_formulas():
    overlay = figures.Overlay("64/8/sum", "$\\frac$", 0.0, np.ones((4, 4), bool))
    figure = figures.kept_tokens([figures.Seen("$x_{$?", "$1", np.zeros((8, 8, 3), np.uint8), [overlay])], "POPE")
    assert figure.png


def test_a_picture_is_960_pixels_wide_and_small(cells):
    data = figures.score_by_tokens(cells, "GQA", "%").png
    assert Image.open(io.BytesIO(data)).width == 960
    assert len(data) < 100_000


def test_drawing_leaves_matplotlib_as_it_was(cells):
    before = mpl.rcParams["font.size"], mpl.get_backend()
    figures.heat_maps(cells, "GQA", "%")
    assert (mpl.rcParams["font.size"], mpl.get_backend()) == before


@pytest.mark.parametrize("score", [90.0, -20.0], ids=["vanilla highest", "vanilla lowest"])
def test_the_name_of_the_reference_line_is_not_cut_off(cells, score):
    cells.loc[cells["strategy"] == "vanilla", "score"] = score
    figure = figures.draw_best_set(cells, "GQA", "%")
    assert figure.png
    (name,) = [text for text in figure.findobj(mpl.text.Text) if text.get_text() == "vanilla"]
    place = name.get_window_extent()
    assert figure.axes[0].bbox.x0 <= place.x0
    assert place.x1 <= figure.bbox.x1
