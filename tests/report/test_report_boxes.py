"""Boxes in the sample browser of a real report: they lie where the scorer measures them, in each convention."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from headwise import tracking
from headwise.benchmarks import BENCHMARKS
from headwise.benchmarks.boxes import into_square
from headwise.cli import headwise
from headwise.records import Answer, Failure
from headwise.scoring.score import score_records, write_verdicts

By = pytest.importorskip("selenium.webdriver.common.by").By

GREEN = (0, 220, 0)
# Wide, tall and odd images by size, with the box of a green object.
OBJECTS = [((400, 200), (40, 60, 180, 190)), ((151, 300), (10, 200, 140, 290)), ((1201, 601), (700, 50, 1150, 420))]
SIDE = 288


def thousandths(box, width, height):
    return [round(1000 * value / size) for value, size in zip(box, (width, height) * 2, strict=True)]


def fractions(box, width, height):
    return [round(value / size, 4) for value, size in zip(box, (width, height) * 2, strict=True)]


def pixels(box, width, height):
    """Pixels where the rule knows them by a number above 1,000, else thousandths."""
    return list(box) if max(box) > 1000 else thousandths(box, width, height)


def square(box, width, height):
    return [round(value, 4) for value in into_square(box, width, height)]


RULES = {
    "refcoco": square,
    "refcoco.lmms-image-v1": fractions,
    "refcoco.vlmevalkit-v1": pixels,
}


def halved(box):
    """The left half of a box: IoU 0.5."""
    x1, y1, x2, y2 = box
    return x1, y1, (x1 + x2) / 2, y2


STRATEGIES = ("vanilla", "sum", "sparsity", "variance")


def said(strategy, number, space, size, box):
    """The whole box, its left half, nothing or a failure, and numbers that make no sense."""
    if strategy == "vanilla":
        return f"It is at {space(box, *size)}."
    if strategy == "sum":
        return str(space(halved(box), *size))
    if strategy == "sparsity":
        return ("left of the door", "", None)[number]
    return ("[0.9, 0.8, 0.1, 0.2]", f"[0, 0, {'9' * 400}, 1]", "[-5.0, -5.0, -4.0, -4.5]")[number]


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("boxes") / "refcoco"
    folder.mkdir()
    rows = []
    for number, (size, box) in enumerate(OBJECTS):
        image = Image.new("RGB", size, (120, 120, 120))
        ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), GREEN)
        image.save(folder / f"{number}.png")
        rows.append(
            {"image": f"{number}.png", "sent": f"object {number}", "bbox": box}
            | dict(zip(("width", "height"), size, strict=True))
        )
    (folder / "refcoco_val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder.parent


@pytest.fixture(scope="module")
def page(tmp_path_factory, empty_store, data_dir) -> Path:
    """The report that `compare` logs for a study of all three rules."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        with tracking.open_study({"strategy": list(STRATEGIES[1:])}) as study:
            for rule, space in RULES.items():
                for strategy in STRATEGIES:
                    log(study, folder / "files" / rule / strategy, data_dir, rule, strategy, space)
        CliRunner().invoke(headwise, ["compare", "--include-incomplete", "--report"], catch_exceptions=False)
    (found,) = folder.rglob("report.html")
    return found


def log(study, files, data_dir, rule, strategy, space):
    samples = BENCHMARKS[rule].samples(data_dir)
    records = []
    for number, (sample, (size, box)) in enumerate(zip(samples, OBJECTS, strict=True)):
        text = said(strategy, number, space, size, box)
        made = Failure if text is None else Answer
        what = {"error": "image unreadable"} if text is None else {"text": text}
        records.append(made(question_id=sample.question_id, prompt=sample.prompt, **what))
    card, verdicts = score_records(rule, data_dir, records)
    write_verdicts(files, verdicts)
    (files / "answers.jsonl").write_text("".join(json.dumps(vars(record)) + "\n" for record in records))
    kept = np.packbits(np.arange(3 * 576).reshape(3, 576) % 9 == 0, axis=1)
    none = np.zeros((3, 4), np.uint8)
    np.savez_compressed(files / "evidence.npz", head_count=32, visual=576, heads_NH=none, kept_NV=kept)
    heads = {} if strategy == "vanilla" else {"heads": 8}
    tracking.log_cell(
        study,
        params={"model": "m", "benchmark": rule, "strategy": strategy, "tokens": 64, "data_dir": str(data_dir)} | heads,
        metrics=card.as_metrics() | {"kept_tokens": 64},
        tags={},
        folder=files,
        dataset={"name": rule, "digest": "d", "source": "drawn"},
        note="drawn",
    )


def choose(browser, rule, number, strategy):
    """Show the question about image `number` under a rule, and the answer of a strategy."""
    part = list(RULES).index(rule)
    browser.execute_script(
        "const s = document.getElementById('samples-benchmark'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change'));",
        str(part),
    )
    question = next(
        b for b in browser.find_elements(By.CSS_SELECTOR, "#samples-list button") if f"object {number}" in b.text
    )
    question.click()
    rows = browser.find_elements(By.CSS_SELECTOR, "#samples-answers tr")
    next(row for row in rows if strategy in row.text.split()[0]).click()
    return browser.find_element(By.ID, "samples-boxes-text").text


def drawn(browser, look):
    """Corners of a box on the picture, in fractions of it; None where none is drawn."""
    script = (
        "const found = document.querySelectorAll(`#samples-boxes rect.${arguments[0]}`);"
        "if (!found.length) return null;"
        "const p = document.getElementById('samples-image').getBoundingClientRect();"
        "const layer = document.getElementById('samples-boxes').getScreenCTM(), r = found[0].getBBox();"
        "return [layer.a * r.x + layer.e - p.x, layer.d * r.y + layer.f - p.y,"
        " layer.a * (r.x + r.width) + layer.e - p.x, layer.d * (r.y + r.height) + layer.f - p.y]"
        ".map((v, i) => v / (i % 2 ? p.height : p.width));"
    )
    return browser.execute_script(script, look)


def seen(browser):
    """Corners of the green object in the picture as it is displayed, in fractions of it."""
    script = (
        "const c = document.createElement('canvas'); c.width = c.height = 288; const p = c.getContext('2d');"
        "p.drawImage(document.getElementById('samples-image'), 0, 0, 288, 288);"
        "const d = p.getImageData(0, 0, 288, 288).data; let x1 = 288, y1 = 288, x2 = 0, y2 = 0;"
        "for (let i = 0; i < 288 * 288; i++) if (d[4 * i + 1] - d[4 * i] > 110) {"
        " const x = i % 288, y = Math.floor(i / 288);"
        " x1 = Math.min(x1, x); y1 = Math.min(y1, y); x2 = Math.max(x2, x + 1); y2 = Math.max(y2, y + 1); }"
        "return [x1, y1, x2, y2].map(v => v / 288);"
    )
    return browser.execute_script(script)


def near(box):
    return pytest.approx(box, abs=2 / SIDE)


def test_boxes_lie_where_the_scorer_measures_them_in_every_convention(browser, page):
    browser.get(page.as_uri())
    for rule in RULES:
        for number in range(len(OBJECTS)):
            assert choose(browser, rule, number, "vanilla").split(": ", 1)[1].startswith("IoU 1.00")
            green = seen(browser)
            assert drawn(browser, "truth") == near(green), (rule, number)
            assert drawn(browser, "said") == near(green), (rule, number)
            assert "IoU 0.50" in choose(browser, rule, number, "sum")
            assert drawn(browser, "said") == near(halved(green)), (rule, number)
            assert "IoU" not in choose(browser, rule, number, "sparsity")
    assert browser.get_log("browser") == []


def test_what_is_no_box_is_said_and_not_drawn(browser, page):
    browser.get(page.as_uri())
    for number, why in enumerate(("no box in the answer", "no box in the answer", "no answer")):
        assert why in choose(browser, "refcoco", number, "sparsity")
        assert drawn(browser, "said") is None
        assert drawn(browser, "truth") == near(seen(browser))


def test_boxes_that_make_no_sense_are_drawn_as_measured_and_explained(browser, page):
    browser.get(page.as_uri())
    assert "corners are in the wrong order" in choose(browser, "refcoco", 0, "variance")
    assert drawn(browser, "said") == near([0.1, 0.2, 0.9, 0.8])
    assert "IoU 0.00" in choose(browser, "refcoco", 1, "variance")
    assert drawn(browser, "said")[:2] == near([0, 0])
    assert "lies outside the picture" in choose(browser, "refcoco", 2, "variance")


def test_boxes_lie_over_the_kept_tokens_and_stay_on_the_whole_image(browser, page):
    browser.get(page.as_uri())
    choose(browser, "refcoco", 0, "sum")
    assert browser.find_element(By.ID, "samples-kept-text").text == "64/8/sum: 64 of 576 tokens kept"
    browser.find_element(By.ID, "samples-whole").click()
    assert not browser.find_element(By.ID, "samples-kept").is_displayed()
    assert browser.find_element(By.ID, "samples-boxes").is_displayed()
    assert drawn(browser, "truth") == near(seen(browser))
