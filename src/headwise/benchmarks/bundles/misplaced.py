"""Misplaced files of a bundle, and the command that moves them to the right place."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from headwise.benchmarks import Benchmark, Problem

# Depth of the search; deeper folders hold thousands of images.
DEPTH = 5


def misplaced(bench: Benchmark, data_dir: Path) -> list[Problem]:
    """The problem of a question file in a wrong folder of `data_dir`; empty if it is not found."""
    wanted = data_dir / bench.question_file
    if not bench.question_file or wanted.exists():
        return []
    fix = found_elsewhere(data_dir, wanted)
    return [Problem(what=f"{wanted} is missing; a file of that name lies elsewhere", fix=fix)] if fix else []


def found_elsewhere(data_dir: Path, wanted: Path, tail: int = 1) -> str:
    """The command that moves a file of that name in `data_dir` to the wanted path; empty if there is none.

    A folder under another name is renamed (`SEED-Bench/` to `seed_bench/`). If the wanted folder exists, the
    content of the found one is moved into it. The last `tail` parts of the path must agree (`95/image.png`: 2).
    """
    places = (place for place in _places(data_dir, wanted.name) if _same_tail(place, wanted, tail))
    place = next(places, None)
    if place is None:
        return ""
    if place.parent == wanted.parent:  # only the case of the name differs
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
    """Paths below `data_dir` of files with that name, ignoring case; nearest folders first."""
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
