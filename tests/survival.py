"""A small study in processes of its own that can be killed at any moment, and what is left of it afterwards.

Processes are forked from this one, which has imported everything: a start costs milliseconds instead of
the seconds that torch and mlflow take. They run the command line as it is.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

CELL_FILES = ("answers.jsonl", "evidence.npz", "verdicts.jsonl", "verdicts.parquet", "config.yaml", "versions.json")
INSTRUCTION = "Answer the question using a single word or phrase."
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # headwise.tracking sets it, but was imported before the fork
    "HEADWISE_COMMIT": "as if committed",
}
OPTIONS = "--strategy sparsity --controls vanilla --tokens 12 --heads 4 --benchmark pope,gqa --max-new-tokens 6"


def write_bundle(data_dir: Path, images: int = 10) -> Path:
    """POPE and GQA in the official layout: three questions an image and benchmark."""
    rows: list[dict[str, Any]] = []
    for category in ("random", "popular", "adversarial"):
        labels = []
        for number in range(images):
            name, text = f"{number}.png", f"Is there a {category} cat {number}?"
            labels.append({"question_id": number, "image": name, "text": text, "label": ["yes", "no"][number % 2]})
            question = {"question_id": len(rows), "image": name, "text": f"{text}\n{INSTRUCTION}"}
            rows.append(question | {"category": category})
            _image(data_dir / "pope/val2014" / name, number)
        _jsonl(data_dir / f"pope/coco/coco_pope_{category}.json", labels)
    _jsonl(data_dir / "pope/llava_pope_test.jsonl", rows)
    program = [{"operation": "select", "argument": "it"}, {"operation": "query", "argument": "name"}]
    types = {"structural": "query", "semantic": "rel"}
    key, asked = {}, []
    for number in range(2 * images):
        name, text = f"{number // 2}.png", f"What is {number}?"
        key[str(number)] = {"question": text, "answer": "cat", "types": types, "semantic": program}
        asked.append({"question_id": str(number), "image": name, "text": f"{text}\n{INSTRUCTION}", "category": "x"})
        _image(data_dir / "gqa/data/images" / name, number)
    _jsonl(data_dir / "gqa/llava_gqa_testdev_balanced.jsonl", asked)
    (data_dir / "gqa/data/testdev_balanced_questions.json").write_text(json.dumps(key))
    return data_dir


def _image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16 + number % 3, 12), (number * 9 % 256, 30, 200)).save(path)


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass
class Place:
    """A working folder in which the study is run."""

    folder: Path
    model: Path
    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    output: str = "output.txt"

    def start(self, options: str = "", command: str = "evaluate") -> Running:
        """Begin the study (or another command) without waiting for it."""
        words = [command]
        if command in ("evaluate", "run"):
            words += ["--model", str(self.model), "--data-dir", str(self.data), *OPTIONS.split()]
        return Running(self, [*words, *options.split()])

    def run(self, options: str = "", command: str = "evaluate") -> Running:
        """The study to its end."""
        return self.start(options, command).wait()

    def spooled(self) -> int:
        """Lines that the spool holds."""
        return sum(path.read_bytes().count(b"\n") for path in self.spool_files())

    def spool_files(self) -> list[Path]:
        home = Path(self.environment.get("HEADWISE_HOME", self.folder / ".headwise"))
        return sorted(home.glob("spool/*/*.spool"))

    def outcome(self) -> Outcome:
        """What the tracking store holds, read in a process of its own."""
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.apply(_outcome, (self.folder, self.environment))


class Running:
    """A process of the command line."""

    def __init__(self, place: Place, words: list[str]) -> None:
        self.output = place.folder / place.output
        self.began = time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            _become(place, words, self.output)
        self.code: int | None = None

    def wait(self) -> Running:
        if self.code is None:
            self._ended(os.waitpid(self.pid, 0)[1])
        return self

    def alive(self) -> bool:
        if self.code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self._ended(status)
        return self.code is None

    def _ended(self, status: int) -> None:
        self.code, self.seconds = os.waitstatus_to_exitcode(status), time.monotonic() - self.began

    def kill(self, number: signal.Signals = signal.SIGKILL) -> Running:
        if self.code is None:
            os.kill(self.pid, number)
        return self.wait()

    def until(self, happened: Callable[[], bool], seconds: float = 120) -> None:
        """Wait until something has happened, or the process has ended."""
        end = time.monotonic() + seconds
        while not happened() and time.monotonic() < end:
            time.sleep(0.005)

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        return ([line for line in self.text.splitlines() if line.strip()] or [""])[-1]


def _become(place: Place, words: list[str], output: Path) -> None:
    """In the forked process: run the command line and end as a process of its own would."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _enter(place.folder, place.environment)
        import torch

        torch.set_num_threads(1)  # the threads of the process that was forked do not exist in this one
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        sys.argv = ["headwise", *words]
        from headwise.cli import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _enter(folder: Path, environment: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "HEADWISE_"))]:
        del os.environ[name]
    os.environ.update(QUIET, **environment)


@dataclass(frozen=True)
class Outcome:
    """Cells by name with digests of their files; runs by (kind, status); cells that are there twice."""

    cells: dict[str, dict[str, str]]
    runs: dict[str, int]
    doubled: list[str]

    def lost(self, reference: Outcome) -> list[str]:
        """Cells that lack or differ, in the reference's terms, and cells that are there twice."""
        wrong = [name for name, files in reference.cells.items() if self.cells.get(name) != files]
        return wrong + [f"{name} twice" for name in self.doubled]


def _outcome(folder: Path, environment: Mapping[str, str]) -> Outcome:
    _enter(folder, environment)
    from mlflow import MlflowClient

    from headwise import tracking

    tracking.connect()
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    cells: dict[str, dict[str, str]] = {}
    counts: dict[str, int] = {}
    doubled = []
    for run in client.search_runs(experiments):
        kind = f"{run.data.tags.get('headwise.kind')} {run.info.status}"
        counts[kind] = counts.get(kind, 0) + 1
        if kind == "cell FINISHED":
            doubled += [run.info.run_name] if run.info.run_name in cells else []
            files = {name: tracking.download(run.info.run_id, name) for name in CELL_FILES}
            cells[run.info.run_name] = {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()}
    return Outcome(cells, counts, doubled)


def undisturbed(at: Place, options: str) -> Outcome:
    """What one process makes of a study that nothing happens to."""
    run = at.run(options)
    assert run.code == 0, run.text
    return at.outcome()


def make_places(base: Path) -> Callable[[str], Place]:
    """A maker of working folders with one checkpoint, one bundle and a store that is initialised already."""
    from tiny_llava import write_tiny_llava

    import headwise.cli.studies  # noqa: F401
    import headwise.report.compare
    import headwise.run.lifecycle  # noqa: F401

    _warm()
    model, data = write_tiny_llava(base / "tiny"), write_bundle(base / "eval")
    template = base / "template"
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(_outcome, (template, {}))

    def place(name: str) -> Place:
        folder = base / name
        folder.mkdir()
        shutil.copy(template / "mlflow.db", folder / "mlflow.db")
        return Place(folder, model, data)

    return place


def _warm() -> None:
    """Import and configure once what every forked process would do for itself before it reaches a store."""
    import alembic.command  # noqa: F401
    from mlflow.store.tracking import sqlalchemy_store  # noqa: F401
    from sqlalchemy.orm import configure_mappers

    import headwise.run.evaluate  # noqa: F401

    configure_mappers()
