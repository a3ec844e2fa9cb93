"""One process against workers on Ray, the same study, one thread each: efficiency, and the driver's work per window.

    OMP_NUM_THREADS=1 python bench/scaling.py [--json] [--limit 100] [--workers 1,2]

Answers are compared with those of one process. Efficiency is beyond start-up: it counts from the second window on
(one process) and from when all workers answer. Exit code 1 where an answer differs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

# Seconds a window of 64 questions under 63 cells takes on one H200, as forecast: 451 windows in 56 minutes.
PUBLISHED_SECONDS = 7.5


@dataclass(frozen=True)
class Measured:
    """One way of answering: `driver` is the driver's processor time per window, `rate` windows per second."""

    workers: int
    windows: int
    seconds: float
    rate: float
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
    started, busy = time.monotonic(), time.process_time()
    times, answers = [], {}
    with job.executor(lambda line: print(line, file=sys.stderr)) as executor:
        for done in executor.answered(work):
            times.append((time.monotonic(), executor.workers))
            for line in done.lines:
                answers[line["question"]] = json.dumps(
                    {key: row["text"] for key, row in sorted(line["answers"].items())}
                )
        seconds, busy = time.monotonic() - started, time.process_time() - busy
    steady = [moment for moment, present in times if present >= max(1, workers)]
    steady = steady[max(1, workers) - 1 :]  # the first window of each worker loads its model
    rate = (len(steady) - 1) / (steady[-1] - steady[0])
    return Measured(workers, len(work), seconds, rate, busy / len(work), answers)


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
        | {"efficiency": each.rate / (alone.rate * max(1, each.workers)), "same": each.answers == alone.answers}
        for each in found
    ]
    driver = max(each.driver for each in found[1:])
    result = {"rows": rows, "driver_seconds_per_window": driver, "h200_per_driver": int(PUBLISHED_SECONDS / driver)}
    print(json.dumps(result, indent=1) if options.json else table(result))
    sys.exit(0 if all(row["same"] for row in rows) else 1)


def table(result: dict) -> str:
    lines = ["| workers | windows | seconds | windows/s | efficiency | same answers |", "|--:|--:|--:|--:|--:|---|"]
    for row in result["rows"]:
        name = row["workers"] or "one process"
        lines.append(
            f"| {name} | {row['windows']} | {row['seconds']:.1f} | {row['rate']:.2f} | {row['efficiency']:.2f} | "
            f"{'yes' if row['same'] else 'NO'} |"
        )
    driver = result["driver_seconds_per_window"]
    return "\n".join(
        [*lines, f"driver: {1000 * driver:.1f} ms per window, enough for {result['h200_per_driver']} H200"]
    )


if __name__ == "__main__":
    main()
