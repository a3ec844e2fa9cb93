"""Finding entries in a package and in the entry points of other packages."""

import importlib
import sys
from importlib.metadata import EntryPoint

import pytest

from headwise.errors import ConfigError
from headwise.study import registry
from headwise.study.registry import Registry

BASE = "class Base:\n    name = ''\n"
ONE = "from shop.base import Base\nclass One(Base):\n    name = 'one'\n"
TWO = f"from shop.one import One\n{ONE.replace('One', 'Two').replace('one', 'two')}class Part(Base):\n    pass\n"


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A package `shop` with the entries one and two, its registry, and a way to set the entry points."""
    folder = tmp_path / "shop"
    folder.mkdir()
    files = {"__init__": "", "base": BASE, "one": ONE, "two": TWO, "_helper": "raise RuntimeError('imported')\n"}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    points: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in points if point.group == group])
    yield folder, points, lambda: Registry("thing", importlib.import_module("shop.base").Base, "shop", "shop.things")
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


def point(value: str) -> EntryPoint:
    return EntryPoint("plug", value, "shop.things")


def test_entries_of_the_package_by_name(shop):
    things = shop[2]()
    assert list(things) == ["one", "two"]
    assert type(things["two"]).__name__ == "Two"
    assert things["one"] is things["one"]


def test_an_unknown_name_lists_the_known(shop):
    things = shop[2]()
    assert "three" not in things
    with pytest.raises(ConfigError, match="^thing: 'three' is not one of one, two$"):
        things["three"]


def test_a_new_file_is_a_new_entry(shop):
    folder, _, things = shop
    (folder / "three.py").write_text(ONE.replace("one", "three"))
    importlib.invalidate_caches()
    assert list(things()) == ["one", "three", "two"]


@pytest.mark.parametrize("value", ["outside", "outside:Other"])
def test_entry_points_of_other_packages(shop, value):
    folder, points, things = shop
    (folder.parent / "outside.py").write_text("import shop.base\nclass Other(shop.base.Base):\n    name = 'other'\n")
    points.append(point(value))
    try:
        assert list(things()) == ["one", "other", "two"]
    finally:
        sys.modules.pop("outside", None)


def test_a_name_claimed_twice_is_refused(shop):
    folder, _, things = shop
    (folder / "again.py").write_text(ONE)
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match="thing: 'one' is the name of two classes, shop.again.One and shop.one.One"):
        list(things())


@pytest.mark.parametrize(
    ("value", "words"),
    [("nowhere:Thing", "cannot be loaded"), ("shop.one:One.name", "is not a named"), ("shop.base", "is not a named")],
)
def test_an_entry_point_that_is_none_is_named(shop, value, words):
    _, points, things = shop
    points.append(point(value))
    with pytest.raises(ConfigError, match=f"thing: entry point 'plug' .{value}. {words}"):
        list(things())
