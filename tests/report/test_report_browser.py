"""The report in a real browser: it opens from disk and in a sandbox, sorts, filters, and runs nobody else's script."""

from __future__ import annotations

import html
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from headwise.analysis import tables
from headwise.analysis.findings import find, over_benchmarks
from headwise.analysis.recommendation import recommend
from headwise.report.page import Files, build
from headwise.study.grids import Grid, as_numbers

By = pytest.importorskip("selenium.webdriver.common.by").By


@pytest.fixture(scope="session")
def page(study, tmp_path_factory) -> Path:
    findings = {name: find(name, study.of(name), study.verdicts(name)) for name in study.benchmarks}
    overall = over_benchmarks(list(findings.values()))
    strategies = pd.concat([tables.strategies(overall)] * 20, ignore_index=True)  # so many that they can be filtered
    shown = {"recommendation": recommend(overall.cells), "strategies": strategies}
    analysis = SimpleNamespace(comparison=study, findings=findings, overall=overall, tables=shown, score_tables={})
    links = {"runs": 'http://127.0.0.1:5000/#/runs?a=1&b="2"'}
    merged = merging(study.artifact("gqa6", "evidence.npz"), tmp_path_factory.mktemp("merged"))
    tiles = tiled(study.artifact("pope6", "evidence.npz"), tmp_path_factory.mktemp("tiled"))
    made = {("gqa6", "evidence.npz"): merged} | {(f"pope{cell}", "evidence.npz"): tiles for cell in range(7)}
    files = Files(
        artifact=lambda run, name: made.get((run, name)) or study.artifact(run, name),
        image=study.image,
        links=links,
    )
    report = build(analysis, files, {"gqa": "GQA"})
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.html, encoding="utf-8")
    return path


def merging(evidence: Path, folder: Path) -> Path:
    """The same evidence as that of a method that pools rows 16 to 23 to 2 × 6, and adds [CLS]."""
    with np.load(evidence) as file:
        content = dict(file)
    grid = np.arange(576).reshape(24, 24)
    below = grid // 24 >= 16
    area = np.where(below, (grid // 24 - 16) // 4 * 6 + grid % 24 // 4 + 1, 0).ravel()
    kept = np.unpackbits(content["kept_NV"], axis=1).astype(bool) & ~below.ravel()
    content |= {"kept_NV": np.packbits(kept, axis=1), "areas_NV": np.tile(area.astype(np.uint16), (60, 1))}
    stages = {"stage_layers": [0], "stages_GNV": content["kept_NV"][None], "merged_GN": np.full((1, 60), 13)}
    np.savez(folder / "evidence.npz", **content | stages)
    return folder / "evidence.npz"


# As LLaVA-NeXT sees a wide picture: the whole as 2 x 2 tokens, and 3 rows of 4 on it, each with a newline.
VIEWS = (Grid(2, 2, 0, 0.125, 1, 0.875), Grid(3, 4, 0, 0.125, 1, 0.875, newline=True))
# The whole's first token, row 2's third, and the newline of row 1.
KEPT = (0, 4 + 5 + 2, 4 + 4)


def tiled(evidence: Path, folder: Path) -> Path:
    """The same evidence of a model that sees pictures in such views."""
    with np.load(evidence) as file:
        content = dict(file)
    kept = np.zeros((60, 19), dtype=bool)
    kept[:, list(KEPT)] = True
    content |= {"kept_NV": np.packbits(kept, axis=1), "visual": 19, "visual_N": np.full(60, 19)}
    grids = {"grids_G7": np.array(as_numbers(VIEWS) * 60, dtype=np.float32), "grids_N": np.full(60, 2)}
    np.savez(folder / "evidence.npz", **content | grids)
    return folder / "evidence.npz"


@pytest.fixture
def opened(browser, page):
    browser.get(page.as_uri())
    return browser


def column(browser, table: str, place: int) -> list[str]:
    rows = "[...document.querySelectorAll(`#${arguments[0]} tbody tr`)]"
    return browser.execute_script(f"return {rows}.map(r => r.cells[arguments[1]].dataset.value)", table, place)


def heading(browser, table: str, title: str):
    buttons = browser.find_elements(By.CSS_SELECTOR, f"#{table} th button")
    return next((place, b) for place, b in enumerate(buttons) if b.text.startswith(title))


def fill(browser, name: str, value: object) -> None:
    """Set a field as a user would: its value, then the event."""
    script = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind));"
    )
    browser.execute_script(script, name, value)


def listed(browser) -> list[str]:
    return [button.text for button in browser.find_elements(By.CSS_SELECTOR, "#samples-list button")]


def test_it_opens_without_an_error_and_loads_nothing_else(opened):
    assert opened.title == "headwise: m"
    assert opened.get_log("browser") == []
    loaded = opened.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_what_models_and_datasets_say_stays_text(opened):
    assert opened.title == "headwise: m"
    assert "<script>document.title=" in opened.find_element(By.ID, "samples-answers").text
    assert "What is <b>" in opened.find_element(By.ID, "samples-question").text
    assert opened.find_element(By.CSS_SELECTOR, ".notes").text == "a note about <b>cells</b>"


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_around(opened):
    place, button = heading(opened, "scores_gqa", "score")
    button.click()
    falling = [float(value) for value in column(opened, "scores_gqa", place)]
    assert falling == sorted(falling, reverse=True)
    button.click()
    rising = [float(value) for value in column(opened, "scores_gqa", place)]
    assert rising == sorted(rising)
    place, button = heading(opened, "scores_gqa", "strategy")
    button.click()
    assert column(opened, "scores_gqa", place)[0] == "vanilla"


def test_missing_values_sort_below_numbers(opened):
    place, button = heading(opened, "scores_gqa", "tokens")
    button.click()
    assert column(opened, "scores_gqa", place)[-1] == ""


def test_a_long_table_is_filtered_and_no_two_things_have_one_name(opened):
    script = "return [...document.querySelectorAll('[id]')].map(e => e.id)"
    names = opened.execute_script(script)
    assert len(names) == len(set(names))
    filters = opened.find_element(By.CSS_SELECTOR, "input[data-filters='strategies']")
    filters.send_keys("sparsity")
    shown = opened.execute_script(
        "const rows = [...document.querySelectorAll('#strategies tbody tr')];"
        "return rows.filter(r => r.offsetParent).map(r => r.cells[0].innerText);"
    )
    assert set(shown) == {"sparsity"}


def test_samples_are_filtered_by_disagreement_and_words(opened):
    everything = listed(opened)
    assert len(everything) == 24
    assert "24 of 24 embedded questions (of 60" in opened.find_element(By.ID, "samples-count").text
    fill(opened, "samples-least", 45)
    some = listed(opened)
    assert 0 < len(some) < 24
    fill(opened, "samples-least", 0)
    word = everything[3].split()[-1].removeprefix("<b>").removesuffix("</b>?")
    fill(opened, "samples-words", f"{word}<")
    assert listed(opened) == [everything[3]]
    fill(opened, "samples-words", "no such word")
    assert listed(opened) == []
    assert not opened.find_element(By.ID, "samples-detail").is_displayed()


def test_the_rule_shows_questions_that_pruning_broke(opened, study):
    fill(opened, "samples-rule", "broken")
    correct = study.verdicts("gqa").correct_CQ
    broken = {f"q{place}" for place in range(60) if correct[0, place] == 1 and correct[1:, place].min() == 0}
    names = {text.split("<b>")[1].split("</b>")[0] for text in listed(opened)}
    assert names
    assert names <= broken


def test_a_click_on_a_configuration_shows_what_it_kept(opened, study):
    opened.find_elements(By.CSS_SELECTOR, "#samples-answers tr")[2].click()
    text = opened.find_element(By.ID, "samples-kept-text").text
    name, count = text.split(": ")
    assert name == study.of("gqa")["configuration"][2]
    clear = opened.execute_script(
        "const c = document.getElementById('samples-kept'), p = c.getContext('2d'), s = c.width / 24; let n = 0;"
        "for (let i = 0; i < 576; i++)"
        " n += p.getImageData((i % 24 + 0.5) * s, (Math.floor(i / 24) + 0.5) * s, 1, 1).data[3] === 0;"
        "return n;"
    )
    assert count == f"{clear} of 576 tokens kept"


def test_merged_rows_are_drawn_as_the_areas_that_they_come_from(opened):
    opened.find_elements(By.CSS_SELECTOR, "#samples-answers tr")[6].click()
    text = opened.find_element(By.ID, "samples-kept-text").text
    colours = opened.execute_script(
        "const c = document.getElementById('samples-kept'), p = c.getContext('2d'), s = c.width / 24;"
        "const at = (row, column) => [...p.getImageData((column + 0.5) * s, (row + 0.5) * s, 1, 1).data].join();"
        "return Array.from({ length: 24 }, (_, row) => Array.from({ length: 24 }, (_, column) => at(row, column)));"
    )
    areas = [[colours[row][column] for row in range(top, top + 4) for column in range(left, left + 4)]
             for top in (16, 20) for left in range(0, 24, 4)]  # fmt: skip
    assert all(len(set(area)) == 1 for area in areas)
    assert len({area[0] for area in areas}) == 6  # the colours, in turn
    above = {colour for row in colours[:16] for colour in row}
    assert len(above) == 2
    assert not above & {area[0] for area in areas}
    assert text.endswith(
        "12 merged or added rows, in colour where each comes from; 1 more comes from no place in the image"
    )


def test_tokens_of_tiles_are_drawn_where_they_lie_and_newlines_are_counted(opened):
    fill(opened, "samples-benchmark", "1")
    opened.find_elements(By.CSS_SELECTOR, "#samples-answers tr")[2].click()
    text = opened.find_element(By.ID, "samples-kept-text").text
    name, count = text.split(": ")
    assert name == "192/8/sparsity"
    assert count.startswith("3 of 19 tokens kept, 1 of them a newline without a place; tiles and the view of the whole")
    clear = opened.execute_script(
        "const c = document.getElementById('samples-kept'), p = c.getContext('2d'), s = c.width / 48;"
        "const at = (row, column) => p.getImageData((column + 0.5) * s, (row + 0.5) * s, 1, 1).data[3] === 0;"
        "return Array.from({ length: 48 }, (_, row) => Array.from({ length: 48 }, (_, column) => at(row, column)));"
    )
    wanted = np.zeros((48, 48), dtype=bool)
    wanted[6:24, :24] = True  # a quarter of the picture
    wanted[18:30, 24:36] = True
    assert np.array(clear).tolist() == wanted.tolist()


def test_the_other_benchmark_can_be_chosen(opened):
    fill(opened, "samples-benchmark", "1")
    assert "document.title='vanilla'" in opened.find_element(By.ID, "samples-answers").text
    assert len(listed(opened)) == 24


def test_it_works_inside_a_sandboxed_frame(browser, page, tmp_path):
    """The MLflow UI shows an HTML artifact in a frame that may run scripts and nothing else."""
    inner = html.escape(page.read_text(encoding="utf-8"), quote=True)
    outer = tmp_path / "outer.html"
    frame = f'<iframe sandbox="allow-scripts" style="width:1100px;height:1500px" srcdoc="{inner}"></iframe>'
    outer.write_text(f'<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">{frame}', encoding="utf-8")
    browser.get(outer.as_uri())
    browser.switch_to.frame(0)
    assert len(listed(browser)) == 24
    place, button = heading(browser, "scores_gqa", "score")
    button.click()
    values = [float(value) for value in column(browser, "scores_gqa", place)]
    assert values == sorted(values, reverse=True)
    browser.switch_to.default_content()
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
