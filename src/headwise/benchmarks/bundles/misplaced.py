"""Files of a benchmark that lie in the wrong place of a bundle, and the command that moves them to the right one."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from headwise.benchmarks import Benchmark, Problem

# Levels of folders that are looked into: deeper ones hold images by the thousand.
DEPTH = 5


def misplaced(bench: Benchmark, data_dir: Path) -> list[Problem]:
    """The question file where it lies in another folder of `data_dir`; empty where it is not found."""
    wanted = data_dir / bench.question_file
    if not bench.question_file or wanted.exists():
        return []
    fix = found_elsewhere(data_dir, wanted)
    return [Problem(what=f"{wanted} is missing; a file of that name lies elsewhere", fix=fix)] if fix else []


def found_elsewhere(data_dir: Path, wanted: Path, tail: int = 1) -> str:
    """The command that brings a file of that name in `data_dir` to where it is wanted; empty if there is none.

    A folder under another name is renamed (`SEED-Bench/` to `seed_bench/`). Where the wanted folder exists, what
    lies in the found one is moved into it. The last `tail` parts of the path must agree (`95/image.png`: 2).
    """
    places = (place for place in _places(data_dir, wanted.name) if _same_tail(place, wanted, tail))
    place = next(places, None)
    if place is None:
        return ""
    if place.parent == wanted.parent:  # the name alone differs, in its case
        return f"mv {_quoted(place)} {_quoted(wanted)}"
    old, new = place.parents[tail - 1], wanted.parents[tail - 1]
    while old.name == new.name and data_dir not in (old.parent, new.parent):
        old, new = old.parent, new.parent
    if old == data_dir or old in new.parents or new in old.parents or new.exists():
        pattern = f"*{wanted.suffix}" if tail == 1 else "*"
        from_, to = _quoted(place.parents[tail - 1]), _quoted(wanted.parents[tail - 1])
        return f"mkdir -p {to} && mv {from_}/{pattern} {to}/"
    first = "" if new.parent.exists() else f"mkdir -p {_quoted(new.parent)} && "
    return f"{first}mv {_quoted(old)} {_quoted(new)}"


def _places(data_dir: Path, name: str) -> Iterator[Path]:
    """Where below `data_dir` a file of that name lies, whatever its case; nearest folders first."""
    level = [data_dir]
    for _ in range(DEPTH):
        below: list[Path] = []
        for folder in level:
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                continue
            yield from (Path(entry.path) for entry in entries if entry.name.lower() == name.lower())
            below += [Path(entry.path) for entry in entries if entry.is_dir()]
        level = below


def _same_tail(place: Path, wanted: Path, tail: int) -> bool:
    return place.parts[-tail:-1] == wanted.parts[-tail:-1]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
