"""The studies of this working folder that have been begun: who works on one, and what is left to upload.

A note a study below `.headwise/studies`, written whole or not at all, and a lock beside it. The note says
which run the study is, so that the same command goes on with that run, and `headwise sync` can finish it.
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

# The setting that says where notes and locks lie, and what to do where they are somebody else's.
OWN_HOME = "HEADWISE_HOME (set it to a folder of your own)"
State = Literal["new", "open", "finished"]


@dataclass(frozen=True, kw_only=True)
class Note:
    """One study: its key, its settings, where it is logged, and how far it is.

    `tracking` names the server without its password; `run_id` is None as long as no run was opened;
    `mark` is a tag of the run from its first moment, noted before there is a run. `placement` says on what kind of
    device its answers are made (`placement.Placement`): where they are logged may have another.
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
        (_folder() / f"{self.key}.json").unlink(missing_ok=True)


@contextmanager
def study_lock(note: Note, say: Callable[[str], None]) -> Iterator[Note]:
    """Be the only process on this host's study; the note as it is now, after those who had it before.

    Waits where another process works on it, and says so. `finished` in what comes back means that it was
    finished while this process waited.
    """
    since = time.time()

    def waits() -> None:
        say(f"{_holder(note.key)} works on this study already; waiting for it to end")

    with held(_folder() / f"{note.key}.lock", OWN_HOME, waits=waits):
        _sign(note.key)
        found = read(note.key)
        yield found if found and (found.state == "open" or found.changed > since) else note


@contextmanager
def try_study_lock(note: Note) -> Iterator[bool]:
    """As `study_lock`, but False at once where another process works on the study."""
    with ExitStack() as stack:
        try:
            stack.enter_context(held(_folder() / f"{note.key}.lock", OWN_HOME, timeout=0))
        except Timeout:
            yield False
            return
        _sign(note.key)
        yield True


def read(key: str) -> Note | None:
    """The note under this key, if there is one."""
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
    """The tracking server or store of this process, as a study is bound to it: absolute, without a password."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return without_secrets(uri) if "://" in uri else str(Path(uri).absolute())


def open_notes() -> list[Note]:
    """The studies that were begun and not finished, oldest first."""
    notes = [read(path.stem) for path in _folder().glob("*.json")]
    return sorted((note for note in notes if note and note.state == "open"), key=lambda note: note.changed)


def forget_unreadable() -> list[str]:
    """Drop the notes that cannot be read (damaged, or of another version of headwise); what was wrong with each."""
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
