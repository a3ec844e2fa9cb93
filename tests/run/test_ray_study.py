"""Whole studies on a real Ray: every cell's files are those of one process, whatever dies meanwhile."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

if find_spec("ray") is None:  # requirements-dev.txt has it; importing it here would be before its settings are made
    pytest.skip("Ray is not installed", allow_module_level=True)

from ray_workers import AnotherCheckpoint, KilledByAnImage, OutOfMemory, WithoutData  # noqa: E402
from survival import Outcome, Place, Running, undisturbed  # noqa: E402

from headwise.run.executors import ray as executor  # noqa: E402

QUICK = "--benchmark pope,gqa"
RAY = "--engine ray --workers 2"
IMAGES, CELLS = 10, 4

pytestmark = pytest.mark.timeout(600)  # seconds each on a quiet machine


@pytest.fixture(scope="module")
def alone(place: Callable[[str], Place]) -> Outcome:
    """What one process makes of the study."""
    return undisturbed(place("alone"), QUICK)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def workers_of(run: Running) -> list[psutil.Process]:
    """Ray's processes that answer for this study."""
    try:
        below = psutil.Process(run.pid).children(recursive=True)
        return [each for each in below if "RayWorker" in " ".join(each.cmdline())]
    except psutil.Error:
        return []


def test_two_workers_give_the_files_that_one_process_gives(place: Callable[[str], Place], alone: Outcome) -> None:
    at = place("two")
    run = at.run(f"{QUICK} --devices cpu,cpu")
    assert run.code == 0, run.text
    found = at.outcome()
    assert not found.lost(alone)
    assert found.runs == alone.runs
    assert len(at.spool_files()) == 2, "one writer, one file per benchmark"
    assert at.spooled() == IMAGES * 5, "every question once"


def test_five_workers_killed_at_random_cost_nothing(place: Callable[[str], Place], alone: Outcome) -> None:
    at, chance, killed = place("killed"), random.Random(0), 0
    run = at.start(f"{QUICK} {RAY}")
    at_least = 1
    while run.alive() and killed < 5:
        busy = workers_of(run)
        if at.spooled() >= at_least and busy:
            victim = chance.choice(busy)
            at_least, killed = at.spooled() + 7, killed + 1
            victim.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    assert run.wait().code == 0, run.text
    assert killed == 5
    assert run.text.count("is gone") >= 3, "at its end a study asks for no new worker and does without the last ones"
    assert not at.outcome().lost(alone)
    assert at.outcome().runs == alone.runs


def test_a_driver_killed_goes_on_with_the_same_command(place: Callable[[str], Place], alone: Outcome) -> None:
    at = place("driver")
    run = at.start(f"{QUICK} {RAY}")
    run.until(lambda: at.spooled() > 0 or not run.alive())
    workers = workers_of(run)
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


def test_a_stopped_driver_leaves_no_worker(place: Callable[[str], Place]) -> None:
    at = place("stopped")
    run = at.start(f"{QUICK} {RAY}")
    run.until(lambda: at.spooled() > 0 or not run.alive())
    workers = workers_of(run)
    assert run.kill(signal.SIGTERM).code == 143, run.text
    _, left = psutil.wait_procs(workers, timeout=60)
    assert workers
    assert not left
    assert at.outcome().runs["study KILLED"] == 1


def test_a_window_that_kills_three_workers_fails_with_the_reason(
    place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = place("deadly")
    monkeypatch.setattr(executor.RayExecutor, "worker", KilledByAnImage)
    run = at.run(f"--benchmark pope {RAY}")
    assert run.code == 0, run.text
    assert "3 questions failed" in run.text
    assert "3 workers died while they answered it" in run.text
    answers = [path.read_text() for path in Path(at.folder).glob("mlruns/**/answers.jsonl")]
    assert len(answers) == 2
    assert all(text.count('"error"') == 3 and text.count('"text"') == 27 for text in answers)


def test_an_error_in_a_worker_is_one_line(place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch) -> None:
    at = place("error")
    monkeypatch.setattr(executor.RayExecutor, "worker", OutOfMemory)
    run = at.run(f"--benchmark pope {RAY}")
    assert run.code == 2
    assert "MemoryError: no room for a branch" in run.last_line
    assert run.last_line.startswith("headwise: worker on ")


def test_workers_need_no_data(place: Callable[[str], Place], alone: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    at = place("no-data")
    monkeypatch.setattr(executor.RayExecutor, "worker", WithoutData)
    run = at.run(f"{QUICK} {RAY}")
    assert run.code == 0, run.text
    assert "is gone" not in run.text
    assert not at.outcome().lost(alone)


def test_a_worker_with_another_checkpoint_is_named(
    place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = place("other-checkpoint")
    monkeypatch.setattr(executor.RayExecutor, "worker", AnotherCheckpoint)
    run = at.run(f"{QUICK} {RAY}")
    assert run.code == 2
    assert "its checkpoint is of another host, here it is" in run.last_line
    assert not at.spooled()


def test_a_cluster_without_a_token_is_refused(place: Callable[[str], Place]) -> None:
    run = place("no-token").run(f"{QUICK} --engine ray --address auto")
    assert run.code == 2
    assert run.last_line.startswith("headwise: address: auto is refused without RAY_AUTH_MODE=token")
