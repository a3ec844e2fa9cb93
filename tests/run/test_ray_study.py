"""Whole studies on a Ray of their own: every cell's files are those of one process, whatever dies meanwhile."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec

import psutil
import pytest

if find_spec("ray") is None:  # requirements-dev.txt has it; importing it here would be before its settings are made
    pytest.skip("Ray is not installed", allow_module_level=True)

from ray_hosts import listening, workers_of
from ray_workers import SlowRayWorker
from survival import Outcome, Place, undisturbed

from headwise.run.executors import ray as executor

QUICK = "--benchmark pope,gqa"
RAY = "--engine ray --workers 2"
IMAGES = 10

pytestmark = pytest.mark.timeout(600)  # seconds each on a quiet machine


@pytest.fixture(scope="module")
def alone(place: Callable[[str], Place]) -> Outcome:
    """What one process makes of the study."""
    return undisturbed(place("alone"), QUICK)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_two_workers_give_the_files_that_one_process_gives(place: Callable[[str], Place], alone: Outcome) -> None:
    at = place("two")
    run = at.start(f"{QUICK} --devices cpu,cpu")
    addresses: set[str] = set()
    while run.alive():
        addresses |= listening(run.pid)
        time.sleep(0.3)
    assert run.wait().code == 0, run.text
    found = at.outcome()
    assert not found.lost(alone)
    assert found.runs == alone.runs
    assert len(at.spool_files()) == 2, "one writer, one file per benchmark"
    assert at.spooled() == IMAGES * 5, "every question once"
    assert addresses, "nothing of Ray was seen to listen"
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
    said = [
        line for line in run.text.splitlines() if line and not re.match(r"\d+ cells|/|tokens|answer|cells in", line)
    ]
    assert not said, "a study that nothing happens to has no more to say than in one process"


@pytest.mark.slow
def test_five_workers_killed_at_random_cost_nothing(
    place: Callable[[str], Place], alone: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.RayExecutor, "worker", SlowRayWorker)
    at, chance, killed, due = place("killed"), random.Random(0), 0, 0
    run = at.start(f"{QUICK} {RAY}")
    while run.alive() and killed < 5:
        busy = workers_of(run.pid)
        if at.spooled() > due and busy:
            time.sleep(chance.uniform(0, 1))
            with suppress(psutil.NoSuchProcess):
                chance.choice(busy).send_signal(signal.SIGKILL)
                due, killed = at.spooled() + 4, killed + 1
        time.sleep(0.02)
    assert run.wait().code == 0, run.text
    assert killed == 5
    assert run.text.count("is gone") >= 3, "at its end a study asks for no new worker and does without the last ones"
    assert "raylet" not in run.text
    assert not at.outcome().lost(alone)
    assert at.outcome().runs == alone.runs


@pytest.mark.slow
def test_a_driver_killed_goes_on_with_the_same_command(place: Callable[[str], Place], alone: Outcome) -> None:
    at = place("driver")
    run = at.start(f"{QUICK} {RAY}")
    run.until(lambda: at.spooled() > 0 or not run.alive())
    workers = workers_of(run.pid)
    run.kill(signal.SIGKILL)
    kept = at.spooled()
    assert 0 < kept < IMAGES * 5
    _, left = psutil.wait_procs(workers, timeout=60)
    assert workers
    assert not left, "workers end with the driver"
    again = at.run(QUICK)
    assert again.code == 0, again.text
    assert not at.outcome().lost(alone)
    assert at.spooled() == IMAGES * 5, "nothing is answered twice"


@pytest.mark.slow
def test_a_stopped_driver_leaves_no_worker(place: Callable[[str], Place]) -> None:
    at = place("stopped")
    run = at.start(f"{QUICK} {RAY}")
    run.until(lambda: at.spooled() > 0 or not run.alive())
    workers = workers_of(run.pid)
    assert run.kill(signal.SIGTERM).code == 143, run.text
    _, left = psutil.wait_procs(workers, timeout=60)
    assert workers
    assert not left
    assert at.outcome().runs["study KILLED"] == 1


def test_a_cluster_without_a_token_is_refused(place: Callable[[str], Place]) -> None:
    run = place("no-token").run(f"{QUICK} --engine ray --address auto")
    assert run.code == 2
    assert run.last_line.startswith("headwise: address: auto is refused without RAY_AUTH_MODE=token")
