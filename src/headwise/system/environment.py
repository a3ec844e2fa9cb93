"""Checked reading of environment variables and of paths given on the command line."""

from __future__ import annotations

import os
import re
from pathlib import Path

from headwise.errors import ConfigError


def whole_number(name: str, default: int, least: int = 0) -> int:
    """An environment variable that holds a count or a rank; ConfigError if it is not such a number."""
    text = os.environ.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise ConfigError(f"{name}: {text!r} is not a whole number of at least {least}; the launcher sets it")
    return int(text)


def expanded(path: str | Path, what: str) -> Path:
    """The path with `~` and `~USER` expanded; ConfigError that names `what` if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{what}: {path} begins with the name of no user of this machine") from error
