"""Studies on a running cluster of several hosts: what may be missing on a host, and what dies or joins meanwhile."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("ray") is None:  # requirements-dev.txt has it; importing it here would be before its settings are made
    pytest.skip("Ray is not installed", allow_module_level=True)

from ray_hosts import Hosts, workers_of
from ray_workers import AnotherCheckpoint, DiesLoading, KilledByAnImage, OutOfMemory, WithoutData
from survival import Outcome, Place, undisturbed

from headwise.run.executors import ray as executor
from headwise.run.executors import ray_session

QUICK = "--benchmark pope,gqa"
QUESTIONS = 50

pytestmark = pytest.mark.timeout(600)  # seconds each on a quiet machine


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """A cluster of two hosts with a processor each."""
    cluster = Hosts(1, 1)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def alone(place: Callable[[str], Place]) -> Outcome:
    """What one process makes of the study."""
    return undisturbed(place("alone"), QUICK)


@pytest.fixture
def at(
    place: Callable[[str], Place], hosts: Hosts, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A working folder from which the cluster is used."""
    monkeypatch.setattr(ray_session, "ASKED_MODE", "token")  # as it was when this process began
    monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)  # 127.0.0.1 is meant as it is said
    found = place(request.node.name)
    found.environment |= hosts.environment | {"OMP_NUM_THREADS": "1"}
    return found


@pytest.fixture
def ray(hosts: Hosts) -> str:
    """The options that use the cluster."""
    return f"--engine ray --address {hosts.address} --workers 2"


@pytest.mark.slow
def test_all_hosts_are_killed_and_others_join(at: Place, hosts: Hosts, ray: str, alone: Outcome) -> None:
    run = at.start(f"{QUICK} {ray}")
    run.until(lambda: at.spooled() > 0 or not run.alive())
    hosts.kill("0")
    hosts.kill("1")
    kept = at.spooled()
    hosts.add()
    hosts.add()
    assert run.wait().code == 0, run.text
    assert 0 < kept < QUESTIONS
    assert "is gone" in run.text
    assert "raylet" not in run.text
    assert not at.outcome().lost(alone)
    assert at.outcome().runs == alone.runs
    assert at.spooled() == QUESTIONS, "every question once"


@pytest.mark.slow
def test_two_studies_share_the_cluster(at: Place, place: Callable[[str], Place], ray: str, alone: Outcome) -> None:
    other = place("the-other-study")
    other.environment = at.environment
    one = ray.replace("--workers 2", "--workers 1")
    runs = [at.start(f"{QUICK} {one}"), other.start(f"{QUICK} {one}")]
    assert [run.wait().code for run in runs] == [0, 0], runs[0].text + runs[1].text
    assert not at.outcome().lost(alone)
    assert not other.outcome().lost(alone)


@pytest.mark.slow
def test_a_window_that_kills_three_workers_fails_with_the_reason(
    at: Place, ray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.RayExecutor, "worker", KilledByAnImage)
    run = at.run(f"--benchmark pope {ray}")
    assert run.code == 0, run.text
    assert "3 questions failed" in run.text
    assert "3 workers died while they answered it" in run.text
    answers = [path.read_text() for path in Path(at.folder).glob("mlruns/**/answers.jsonl")]
    assert len(answers) == 2
    assert all(text.count('"error"') == 3 and text.count('"text"') == 27 for text in answers)


@pytest.mark.slow
def test_an_error_in_a_worker_is_one_line(at: Place, ray: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor.RayExecutor, "worker", OutOfMemory)
    run = at.run(f"--benchmark pope {ray}")
    assert run.code == 2
    assert "MemoryError: no room for a branch" in run.last_line
    assert run.last_line.startswith("headwise: worker on ")


@pytest.mark.slow
def test_workers_need_no_data(at: Place, ray: str, alone: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor.RayExecutor, "worker", WithoutData)
    run = at.run(f"{QUICK} {ray}")
    assert run.code == 0, run.text
    assert "is gone" not in run.text
    assert not at.outcome().lost(alone)


@pytest.mark.slow
def test_workers_that_have_the_data_read_it_there(
    at: Place, ray: str, alone: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwise.run.executors.ray.images_of", None)  # nothing is sent
    shutil.copytree(at.data, at.folder / "eval")
    at.data = Path("eval")  # relative to where the study is started
    run = at.run(f"{QUICK} {ray} --data-on-workers")
    assert run.code == 0, run.text
    answers = [{name: files["answers.jsonl"] for name, files in each.cells.items()} for each in (at.outcome(), alone)]
    assert answers[0] == answers[1]  # their configuration names another folder


@pytest.mark.slow
def test_a_worker_that_differs_is_named_and_the_others_answer(
    at: Place, ray: str, alone: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.RayExecutor, "worker", AnotherCheckpoint)
    run = at.run(f"{QUICK} {ray}")
    assert run.code == 0, run.text
    assert re.search(r"worker on \S+ is not used: its checkpoint is of another host, here it is [0-9a-f]", run.text)
    assert not at.outcome().lost(alone)


@pytest.mark.slow
def test_where_no_worker_comes_patience_ends(at: Place, ray: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor.RayExecutor, "worker", DiesLoading)
    monkeypatch.setattr(executor, "NOTICE", 3.0)
    at.environment |= {"HEADWISE_PATIENCE": "30"}
    run = at.run(f"--benchmark pope {ray}")
    assert run.code == 2
    assert run.text.count("waiting for a worker, which takes 1 CPU of a host of the cluster") == 1
    assert run.last_line.startswith("headwise: workers: none has come for 30 s (last: worker on ")
    assert not at.spooled()


@pytest.mark.slow
def test_another_token_is_one_line(at: Place, ray: str) -> None:
    at.environment |= {"RAY_AUTH_TOKEN": "0" * 64}
    run = at.run(f"--benchmark pope {ray}")
    assert run.code == 2
    assert len(run.text.splitlines()) == 1, run.text
    assert re.match(r"headwise: address: the Ray cluster at \S+ does not take the token that is set here", run.text)


def test_an_address_where_nothing_listens_is_one_line(
    place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_session, "ASKED_MODE", "token")
    run = place("nobody").run("--engine ray --address 127.0.0.1:1")
    assert run.code == 2
    assert run.text.startswith("headwise: address: cannot reach a Ray cluster at 127.0.0.1:1: ")
    assert len(run.text.splitlines()) == 1, run.text


@pytest.mark.slow
def test_a_driver_killed_leaves_the_cluster_without_its_workers(
    at: Place, hosts: Hosts, ray: str, alone: Outcome
) -> None:
    run = at.start(f"{QUICK} {ray}")
    run.until(lambda: at.spooled() > 0 or not run.alive())
    run.kill()
    assert 0 < at.spooled() < QUESTIONS
    again = at.run(f"{QUICK} {ray}")
    assert again.code == 0, again.text
    run.until(lambda: not workers_of(hosts.pid), 60)
    assert not workers_of(hosts.pid)
    assert not at.outcome().lost(alone)
    assert at.spooled() == QUESTIONS, "nothing is answered twice"
