"""Several processes on one study: images stay together, the order comes back, and who dies is noticed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from live_server import free_port
from survival import Outcome, Place, Running, undisturbed

from headwise.errors import ConfigError
from headwise.run.shards import Crew, crew

QUICK = "--benchmark pope --limit 24"


@pytest.fixture(scope="module")
def alone(place: Callable[[str], Place]) -> Outcome:
    """What one process makes of the study."""
    return undisturbed(place("alone"), QUICK)


def crew_of(size: int) -> list[Crew]:
    members = [Crew() for _ in range(size)]
    for rank, member in enumerate(members):
        member.rank, member.size = rank, size
    return members


def start(places: list[Place], patience: str = "60") -> list[Running]:
    """One process a place, which meet as torchrun arranges it."""
    meeting = {"WORLD_SIZE": str(len(places)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    meeting["HEADWISE_PATIENCE"] = patience
    runs = []
    for rank, at in enumerate(places):
        own = meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        runs.append(replace(at, environment=at.environment | own, output=f"output-{rank}.txt").start(QUICK))
    return runs


@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_item_is_one_process_s_and_shares_are_even(size: int) -> None:
    shares = [list(member.share(range(23))) for member in crew_of(size)]
    assert sorted(sum(shares, [])) == list(range(23))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("size", [2, 4])
def test_processes_give_the_files_that_one_gives(place: Callable[[str], Place], alone: Outcome, size: int) -> None:
    shared = place(f"shared-{size}")
    codes = [run.wait().code for run in start([shared] * size)]
    assert codes == [0] * size
    assert len(shared.spool_files()) == size, "each process answered its share"
    found = shared.outcome()
    assert not found.lost(alone)
    assert found.runs == alone.runs


def test_a_host_s_own_folder_reaches_the_one_that_logs(place: Callable[[str], Place], alone: Outcome) -> None:
    here, there = place("here"), place("there")
    assert [run.wait().code for run in start([here, there])] == [0, 0]
    assert 0 < there.spooled() < here.spooled()
    assert not here.outcome().lost(alone)
    assert not there.outcome().runs


def test_a_host_that_dies_is_noticed_and_the_same_command_finishes(
    place: Callable[[str], Place], alone: Outcome
) -> None:
    here, there = place("survivor"), place("victim")
    first, second = start([here, there], patience="5")
    second.until(lambda: there.spooled() > 0 or not second.alive())
    second.kill(signal.SIGKILL)
    assert first.wait().code == 2
    assert "the same command goes on from there" in first.last_line
    assert [run.wait().code for run in start([here, there])] == [0, 0]
    assert not here.outcome().lost(alone)


@pytest.mark.parametrize("value", ["soon", "0", "nan", ""])
def test_patience_is_a_number_of_seconds(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("HEADWISE_PATIENCE", value)
    with pytest.raises(ConfigError, match="HEADWISE_PATIENCE"), crew():
        pass


def test_a_host_with_other_data_is_named(place: Callable[[str], Place], tmp_path: Path) -> None:
    from survival import write_bundle

    here, there = place("same"), place("other")
    there.data = write_bundle(tmp_path / "other", images=9)
    runs = [run.wait() for run in start([here, there])]
    assert [run.code for run in runs] == [2, 2]
    assert "process 1 of 2 has study" in runs[0].last_line
    assert not here.spooled()
