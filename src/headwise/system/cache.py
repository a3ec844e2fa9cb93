"""Directories for answers and scratch files: `.headwise` in the working directory, or HEADWISE_HOME."""

from __future__ import annotations

import os
from pathlib import Path

from headwise.errors import ConfigError
from headwise.system.environment import expanded


def home() -> Path:
    """The base directory, as an absolute path."""
    return expanded(os.environ.get("HEADWISE_HOME", ".headwise"), "HEADWISE_HOME").resolve()


def spool_folder(group: str) -> Path:
    """Directory of the spooled answers of one group (see docs/survival.md for the fingerprints)."""
    return home() / "spool" / group


def work_folder() -> Path:
    """Scratch directory, created if needed; its users remove what they put there."""
    folder = home() / "work"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"HEADWISE_HOME: cannot create {folder} ({error.strerror})") from error
    return folder
