"""MLproject: what is declared reaches the command, and mlflow really runs it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from mlflow.projects import _project_spec

ROOT = Path(__file__).resolve().parents[1]
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
ENTRIES = PROJECT["entry_points"]


def test_the_four_entry_points_are_there():
    assert list(ENTRIES) == ["main", "evaluate", "score", "compare"]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_declared_parameter_occurs_in_its_command(name):
    used = set(re.findall(r"\{(\w+)\}", ENTRIES[name]["command"]))
    assert used == set(ENTRIES[name]["parameters"])


@pytest.mark.parametrize("name", ENTRIES)
def test_every_parameter_has_a_default(name):
    assert all("default" in parameter for parameter in ENTRIES[name]["parameters"].values())


@pytest.mark.parametrize("name", ENTRIES)
def test_each_option_carries_its_parameter_and_the_command_line_knows_it(name):
    from headwise.cli import headwise

    command = ENTRIES[name]["command"]
    pairs = dict(re.findall(r"--([\w-]+) \{(\w+)\}", command))
    assert pairs == {parameter.replace("_", "-"): parameter for parameter in ENTRIES[name]["parameters"]}
    subcommand = re.search(r"-m headwise (\w+)", command).group(1)
    known = headwise.get_command(None, subcommand)
    options = {flag for parameter in known.params for flag in parameter.opts}
    assert {f"--{flag}" for flag in pairs} <= options


@pytest.mark.parametrize("name", ENTRIES)
def test_a_value_with_blanks_and_semicolons_stays_one_argument(name, tmp_path):
    first = next(iter(ENTRIES[name]["parameters"]))
    entry = _project_spec.load_project(str(ROOT)).get_entry_point(name)
    command = entry.compute_command({first: "a, b; echo no"}, str(tmp_path))
    assert "'a, b; echo no'" in command
    assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0


def test_the_conda_environment_is_the_requirements_and_nothing_else():
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert conda["dependencies"] == ["python=3.11", "pip", {"pip": ["-r requirements.txt"]}]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_exactly(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("-r ")]
    assert lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
