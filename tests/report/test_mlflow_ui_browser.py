"""The pages of a real MLflow server that compare's links name, in a real browser: runs, best set, the report."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from live_server import free_port, tracking_server

sys.path.insert(0, str(Path(__file__).parent))
from mlflow_store import QUESTIONS, SHARES, log_study  # noqa: E402

# Seconds for the UI's script to load and show something, on a busy machine.
PATIENCE = 120
# What the MLflow UI asks of a server without accounts, and logs the refusal of.
OWN = re.compile(r"/ajax-api/\S*/users/current")


@pytest.fixture(scope="module")
def links(browser, tmp_path_factory) -> Iterator[dict[str, str]]:
    """The links that `headwise compare` prints, by name, with their server running."""
    from headwise.cli import headwise

    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        study = log_study(folder / "cells")
        port = free_port()
        with tracking_server(folder, port):
            patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            done = CliRunner().invoke(headwise, ["compare", "--study", study], catch_exceptions=False)
            yield dict(re.findall(r"^(.+): (http\S+)$", done.stderr, re.MULTILINE))


def shown(browser, link: str, *texts: str) -> str:
    """Open a link and wait until the page has all of these texts; the page's text."""
    browser.get("about:blank")  # another address behind the # alone would not load the page anew
    browser.get_log("browser")
    browser.get(link)
    return until(lambda: found if all(each in (found := text(browser)) for each in texts) else None)


def text(browser) -> str:
    return browser.execute_script("return document.body.innerText")


def until(look: Callable):
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if (found := look()) is not None:
            return found
        time.sleep(0.5)
    raise AssertionError("the page did not show it in time")


def errors(browser) -> list[str]:
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    return [message for message in severe if not OWN.search(message)]


def test_the_runs_table_shows_the_study_s_cells_best_first(browser, links):
    page = shown(browser, links["runs compared"], *(f"gqa-{tokens}-8-{name}" for name, tokens in SHARES))
    names = [tuple(place) for place in re.findall(r"^gqa-(\d+)-8-(\w+)$", page, re.MULTILINE)]
    assert len(names) == len(SHARES)
    assert "matching runs" in page
    assert names[0] == ("576", "vanilla")
    assert {tokens for tokens, _ in names[-2:]} == {"64"}
    assert "compare-" not in page  # the filter leaves studies and comparisons out
    assert errors(browser) == []


def test_the_compare_page_shows_the_best_set(browser, links):
    page = shown(browser, links["best set of gqa"], "gqa-192-8-sum", "gqa-192-8-sparsity", "prefill_seconds")
    assert "Comparing 2 Runs" in page
    assert "gqa-64-8-sum" not in page
    assert errors(browser) == []


def test_the_report_works_inside_the_artifact_viewer(browser, links):
    viewer = links["this comparison"].replace("?", "/artifacts/report.html?")
    shown(browser, viewer, "report.html", "compare.md", "figures")
    frame = until(lambda: next(iter(browser.find_elements("css selector", "iframe")), None))
    browser.switch_to.frame(frame)
    try:
        until(lambda: browser.find_elements("css selector", "#samples-list button") or None)
        sorts(browser)
        filters(browser)
    finally:
        browser.switch_to.default_content()
    assert errors(browser) == []


def sorts(browser) -> None:
    values = "return [...document.querySelectorAll('#scores_gqa tbody tr')].map(row => row.cells[4].dataset.value)"
    assert browser.execute_script("return document.querySelectorAll('#scores_gqa th')[4].innerText").startswith("score")
    for falling in (True, False):
        browser.execute_script("document.querySelectorAll('#scores_gqa th button')[4].click()")
        found = [float(value) for value in browser.execute_script(values)]
        assert len(found) == len(SHARES)
        assert found == sorted(found, reverse=falling)


def filters(browser) -> None:
    count = "return document.querySelectorAll('#samples-list button').length"
    move = "const e = document.getElementById('samples-least'); e.value = 45; e.dispatchEvent(new Event('input'))"
    everything = browser.execute_script(count)
    browser.execute_script(move)
    assert 0 < browser.execute_script(count) < everything <= QUESTIONS
