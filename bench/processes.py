"""One study on several processes, on one host and on two: identical files for every number of processes.

    python bench/processes.py [--launch]

Processes rendezvous like those of `accelerate launch` and torchrun (RANK, WORLD_SIZE, MASTER_ADDR,
MASTER_PORT over loopback); a host is simulated by its own working folder. With --launch the processes are
started by `accelerate launch`, which takes much longer. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from faults import ROOT, Faults, Row, table
from live_server import free_port
from survival import OPTIONS, Place, Running

from headwise.run import answering as evaluate

USUAL_WINDOW = evaluate.WINDOW_QUESTIONS["cpu"]
PATIENCE = "20"
LAUNCH = "--multi_gpu --mixed_precision no --dynamo_backend no --main_process_ip 127.0.0.1"


class Processes(Faults):
    """Each public method runs the study by several processes and returns its rows."""

    def one_host(self) -> list[Row]:
        rows = []
        for count in (1, 2, 4):
            place = self.place(f"processes-{count}")
            lost = self._ended(self._start([place] * count)) + self._whole(place)
            rows.append(Row("nothing", f"{count} processes, one host", lost, None, self._shares(place)))
        return rows

    def two_hosts(self) -> list[Row]:
        first, second = self.place("host-0"), self.place("host-1")
        lost = self._ended(self._start([first, first, second, second])) + self._whole(first)
        lost += ["logged by the second host"] if second.outcome().cells else []
        said = f"{second.spooled()} of {self.lines} questions came from the second host"
        return [Row("nothing", "2 hosts with folders of their own, 2 processes each", lost, None, said)]

    def one_killed(self) -> list[Row]:
        rows = []
        for victim, name in ((1, "the second host"), (0, "the host that logs")):
            places = [self.place(f"killed-{victim}-0"), self.place(f"killed-{victim}-1")]
            runs = self._start(places)
            runs[victim].until(lambda places=places: min(place.spooled() for place in places) > 0)
            runs[victim].kill()
            broken = time.monotonic()
            other = runs[1 - victim].wait()
            wait, said = time.monotonic() - broken, other.last_line
            lost = [] if other.code == 2 else [f"exit code {other.code}"]
            lost += self._ended(self._start(places)) + self._whole(places[0])
            when = f"while answering; patience set to {PATIENCE} s"
            rows.append(Row(f"{name} (SIGKILL)", when, lost, wait, said))
        return rows

    def _start(self, places: list[Place]) -> list[Running]:
        """Start one process per place, in rank order."""
        common = {"WORLD_SIZE": str(len(places)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        common["HEADWISE_PATIENCE"] = PATIENCE
        runs = []
        for rank, place in enumerate(places):
            environment = place.environment | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            runs.append(replace(place, environment=environment, output=f"output-{rank}.txt").start())
        return runs

    @staticmethod
    def _ended(runs: list[Running]) -> list[str]:
        return [f"exit code {run.code}: {run.last_line}" for run in (run.wait() for run in runs) if run.code]

    @staticmethod
    def _shares(place: Place) -> str:
        counts = [path.read_bytes().count(b"\n") for path in place.spool_files()]
        return f"questions per process and benchmark: {', '.join(map(str, counts))}"


def launched(faults: Processes) -> list[Row]:
    """Two launches of `accelerate launch`, machine rank 0 and 1, two processes each, with windows of the usual size."""
    evaluate.WINDOW_QUESTIONS["cpu"] = USUAL_WINDOW
    alone = faults.place("launch-alone")
    lost = [] if alone.run().code == 0 else ["the study alone failed"]
    places, port = [faults.place("launch-0"), faults.place("launch-1")], free_port()
    study = ["--model", str(places[0].model), "--data-dir", str(places[0].data), *OPTIONS.split()]
    launches = []
    for rank, place in enumerate(places):
        words = f"{LAUNCH} --num_machines 2 --num_processes 4 --machine_rank {rank} --main_process_port {port}".split()
        command = [sys.executable, "-m", "accelerate.commands.launch", *words, "-m", "headwise", "evaluate", *study]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HEADWISE_COMMIT": "as if committed"}
        with open(place.folder / "launch.txt", "wb") as log:
            launches.append(
                subprocess.Popen(command, cwd=place.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
    codes = [launch.wait() for launch in launches]
    lost += [] if codes == [0, 0] else [f"exit codes {codes}: {(places[0].folder / 'launch.txt').read_text()[-500:]}"]
    lost += places[0].outcome().lost(alone.outcome())
    said = f"{places[1].spooled()} of {faults.lines} questions came from the second host"
    return [Row("nothing", "`accelerate launch`, 2 machine ranks, 4 processes", lost, None, said)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launch", action="store_true")
    parser.add_argument("--only", action="append", choices=["one_host", "two_hosts", "one_killed"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        faults = Processes(Path(base), 0, 0)
        names = options.only or ["one_host", "two_hosts", "one_killed"]
        rows = [row for name in names for row in getattr(faults, name)()]
        if options.launch:
            rows += launched(faults)
    print(table(rows))
    sys.exit(0 if all(row.good for row in rows) else 1)


if __name__ == "__main__":
    main()
