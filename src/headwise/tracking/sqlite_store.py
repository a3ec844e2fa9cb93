"""SQLite tracking stores: initialised in a temporary file, then moved into place; half-initialised ones are refused.

MLflow creates its tables one by one, in a second or two; a process killed meanwhile would leave a file that
MLflow can neither use nor complete.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import Timeout
from mlflow import MlflowClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

from headwise.errors import ConfigError, TrackingError
from headwise.system.locks import held
from headwise.system.redaction import without_secrets

SCHEME = "sqlite:///"
# Tables that MLflow fills itself; the experiment Default is created last.
SEEDED = ("alembic_version", "experiments", "workspaces")
LOCK_SECONDS = 60.0
# A half-initialised file that has not changed for this long is abandoned.
STILL_SECONDS = 5.0


@contextmanager
def initialised_store(uri: str) -> Iterator[None]:
    """Inside the block the SQLite store of this URI exists, is complete and is locked; other stores are not touched.

    TrackingError if it cannot be used: missing folder, path is a folder, not writable, half initialised, not an
    SQLite file. mlflow's own lock depends on the spelling of the URI and does not cover the Default experiment, so
    two processes that initialise the same store would collide.
    """
    if not uri.startswith(SCHEME) or uri.endswith(":memory:"):
        yield
        return
    database = database_of(uri)
    name = f"tracking store {without_secrets(uri)}"
    _check_place(database, name)
    try:
        with held(database.with_name(f"{database.name}.lock"), name, timeout=LOCK_SECONDS):
            if not _content(database):
                _make(uri, database)
            _check_whole(database, name)
            yield
    except Timeout as error:
        raise TrackingError(f"{name}: another process has held {error.lock_file} for {LOCK_SECONDS:.0f} s") from error
    except ConfigError as error:
        raise TrackingError(f"{error}; set MLFLOW_TRACKING_URI to a store that you can write") from error


def database_of(uri: str) -> Path:
    """Absolute path of an SQLite URI's file."""
    return Path(uri.removeprefix(SCHEME).split("?")[0]).absolute()


def _check_place(database: Path, name: str) -> None:
    if not database.parent.is_dir():
        raise TrackingError(f"{name}: there is no folder {database.parent}")
    if database.is_dir():
        raise TrackingError(f"{name}: {database} is a folder; name a file in it, such as {SCHEME}{database}/mlflow.db")
    for path in (database, database.parent):  # SQLite keeps its journal beside the file
        if path.exists() and not os.access(path, os.W_OK):
            raise TrackingError(f"{name}: {path} cannot be written")


def _content(database: Path) -> int:
    """Size of the file in bytes; 0 if it does not exist."""
    return database.stat().st_size if database.exists() else 0


def _make(uri: str, database: Path) -> None:
    """Initialise the store under a temporary name, then move it into place, unless another program was faster."""
    for left in database.parent.glob(f"{database.name}.making-*"):  # we hold the lock, so its process is dead
        left.unlink()
    aside = database.with_name(f"{database.name}.making-{os.getpid()}")
    with _unsynced():
        _initialise(uri.replace(SCHEME + uri.removeprefix(SCHEME).split("?")[0], f"{SCHEME}{aside}"))
    with aside.open("rb") as whole:
        os.fsync(whole.fileno())
    try:
        if database.exists() and not _content(database):  # empty since before we started: its process is dead
            os.replace(aside, database)
        else:
            os.link(aside, database)  # as os.rename, but never over a file that is there
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.rename(aside, database)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _unsynced() -> Iterator[None]:
    """Inside the block SQLite does not wait for the disk, as MLflow's migrations, one commit each, would have it do.

    Only for a file that nobody knows yet; the caller waits for the disk once, before others see it.
    """

    def without(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", without)
    try:
        yield
    finally:
        event.remove(Engine, "connect", without)


def _initialise(uri: str) -> None:
    """Let MLflow create its tables, without leaving a connection open on the file, which will be moved."""
    before = os.environ.get("MLFLOW_SQLALCHEMYSTORE_POOLCLASS")
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    try:
        MlflowClient(uri).search_experiments(max_results=1)
    finally:
        os.environ.pop("MLFLOW_SQLALCHEMYSTORE_POOLCLASS")
        if before is not None:
            os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = before


def _check_whole(database: Path, name: str) -> None:
    """TrackingError for an abandoned half-initialised store; waits while another program initialises it."""
    while _unfinished(database, name):
        if time.time() - _last_change(database) > STILL_SECONDS:
            raise TrackingError(
                f"{name}: its tables were never finished (a process was killed while MLflow made them) and it "
                f"holds no run: delete {database} and run the same command again"
            )
        time.sleep(0.2)


def _last_change(database: Path) -> float:
    journal = database.with_name(f"{database.name}-journal")
    return max(path.stat().st_mtime for path in (database, journal) if path.exists())


def _unfinished(database: Path, name: str) -> bool:
    """True if MLflow's last step, the Default experiment, is missing and nothing else is stored."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as store:
            tables = [row[0] for row in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if "experiments" in tables and _has_rows(store, "experiments"):
                return False
            return not any(_has_rows(store, table) for table in tables if table not in SEEDED)
    except sqlite3.OperationalError:  # locked by a writer: mlflow waits and reports it
        return False
    except sqlite3.DatabaseError as error:
        raise TrackingError(f"{name}: {database} is not an SQLite database ({error})") from error


def _has_rows(store: sqlite3.Connection, table: str) -> bool:
    return store.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() is not None
