"""Studies started in this working folder: which process works on one, and what is left to upload.

One note per study below `.headwise/studies`, written atomically, with a lock file beside it. The note records
the study's run id, so that the same command continues that run, and `headwise sync` can finish it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from headwise.errors import ConfigError
from headwise.system.cache import home
from headwise.system.locks import held, owner
from headwise.system.redaction import without_secrets

# Named in errors: the setting for the folder of notes and locks, and the remedy if another user owns it.
OWN_HOME = "HEADWISE_HOME (set it to a folder of your own)"
State = Literal["new", "open", "finished"]


@dataclass(frozen=True, kw_only=True)
class Note:
    """State of one study: key, settings, tracking store and progress.

    `tracking` is the server without its password; `run_id` is None until a run is opened; `mark` is a tag that the
    run has from its creation, noted beforehand. `placement` is the kind of device that answers the questions
    (`placement.Placement`); the machine that logs them may have another.
    """

    key: str
    study: dict[str, Any]
    comparing: bool
    tracking: str
    experiment: str | None = None
    run_id: str | None = None
    state: State = "new"
    changed: float = 0.0
    mark: str = ""
    placement: dict[str, Any] = field(default_factory=dict)

    def save(self, **news: Any) -> Note:
        """Write the note with these changes, and return it."""
        note = replace(self, **news, changed=time.time())
        path = _folder() / f"{self.key}.json"
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_text(json.dumps(asdict(note), indent=1), encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            raise ConfigError(f"HEADWISE_HOME: cannot write {path} ({error.strerror})") from error
        return note

    def forget(self) -> None:
        """Delete the note; it may be gone already."""
        (_folder() / f"{self.key}.json").unlink(missing_ok=True)


@contextmanager
def study_lock(note: Note, say: Callable[[str], None]) -> Iterator[Note]:
    """Hold the study's lock inside the block; yields the current note.

    If another process holds the lock, `say` is called once and this process waits. A yielded note in state
    `finished` means that the study was finished meanwhile.
    """
    since = time.time()

    def waits() -> None:
        say(f"{_holder(note.key)} is already working on this study; waiting for it to end")

    with held(_folder() / f"{note.key}.lock", OWN_HOME, waits=waits):
        _sign(note.key)
        found = read(note.key)
        yield found if found and (found.state == "open" or found.changed > since) else note


@contextmanager
def try_study_lock(note: Note) -> Iterator[bool]:
    """As `study_lock`, but without waiting: yields False if another process holds the lock."""
    with ExitStack() as stack:
        try:
            stack.enter_context(held(_folder() / f"{note.key}.lock", OWN_HOME, timeout=0))
        except Timeout:
            yield False
            return
        _sign(note.key)
        yield True


def read(key: str) -> Note | None:
    """The note of this key; None if there is none."""
    path = _folder() / f"{key}.json"
    try:
        note = Note(**json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(note.study, dict):
            raise TypeError(note.study)
        return note
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{OWN_HOME}: cannot read {path} ({error.strerror}{owner(path)})") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"HEADWISE_HOME: {path} is damaged or another version's; delete it (`headwise sync --forget` does) "
            "and run the study's command again"
        ) from error


def tracking_place() -> str:
    """The tracking server or store of this process, as recorded in notes: absolute, without password."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return without_secrets(uri) if "://" in uri else str(Path(uri).absolute())


def open_notes() -> list[Note]:
    """Unfinished studies, oldest first."""
    notes = [read(path.stem) for path in _folder().glob("*.json")]
    return sorted((note for note in notes if note and note.state == "open"), key=lambda note: note.changed)


def forget_unreadable() -> list[str]:
    """Delete unreadable notes (damaged, or of another version of headwise); the reason for each."""
    reasons = []
    for path in sorted(_folder().glob("*.json")):
        try:
            read(path.stem)
        except ConfigError as error:
            path.unlink()
            reasons.append(str(error))
    return reasons


def _sign(key: str) -> None:
    path = _folder() / f"{key}.holder"
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    except OSError as error:
        raise ConfigError(f"{OWN_HOME}: cannot write {path} ({error.strerror}{owner(path)})") from error


def _holder(key: str) -> str:
    path = _folder() / f"{key}.holder"
    return path.read_text() if path.is_file() else "another process"


def _folder() -> Path:
    folder = home() / "studies"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"HEADWISE_HOME: cannot create {folder} ({error.strerror})") from error
    return folder
