"""Commands look for garbage seldom while they load, and as usual from their first answer on."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headwise
from headwise.run.evaluate import Job
from headwise.run.settings import load_settings
from headwise.system import garbage

LIST = """
import gc, sys
from headwise.cli import main
sys.argv = ["headwise", "list", "benchmarks"]
try:
    main()
except SystemExit as end:
    print(end.code, gc.get_threshold()[0], gc.get_stats()[2]["collections"])
"""


@pytest.fixture
def collector() -> Iterator[None]:
    yield
    gc.set_threshold(*garbage.USUAL)
    gc.unfreeze()


def test_a_command_looks_seldom_while_it_loads():
    environ = os.environ | {"PYTHONPATH": str(Path(headwise.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", LIST], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"0 {garbage.SELDOM} 0"


def test_answering_looks_as_usual_but_not_through_what_was_loaded(collector):
    given = {"model": "embedded", "data_dir": "embedded", "benchmark": "pope", "limit": "2", "budget": "kept"}
    job = Job.of(load_settings(None, given))
    garbage.seldom()
    loaded = gc.get_freeze_count()
    with job.executor(print):
        assert gc.get_threshold() == garbage.USUAL
        assert gc.get_freeze_count() > loaded + 100_000


def test_a_process_that_never_looked_seldom_keeps_its_ways(collector):
    frozen = gc.get_freeze_count()
    gc.set_threshold(500, 5, 5)
    garbage.as_usual()
    assert gc.get_threshold() == (500, 5, 5)
    assert gc.get_freeze_count() == frozen
