"""Studies and published figures that headwise brings along, in a checkout and in a wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from headwise.errors import ConfigError
from headwise.published.figures import read_published
from headwise.system.packaged import configs, study_file

ROOT = Path(__file__).resolve().parents[2]
BUILD = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
USE = """
from pathlib import Path
import headwise
from headwise.published.figures import read_published
from headwise.run.settings import load_settings
from headwise.system.packaged import study_file
assert Path(headwise.__file__).is_relative_to(Path.cwd()), headwise.__file__
print(len(read_published().scores), load_settings(study_file("default"), {}).budget)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built as pip builds it, from a copy of what the build reads."""
    work = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / name)
    for name in ("src", "configs"):
        shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD, str(work / "dist")], cwd=work, check=True, capture_output=True)
    [path] = (work / "dist").glob("*.whl")
    return path


def test_the_wheel_holds_every_study_figure_and_file_of_the_package(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    studies = {f"headwise/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*") if path.is_file()}
    files = [path for path in (ROOT / "src/headwise").rglob("*") if path.is_file()]
    sources = {str(path.relative_to(ROOT / "src")) for path in files if "__pycache__" not in path.parts}
    assert len(studies) >= 8
    assert (studies | sources) - held == set()


def test_an_installed_package_finds_them_from_any_folder(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", USE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([str(len(read_published().scores)), "kept"], "")


def test_a_name_finds_a_packaged_study_and_a_path_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert study_file("llava-1.5-7b") == study_file("llava-1.5-7b.yaml") == configs() / "llava-1.5-7b.yaml"
    (tmp_path / "mine.yaml").write_text("layer: 2\n")
    assert study_file("mine.yaml") == Path("mine.yaml")


@pytest.mark.parametrize("name", ["none.yaml", "llava-2", "../configs/default", "", "published", "a/default"])
def test_another_name_is_one_line_that_says_which_there_are(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = "as-published, default, internvl3-8b, llava-1.5-13b, llava-1.5-7b, llava-next-7b"
    with pytest.raises(ConfigError, match=f"not one of {there}"):
        study_file(name)
