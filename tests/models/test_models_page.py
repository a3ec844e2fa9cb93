"""docs/models.md and `headwise list models` are what the registry says."""

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from headwise.cli import headwise
from headwise.models import FAMILIES, REFUSED

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("models_page", ROOT / "tools/models_page.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_the_page_is_current(tool):
    assert (ROOT / "docs/models.md").read_text(encoding="utf-8") == tool.page(), "run python tools/models_page.py"


def test_the_page_has_every_prompt_and_every_refusal(tool):
    page = tool.page()
    for family in FAMILIES.values():
        assert family.prompt.replace("\n", "\\n") in page
    assert "[INST] {image}" in page
    assert all(f"| `{name}` | {why} |" in page for name, why in REFUSED.items())


def test_families_and_refusals_are_listed():
    listed = CliRunner().invoke(headwise, ["list", "models", "--json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(listed.output)}
    assert list(rows) == [*FAMILIES, *REFUSED]
    assert rows["qwen2_5_vl"]["image settings"] == "min_pixels=200704, max_pixels=1605632"
    assert rows["qwen2_5_vl"]["refused"] is None
    assert "both ways" in rows["gemma3"]["refused"]
