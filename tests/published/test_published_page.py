"""docs/published-study.md is what its template and the reference files give."""

import importlib.util
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("published_study", TOOLS / "published_study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_page_is_up_to_date(page, golden_files):
    assert page.PAGE.read_text(encoding="utf-8") == page.render(golden_files), "run: python tools/published_study.py"


def test_float16_agreement_is_that_of_the_reference_rankings(page, golden_files):
    rows = {row["strategy"]: row for row in page.float16(golden_files / "strategies.npz")}
    assert [round(share, 2) for share in rows["sparsity"]["shares"]] == [0.67, 0.23, 0.10]
    assert [round(share, 2) for share in rows["hierarchical"]["shares"]] == [0.76, 0.50, 0.25]
    assert rows["hierarchical"]["noise"]
    assert not rows["top_k_sum"]["noise"]
