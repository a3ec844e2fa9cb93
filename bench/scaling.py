"""One process against workers on Ray, the same study, one thread each: efficiency, and the driver's work per window.

    OMP_NUM_THREADS=1 python bench/scaling.py [--json] [--limit 100] [--workers 1,2]

Answers are compared with those of one process. Efficiency is beyond start-up: it counts from the second window on
(one process) and from when all workers answer. `cpu_efficiency` says the same in processor time, which other load on
the machine disturbs less: a window's in one process, of a window's in the driver and its workers. Exit code 1 where
an answer differs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

# Seconds a window of 64 questions under 63 cells takes on one H200, as forecast: 451 windows in 56 minutes.
PUBLISHED_SECONDS = 7.5


@dataclass(frozen=True)
class Measured:
    """One way of answering, with 0 workers in one process.

    `rate` is windows per second; `cpu` the processor time per window of all processes but Ray's own, and `driver` that
    of the driver alone. All three are beyond start-up.
    """

    workers: int
    windows: int
    seconds: float
    rate: float
    cpu: float
    driver: float
    answers: dict[str, str]


def answer(limit: int, workers: int) -> Measured:
    """Answer POPE's first questions under four cells in a new folder; 0 workers are this process itself."""
    from headwise.run.answering import open_windows
    from headwise.run.evaluate import Job
    from headwise.run.executors import Scale, Work
    from headwise.run.placement import Placement
    from headwise.run.settings import StudySettings

    study = StudySettings.model_validate(
        {"benchmark": "pope,gqa", "strategy": "sparsity", "tokens": "192", "heads": "8,16", "limit": limit}
    )
    scale = Scale(engine="ray", workers=workers) if workers else Scale()
    job = Job.of(study, Placement(), scale)
    import numpy as np

    work = [
        Work(task, window)
        for task in job.tasks
        for window in open_windows(task, np.zeros((len(task.samples), len(task.cells)), dtype=bool), "cpu")
    ]
    started = time.monotonic()
    moments, answers = [], {}
    with job.executor(lambda line: print(line, file=sys.stderr)) as executor:
        for done in executor.answered(work):
            if executor.workers >= max(1, workers):
                moments.append((time.monotonic(), *processor_times()))
            for line in done.lines:
                answers[line["question"]] = json.dumps(
                    {key: row["text"] for key, row in sorted(line["answers"].items())}
                )
        seconds = time.monotonic() - started
    first = max(1, workers) - 1  # the first window of each worker is slower than the others
    if len(moments) < first + 2:
        sys.exit(f"scaling: only {len(moments)} windows were answered by all workers; --limit must be larger")
    count = len(moments) - 1 - first
    took, cpu, driver = (last - began for began, last in zip(moments[first], moments[-1], strict=True))
    return Measured(workers, len(work), seconds, count / took, cpu / count, driver / count, answers)


def processor_times() -> tuple[float, float]:
    """Seconds of processor time so far: of this process with the workers below it, and of this process."""
    import psutil

    own = time.process_time()
    total = own
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "RayWorker" in " ".join(each.cmdline()):
                spent = each.cpu_times()
                total += spent.user + spent.system
    return total, own


def in_a_process(limit: int, workers: int) -> Measured:
    """Each way in a process of its own, so that nothing is warm already."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(answer, (limit, workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--workers", default="1,2")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = [in_a_process(options.limit, count) for count in [0, *map(int, options.workers.split(","))]]
    alone = found[0]
    rows = [
        {key: value for key, value in asdict(each).items() if key != "answers"}
        | {
            "efficiency": each.rate / (alone.rate * max(1, each.workers)),
            "cpu_efficiency": alone.cpu / each.cpu,
            "same": each.answers == alone.answers,
        }
        for each in found
    ]
    driver = max(each.driver for each in found[1:])
    result = {"rows": rows, "driver_seconds_per_window": driver, "h200_per_driver": int(PUBLISHED_SECONDS / driver)}
    print(json.dumps(result, indent=1) if options.json else table(result))
    sys.exit(0 if all(row["same"] for row in rows) else 1)


def table(result: dict) -> str:
    heads = "| workers | windows | seconds | windows/s | efficiency | in processor time | same answers |"
    lines = [heads, "|--:|--:|--:|--:|--:|--:|---|"]
    for row in result["rows"]:
        name = row["workers"] or "one process"
        lines.append(
            f"| {name} | {row['windows']} | {row['seconds']:.1f} | {row['rate']:.2f} | {row['efficiency']:.2f} | "
            f"{row['cpu_efficiency']:.2f} | {'yes' if row['same'] else 'NO'} |"
        )
    driver = result["driver_seconds_per_window"]
    return "\n".join(
        [*lines, f"driver: {1000 * driver:.1f} ms per window, enough for {result['h200_per_driver']} H200"]
    )


if __name__ == "__main__":
    main()
