"""When Python looks for garbage: hardly while a process loads and reads, as usual while it answers.

Imports and a comparison make a million objects, all of which stay: looking through them takes about a second.
"""

from __future__ import annotations

import gc

USUAL = gc.get_threshold()
SELDOM = 1_000_000


def seldom() -> None:
    """From here on objects mostly stay: look for garbage once a million of them."""
    gc.set_threshold(SELDOM, *USUAL[1:])


def as_usual() -> None:
    """From here on objects come and go: look as often as Python does, but not through what `seldom` has seen made."""
    if gc.get_threshold()[0] == SELDOM:
        gc.freeze()
        gc.set_threshold(*USUAL)
