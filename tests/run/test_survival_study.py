"""A whole study through the command line: resumed, stopped, synced; and what it must never write down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live_server import free_port, tracking_server
from mlflow import MlflowClient
from survival import Outcome, Place, undisturbed, write_bundle

from headwise.engine import Engine
from headwise.run import evaluate as pipeline
from headwise.run import lifecycle as sync
from headwise.run.placement import Placement
from headwise.run.settings import StudySettings
from headwise.tracking import ending
from headwise.tracking.pending import Note

ROOT = Path(__file__).resolve().parents[2]
QUICK = "--benchmark pope --limit 20"
QUESTIONS = 20


@pytest.fixture(scope="module")
def whole(place: Callable[[str], Place]) -> Outcome:
    """An undisturbed study."""
    return undisturbed(place("whole"), QUICK)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """How many questions the engine was asked since the last call, whatever process asked it."""
    path = tmp_path / "asked"
    path.touch()
    answer = Engine.answer

    def counting(self: Engine, visual: Any, questions: Any) -> Any:
        with path.open("a") as out:
            out.write("q" * len(questions))
        return answer(self, visual, questions)

    def since() -> int:
        count = path.stat().st_size
        path.write_text("")
        return count

    monkeypatch.setattr(Engine, "answer", counting)
    return since


def test_a_restarted_study_asks_only_what_is_missing(
    place: Callable[[str], Place], whole: Outcome, asked: Callable[[], int]
) -> None:
    at = place("resumed")
    run = at.start(QUICK)
    run.until(lambda: at.spooled() >= 6 or not run.alive())
    run.kill()
    asked()
    kept = at.spooled()
    assert 6 <= kept < QUESTIONS
    assert at.run(QUICK).code == 0
    assert asked() == QUESTIONS - kept
    assert not at.outcome().lost(whole)
    assert at.outcome().runs == whole.runs


def test_a_finished_study_asked_for_once_more_asks_nothing(
    place: Callable[[str], Place], whole: Outcome, asked: Callable[[], int]
) -> None:
    at = place("twice")
    assert at.run(QUICK).code == 0
    assert asked() == QUESTIONS
    assert at.run(QUICK).code == 0
    assert asked() == 0
    assert at.outcome().runs == {kind: 2 * count for kind, count in whole.runs.items()}, "a run of its own each time"


def test_a_larger_grid_asks_every_question_for_the_new_cells_only(
    place: Callable[[str], Place], whole: Outcome
) -> None:
    at = place("grown")
    assert at.run(QUICK).code == 0
    lines = at.spooled()
    assert at.run(f"{QUICK} --heads 4,2").code == 0
    assert at.spooled() == 2 * lines
    answered = [line for path in at.spool_files() for line in path.read_text().splitlines()]
    assert [line.count('"text":') for line in answered] == [2] * QUESTIONS + [1] * QUESTIONS


def killed_after(monkeypatch: pytest.MonkeyPatch, owner: Any, step: str) -> None:
    """Processes forked from now on die as soon as they have done this step once."""
    usual, parent = getattr(owner, step), os.getpid()

    def killed(*given: Any, **named: Any) -> Any:
        found = usual(*given, **named)
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    monkeypatch.setattr(owner, step, killed)


@pytest.mark.parametrize(
    ("owner", "step"), [(MlflowClient, "create_run"), (ending, "_end"), (pipeline, "evaluate_study")]
)
def test_a_study_killed_at_the_edges_of_its_run_is_logged_once(
    place: Callable[[str], Place], whole: Outcome, owner: Any, step: str
) -> None:
    at = place(f"edge-{step}")
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, sync if step == "evaluate_study" else owner, step)
        assert at.run(QUICK).code == -signal.SIGKILL
    again = at.run(QUICK)
    assert again.code == 0, again.text
    assert at.outcome() == whole
    assert at.run(command="sync").code == 0, "nothing is left to upload"
    assert at.outcome() == whole


def test_a_study_noted_as_finished_has_a_run_that_has_ended(place: Callable[[str], Place], whole: Outcome) -> None:
    at = place("noted")
    save = Note.save

    def killed(self: Note, **news: Any) -> Note:
        saved = save(self, **news)
        if saved.state == "finished":
            os.kill(os.getpid(), signal.SIGKILL)
        return saved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Note, "save", killed)
        assert at.run(QUICK).code == -signal.SIGKILL
    assert at.outcome() == whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_a_stopped_study_is_killed_and_then_goes_on(
    place: Callable[[str], Place], whole: Outcome, number: signal.Signals, code: int
) -> None:
    at = place(f"stopped-{number.name}")
    run = at.start(QUICK)
    run.until(lambda: at.spooled() > 0 or not run.alive())
    assert run.kill(number).code == code
    assert at.outcome().runs == {"study KILLED": 1}
    assert at.run(QUICK).code == 0
    assert at.outcome() == whole


def test_sync_uploads_once(place: Callable[[str], Place], whole: Outcome, asked: Callable[[], int]) -> None:
    at = place("offline")
    assert at.run(f"{QUICK} --offline").code == 0
    assert not at.outcome().runs
    asked()
    for _ in range(2):
        assert at.run(command="sync").code == 0
        assert at.outcome() == whole
    assert asked() == 0


def test_answers_of_another_kind_of_device_are_synced_from_here(
    place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPU nodes answer offline, the login node has no GPU: one image is unreadable, which must load no model there."""
    at = place("login")
    at.data = write_bundle(at.folder / "eval")
    (at.data / "pope/val2014/3.png").write_bytes(b"no image")
    with monkeypatch.context() as there:
        there.setattr(Placement, "kind", lambda self, study: "cuda")
        run = at.run(f"{QUICK} --offline")
        assert run.code == 0, run.text
    monkeypatch.setattr(Placement, "load", lambda self, *_: pytest.fail("the model is loaded"))
    synced = at.run(command="sync")
    assert synced.code == 0, synced.text
    assert at.outcome().runs == {"study FINISHED": 1, "cell FINISHED": 2}


def test_the_device_that_answered_need_not_be_here() -> None:
    study = StudySettings.model_validate({"device": "cuda:1"})
    assert Placement(made_on="cuda").kind(study) == "cuda"


SECRETS = {"HF_TOKEN": "hf_SeCrEtOfTheHub", "MLFLOW_TRACKING_PASSWORD": "SeCrEtOfTheServer", "MY_API_KEY": "SeCrEtKey"}
WAYS = [(QUICK, "run"), (f"{QUICK} --seed 1 --offline", "evaluate")]


def sync_in_a_new_process(at: Place) -> int:
    """`headwise sync` with nothing imported or set before it; what it prints is in the folder."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HEADWISE_"))}
    environment = ours | at.environment | {"PYTHONPATH": str(ROOT / "src"), "HEADWISE_COMMIT": "as if committed"}
    with (at.folder / "output-sync.txt").open("wb") as out:
        command = [sys.executable, "-m", "headwise", "sync"]
        return subprocess.run(command, cwd=at.folder, env=environment, stdout=out, stderr=out, timeout=200).returncode


@pytest.mark.timeout(600)  # a server, three studies and a report: seconds, but not on a machine that is busy
def test_no_password_or_token_is_written_down(place: Callable[[str], Place]) -> None:
    at, port = place("secrets"), free_port()
    at.environment |= SECRETS | {"MLFLOW_TRACKING_USERNAME": "anna"}
    at.environment["MLFLOW_TRACKING_URI"] = f"http://anna:x@SeCrEtOfTheAddress@127.0.0.1:{port}"
    with tracking_server(at.folder, port):
        for number, (options, command) in enumerate(WAYS):
            at.output = f"output-{number}.txt"
            run = at.run(options, command)
            assert run.code == 0, run.text
        synced = sync_in_a_new_process(at)
        found = at.outcome()
    assert synced == 0
    assert found.runs["study FINISHED"] == 2
    files = [path for path in at.folder.rglob("*") if path.is_file()]
    assert any("artifacts" in path.parts for path in files)
    leaks = [str(path.relative_to(at.folder)) for path in files if b"SeCrEt" in path.read_bytes()]
    assert not leaks
