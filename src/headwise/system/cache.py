"""Where headwise keeps answers and scratch files: `.headwise` in the working folder, or HEADWISE_HOME."""

from __future__ import annotations

import os
from pathlib import Path

from headwise.errors import ConfigError
from headwise.system.environment import expanded


def home() -> Path:
    return expanded(os.environ.get("HEADWISE_HOME", ".headwise"), "HEADWISE_HOME").resolve()


def spool_folder(group: str) -> Path:
    """Answers already given, by what they were given under."""
    return home() / "spool" / group


def work_folder() -> Path:
    """Scratch space, emptied by those who use it."""
    folder = home() / "work"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"HEADWISE_HOME: cannot create {folder} ({error.strerror})") from error
    return folder
