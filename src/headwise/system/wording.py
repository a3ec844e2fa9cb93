"""Singular and plural in messages."""

from __future__ import annotations


def counted(count: int, one: str, several: str) -> str:
    """The number with the words that fit it, as in `1 answer is` and `2 answers are`."""
    return f"{count:,} {one if count == 1 else several}"
