"""Inject every fault listed in docs/survival.md into a small study, and print the table of that page.

    python bench/faults.py [--kills 20] [--only NAME] [--seed 0]

Every fault is followed by the same command again (or `headwise sync`); then every file of every cell is
compared with an undisturbed run's, byte for byte. Exit code 1 if anything was lost or duplicated. Needs
the test dependencies; mounts a small tmpfs as root, otherwise limits file sizes.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from live_server import free_port, tracking_server  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from survival import Outcome, Place, Running, make_places  # noqa: E402

from headwise import evaluate  # noqa: E402

BOUND = 30.0
# Questions per window: few, so that a small study can be interrupted at many points.
WINDOW = 4


@dataclass
class Row:
    """One row of the table. `wait` is the time that the study waited because of the fault, in seconds."""

    broken: str
    when: str
    lost: list[str]
    wait: float | None
    said: str

    @property
    def good(self) -> bool:
        return not self.lost and (self.wait is None or self.wait < BOUND)


class Faults:
    """Each public method injects one fault and returns its rows."""

    def __init__(self, base: Path, kills: int, seed: int) -> None:
        self.base, self.kills, self.random = base, kills, random.Random(seed)
        self.place = make_places(base)
        evaluate.WINDOW_QUESTIONS["cpu"] = WINDOW
        whole = self.place("reference")
        run = whole.run()
        assert run.code == 0, run.text
        self.seconds, self.reference, self.lines = run.seconds, whole.outcome(), whole.spooled()

    def killed(self) -> list[Row]:
        """Kill at random moments, start the same command again, kill again, until a study is whole; then the next."""
        lost, moments, studies, place = [], Counter[str](), 1, self.place("killed-1")
        while moments.total() < self.kills:
            run = place.start()
            self._random_moment(place, run, by_answers=moments.total() % 2 == 1)
            if run.alive():
                run.kill()
                moments[self._stage(place)] += 1
                continue
            lost += self._again(place, run)
            studies += 1
            place = self.place(f"killed-{studies}")
        lost += self._again(place)
        when = f"{moments.total()} random moments in {studies} studies of {self.seconds:.0f} s: "
        when += ", ".join(f"{count} {stage}" for stage, count in sorted(moments.items()))
        return [Row("the process (SIGKILL)", when, lost, None, "nothing; the same command goes on")]

    def _random_moment(self, place: Place, run: Running, by_answers: bool) -> None:
        """Wait a random time, or for a random number of further answers (which take a small part of the time)."""
        before = place.spooled()
        if by_answers and before < self.lines:
            wanted = self.random.randint(before + 1, self.lines)
            run.until(lambda: place.spooled() >= wanted or not run.alive())
        else:
            run.until(lambda: not run.alive(), self.random.uniform(0.05, self.seconds))

    def _stage(self, place: Place) -> str:
        answered = place.spooled()
        return "before an answer" if not answered else "while logging" if answered == self.lines else "between answers"

    def store_half_made(self) -> list[Row]:
        """Kill while MLflow makes the tables of a store that does not exist yet, 0.1 to 1.5 s after the start."""
        lost, moments, found = [], [0.1 + 1.4 * step / 7 for step in range(8)], Counter[str]()
        for number, moment in enumerate(moments):
            place = self.place(f"store-{number}")
            (place.folder / "mlflow.db").unlink()
            run = place.start()
            run.until(lambda run=run: not run.alive(), moment)
            run.kill()
            found["with the store half made" if list(place.folder.glob("*.making-*")) else "before or after it"] += 1
            lost += self._again(place)
        when = ", ".join(f"{count} {name}" for name, count in found.items())
        said = "nothing; the same command goes on"
        when = f"{len(moments)} times, 0.1 to 1.5 s after the start: {when}"
        return [Row("the process (SIGKILL)", when, lost, None, said)]

    def at_the_edges(self) -> list[Row]:
        """Kill right after a step between a study's files and its runs, then the same command again."""
        from headwise.tracking import comparisons, ending

        begun, ended, compared = (MlflowClient, "create_run"), (ending, "_end"), (comparisons, "_write")
        return [
            self._edge("its run is made, its note does not name it yet", *begun, "evaluate"),
            self._edge("its run has ended, its note does not say so yet", *ended, "evaluate"),
            self._edge("its comparison is being logged", *compared, "run"),
        ]

    def _edge(self, when: str, owner: Any, step: str, command: str) -> Row:
        place = self.place(f"edge-{step}-{command}")
        with _killed_after(owner, step):
            run = place.run(command=command)
        again = place.run(command=command)
        lost = [] if run.code == -signal.SIGKILL else ["was not killed"]
        lost += [] if again.code == 0 else [again.last_line]
        found = place.outcome()
        compared = {"compare KILLED": 1, "compare FINISHED": 1} if command == "run" else {}
        lost += found.lost(self.reference)
        lost += [] if found.runs == self._finished() | compared else [f"runs: {found.runs}"]
        said = next((line for line in again.text.splitlines() if "finished already" in line), "nothing; it goes on")
        return Row("the process (SIGKILL)", when, lost, None, said)

    def stopped(self) -> list[Row]:
        rows = []
        for name, number in (("SIGTERM", signal.SIGTERM), ("Ctrl-C (SIGINT)", signal.SIGINT)):
            place = self.place(f"stopped-{number}")
            run = self._answering(place)
            run.kill(number)
            lost = self._runs(place, {"study KILLED": 1}) + self._again(place)
            rows.append(Row(name, "while answering", lost, None, "run is KILLED, then goes on and is FINISHED"))
        return rows

    def full_disk(self) -> list[Row]:
        place = self.place("full-disk")
        with _small_disk(place) as (kind, grow):
            run = place.run()
            lost = [] if run.code == 2 else [f"exit code {run.code}"]
            said = run.last_line
            grow()
            lost += self._again(place)
        return [Row(kind, "while answering", lost, None, said)]

    def damaged_spool(self) -> list[Row]:
        rows = []
        for name in ("cut off", "one bit flipped"):
            place = self.place(f"spool-{name.split()[0]}")
            run = self._answering(place, 20)
            run.kill()
            path = max(place.spool_files(), key=lambda file: file.stat().st_size)
            content, where = bytearray(path.read_bytes()), self.random.randrange(path.stat().st_size)
            if name == "cut off":
                content = content[:where]
            else:
                content[where] ^= 1 << self.random.randrange(8)
            path.write_bytes(content)
            again = place.run()
            said = next((line for line in again.text.splitlines() if "damaged" in line), "")
            rows.append(
                Row(f"spool {name}", f"byte {where:,} of {path.name[-12:]}", self._again(place, again), None, said)
            )
        return rows

    def no_server(self) -> list[Row]:
        place = self.place("no-server")
        port = free_port()
        place.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
        run = place.run()
        lost = [] if run.code == 2 and not place.spooled() else ["not refused at the start"]
        rows = [Row("tracking server down", "at the start", lost, run.seconds, run.last_line)]
        offline = place.run("--offline")
        lost, said = [] if offline.code == 0 else [f"exit code {offline.code}"], offline.last_line
        with tracking_server(place.folder, port):
            lost += self._synced(place)
        rows.append(Row("tracking server down", "from start to end, `--offline`", lost, None, said))
        return rows

    def hanging_at_start(self) -> list[Row]:
        place = self.place("hanging-start")
        with socket.create_server(("127.0.0.1", 0), backlog=64) as deaf:
            place.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            run = place.run()
        lost = [] if run.code == 2 and not place.spooled() else ["not refused at the start"]
        return [Row("tracking server accepts and never answers", "at the start", lost, run.seconds, run.last_line)]

    def server_dies(self) -> list[Row]:
        return [self._server_fault("dies (SIGKILL)", signal.SIGKILL)]

    def server_hangs(self) -> list[Row]:
        return [self._server_fault("hangs (SIGSTOP)", signal.SIGSTOP)]

    def same_study_twice(self) -> list[Row]:
        place = self.place("same-study")
        first, second = place.start(), place.start()
        lost = [f"exit code {run.code}" for run in (first.wait(), second.wait()) if run.code]
        lost += self._whole(place)
        return [Row("nothing: two processes on one study", "at once", lost, None, "the second waits for the first")]

    def two_studies(self) -> list[Row]:
        place = self.place("two-studies")
        first, second = place.start(), place.start("--seed 1")
        lost = [f"exit code {run.code}" for run in (first.wait(), second.wait()) if run.code]
        lost += self._runs(place, self._finished(2))
        return [Row("nothing: two studies on one SQLite store", "at once", lost, None, "both finish")]

    def _server_fault(self, name: str, number: signal.Signals) -> Row:
        place = self.place(f"server-{number.name}")
        port = free_port()
        place.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
        with tracking_server(place.folder, port) as server:
            run = self._answering(place)
            os.killpg(server.pid, number)
            wait, said = _longest_pause(place, run), run.last_line
            whole = run.code == 2 and place.spooled() == self.lines
            lost = [] if whole else [f"exit code {run.code}, {place.spooled()} answered"]
            os.killpg(server.pid, signal.SIGCONT)
            if number == signal.SIGSTOP:
                lost += self._synced(place)
        if number == signal.SIGKILL:
            with tracking_server(place.folder, port):
                lost += self._synced(place)
        return Row(f"tracking server {name}", "while answering", lost, wait, said)

    def _answering(self, place: Place, lines: int = 1) -> Running:
        run = place.start()
        run.until(lambda: place.spooled() >= lines or not run.alive())
        return run

    def _again(self, place: Place, run: Running | None = None) -> list[str]:
        """The same command again, to its end: what its outcome lacks."""
        run = run or place.run()
        return ([] if run.code == 0 else [f"exit code {run.code}"]) + self._whole(place)

    def _synced(self, place: Place) -> list[str]:
        """`headwise sync`, twice: what the outcome lacks."""
        lost = []
        for _ in range(2):
            run = place.run(command="sync")
            lost += [] if run.code == 0 else [f"sync: {run.last_line}"]
        return lost + self._whole(place)

    def _whole(self, place: Place) -> list[str]:
        """What is lost, duplicated or left over, compared with one finished study."""
        found = place.outcome()
        return found.lost(self.reference) + ([] if found.runs == self._finished() else [f"runs: {found.runs}"])

    def _finished(self, studies: int = 1) -> dict[str, int]:
        return {"cell FINISHED": studies * len(self.reference.cells), "study FINISHED": studies}

    @staticmethod
    def _runs(place: Place, expected: dict[str, int]) -> list[str]:
        found: Outcome = place.outcome()
        return [] if found.runs == expected else [f"runs: {found.runs}"]


@contextmanager
def _killed_after(owner: Any, step: str) -> Iterator[None]:
    """Processes forked inside the block die right after they did this step once."""
    usual, parent = getattr(owner, step), os.getpid()

    def killed(*given: Any, **named: Any) -> Any:
        found = usual(*given, **named)
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, step, killed)
    try:
        yield
    finally:
        setattr(owner, step, usual)


@contextmanager
def _small_disk(place: Place) -> Iterator[tuple[str, Callable[[], None]]]:
    """A disk of 20 KiB under the spool (root), or a limit on file sizes; its description, and how to free it."""
    home = place.folder / "disk"
    home.mkdir()
    place.environment["HEADWISE_HOME"] = str(home)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", str(home)], capture_output=True)
    if mounted.returncode == 0:
        try:
            yield (
                "the disk is full (tmpfs)",
                lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(home)], check=True) and None,
            )
        finally:
            subprocess.run(["umount", "-l", str(home)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    yield "no file may grow (RLIMIT_FSIZE)", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _longest_pause(place: Place, run: Running) -> float:
    """The longest time in which no answer came until the process ended, in seconds."""
    lines, since, longest = place.spooled(), time.monotonic(), 0.0
    while run.alive():
        time.sleep(0.05)
        if place.spooled() != lines:
            lines, since = place.spooled(), time.monotonic()
        longest = max(longest, time.monotonic() - since)
    return longest


def table(rows: list[Row]) -> str:
    lines = ["| fault | when | lost | wait | message |", "|---|---|---|---|---|"]
    for row in rows:
        wait = "-" if row.wait is None else f"{row.wait:.1f} s"
        lost = "; ".join(row.lost) or "nothing"
        lines.append(f"| {row.broken} | {row.when} | {lost} | {wait} | {row.said.replace('|', '/')} |")
    return "\n".join(lines)


def main() -> None:
    names = [name for name in vars(Faults) if not name.startswith("_")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", action="append", choices=names)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        faults = Faults(Path(base), options.kills, options.seed)
        rows = []
        for name in options.only or names:
            found = getattr(faults, name)()
            rows += found
            print(table(found).splitlines()[2:], file=sys.stderr, flush=True)
        print(table(rows).replace(base, "…"))
    sys.exit(0 if all(row.good for row in rows) else 1)


if __name__ == "__main__":
    main()
