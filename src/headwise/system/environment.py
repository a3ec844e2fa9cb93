"""What the environment and paths on the command line say, checked: one line where they cannot be used."""

from __future__ import annotations

import os
import re
from pathlib import Path

from headwise.errors import ConfigError


def whole_number(name: str, default: int, least: int = 0) -> int:
    """The value of an environment variable that holds a count or a rank; ConfigError where it is no such number."""
    text = os.environ.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise ConfigError(f"{name}: {text!r} is not a whole number of at least {least}; the launcher sets it")
    return int(text)


def expanded(path: str | Path, what: str) -> Path:
    """The path with `~` and `~USER` replaced; ConfigError that names `what` where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{what}: {path} begins with the name of no user of this machine") from error
