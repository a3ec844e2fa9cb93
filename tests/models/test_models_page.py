"""docs/models.md is what the registry says."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_current():
    spec = importlib.util.spec_from_file_location("models_page", ROOT / "tools/models_page.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    written = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    assert written == tool.page(), "run python tools/models_page.py"
