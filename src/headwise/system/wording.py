"""Singular and plural in messages."""

from __future__ import annotations


def counted(count: int, one: str, several: str) -> str:
    """`count` with the words that fit it: counted(1, "answer is", "answers are") is `1 answer is`."""
    return f"{count:,} {one if count == 1 else several}"
