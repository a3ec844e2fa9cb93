"""Fields of question files and answer keys, checked: what is not there must not become a word of a prompt or label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from headwise.errors import DataError
from headwise.records import Sample, is_id, json_kind


def text_of(row: Mapping[str, Any], name: str, where: str, *, numbers: bool = False) -> str:
    """A field that must be text (or, with `numbers`, may be a number): null would become the word "None".

    DataError that begins with `where` for anything else.
    """
    value = row.get(name)
    allowed = (str, int, float) if numbers else (str,)
    if not isinstance(value, allowed) or isinstance(value, bool) or value != value:  # the last is NaN
        raise DataError(f"{where}: {name} is {json_kind(value)}, not text")
    return str(value)


def category_of(row: Mapping[str, Any], name: str, where: str) -> str:
    """A field that names the question's kind: text, or empty where the row has none."""
    return "" if row.get(name) is None else text_of(row, name, where)


def id_of(row: Mapping[str, Any], name: str, where: str) -> str:
    """A field that is an id: text or a whole number, which are compared as text. DataError for anything else."""
    if not is_id(row.get(name)):
        raise DataError(f"{where}: {name} is {json_kind(row.get(name))}, not text or a whole number")
    return str(row[name])


def once(samples: list[Sample], path: Path) -> list[Sample]:
    """The samples, whose ids must differ. DataError that names the first id that occurs twice."""
    counts = Counter(sample.question_id for sample in samples)
    if repeated := next((name for name, count in counts.items() if count > 1), None):
        raise DataError(f"{path}: has question {repeated!r} {counts[repeated]} times")
    return samples


def by_id(rows: Iterable[Mapping[str, Any]], name: str, path: Path) -> dict[str, Mapping[str, Any]]:
    """The rows of an answer key by id. DataError if two rows of one id differ: one of them would be ignored."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        key = str(row.get(name))
        if found.setdefault(key, row) != row:
            raise DataError(f"{path}: has two different entries for question {key!r}")
    return found
