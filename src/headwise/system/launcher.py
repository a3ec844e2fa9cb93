"""Refusal to be one of several processes that accelerate or torchrun started: each would answer the whole study."""

from __future__ import annotations

import os
import sys
import time

from headwise.errors import ConfigError
from headwise.system.environment import whole_number

LINGER = 30.0


def check_launcher() -> None:
    """ConfigError with the command to use, said by the first of a host's processes; the others end without a word.

    They wait until the launcher ends them: it ends all at once when one has ended, and only the first has a line to
    say.
    """
    size, rank = whole_number("WORLD_SIZE", 1, least=1), whole_number("RANK", 0)
    if rank >= size:
        raise ConfigError(f"RANK: {os.environ['RANK']} is not below WORLD_SIZE, {size}")
    if size == 1:
        return
    if whole_number("LOCAL_RANK", rank):
        time.sleep(LINGER)
        sys.exit(2)
    raise ConfigError(
        f"WORLD_SIZE: a launcher started {size} processes, but headwise shares work through Ray; start it once, "
        f"without the launcher: `headwise run --engine ray --workers {size}` (several hosts: docs/scaling.md)"
    )
