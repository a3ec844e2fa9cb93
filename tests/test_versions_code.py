"""Versions that code carries: what of code counts, and that none changes without its version."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from versions import golden_versions, problems, units

from headwise.study.versions import carried, source_digest

CODE = '''
LIMIT = 3
NAMES = ("a", "b")

class Base:
    """A class."""
    def half(self, x: int) -> float:
        return x / 2

class Thing(Base):
    def twice(self, x):
        # a comment
        return _helped(x) * 2

def _helped(x):
    """Text."""
    return min(x, LIMIT)

def root(x: int) -> float:
    return Thing().twice(x) + len(NAMES)
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    """A maker of modules from source, each in a file and a package of its own."""

    def made(source: str, name: str = "plugged") -> ModuleType:
        path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, loaded)
        spec.loader.exec_module(loaded)
        return loaded

    return made


def test_no_code_changes_without_its_version() -> None:
    assert not problems(units(), golden_versions())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("min(x, LIMIT)", "max(x, LIMIT)"),
        ('("a", "b")', '("a", "c")'),
        ("x / 2", "x / 3"),
        ("* 2", "* 2.0"),
    ],
)
def test_a_change_anywhere_in_what_is_used_is_another_digest(
    module: Callable[..., ModuleType], before: str, after: str
) -> None:
    assert before in CODE
    assert source_digest(module(CODE).root) != source_digest(module(CODE.replace(before, after)).root)


def test_comments_texts_annotations_imports_and_place_do_not_count(module: Callable[..., ModuleType]) -> None:
    plain = CODE.replace("# a comment", "").replace('"""Text."""', "").replace("x: int) -> float", "x)")
    moved = "import math\nfrom os import path\n\n\n" + plain
    assert source_digest(module(CODE).root) == source_digest(module(moved, "elsewhere").root)


def test_what_is_set_apart_is_not_followed(module: Callable[..., ModuleType]) -> None:
    first = module(CODE)
    second = module(CODE.replace("min(", "max(").replace('"b"', '"c"'))
    assert source_digest(first.root, apart=[first.Thing, first.NAMES]) == source_digest(
        second.root, apart=[second.Thing, second.NAMES]
    )


def test_a_unit_of_another_package_is_kept_under_its_code_too(module: Callable[..., ModuleType]) -> None:
    before, after = carried(2, module(CODE).root), carried(2, module(CODE.replace("min(", "max(")).root)
    assert before.startswith("2+")
    assert before != after
    assert carried(2, carried) == "2"


def test_changed_code_is_named_with_what_to_do() -> None:
    found, golden = units(), golden_versions()
    changed = golden | {"strategy sparsity": golden["strategy sparsity"] | {"digest": "other"}}
    (line,) = problems(found, changed)
    assert "strategy sparsity: its code changed" in line
    assert "raise `version` of sparsity in heads.STRATEGIES" in line
    raised = found | {"engine": replace(found["engine"], version="99")}
    assert problems(raised, golden) == ["engine: version 99 is new; run `python tests/versions.py --accept`"]
