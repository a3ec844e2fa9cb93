"""Versions and code, held together: code that makes answers or scores must not change without its version.

`golden/versions.json` holds each unit's version and the digest of its code. `python tests/versions.py --accept`
writes it anew: after a version was raised, or for a change that cannot change an answer (a name, a message).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwise.benchmarks import BENCHMARKS
from headwise.engine.alone import CostProbe
from headwise.engine.version import ENGINE_VERSION
from headwise.methods import METHODS, heads
from headwise.methods._query_rows import query_rows
from headwise.methods.head_strategies import BuiltIn
from headwise.methods.heads.maps import Maps
from headwise.methods.heads.ranking import Ranker
from headwise.models import FAMILIES
from headwise.models.checkpoint import PROMPT_VERSION, Vlm
from headwise.records import read_answers
from headwise.run.answering import Answerer, open_windows
from headwise.scoring.score import score_records
from headwise.study import names
from headwise.study.versions import source_digest
from headwise.system.reading import read_image

GOLDEN = Path(__file__).parent / "golden" / "versions.json"
COMMAND = "python tests/versions.py --accept"
# Not followed: what stands in them carries versions of its own.
LISTS = (names.STRATEGIES, names.CONTROLS, names._added, heads.STRATEGIES, BENCHMARKS)
# What lies between a cell and its answer; the last two are imported where they are called, which is not followed.
ANSWERING = (Answerer, open_windows, BuiltIn, query_rows)
CONTROL_CODE = {
    "vanilla": Ranker._token_order,
    "all_heads": Ranker._heads,
    "random_heads": Ranker._drawn,
    "random_tokens": Ranker._drawn,
}


@dataclass(frozen=True)
class Unit:
    """Code under one version: where the version stands, and the functions and classes that the code starts from."""

    version: str
    where: str
    roots: tuple[Any, ...]
    apart: Sequence[Any] = LISTS

    @property
    def digest(self) -> str:
        return source_digest(*self.roots, apart=self.apart)


def units() -> dict[str, Unit]:
    """Every unit whose version is part of what answers or verdicts are kept under."""
    found = {
        "engine": Unit(
            ENGINE_VERSION, "ENGINE_VERSION", ANSWERING, (*LISTS, CostProbe, Vlm, read_image, Maps, FAMILIES)
        ),
        "prompt": Unit(PROMPT_VERSION, "PROMPT_VERSION", (Vlm, read_image), (*LISTS, FAMILIES)),
    }
    for name, family in FAMILIES.items():
        where = f"{type(family).__name__}.prompt_version"
        found[f"family {name}"] = Unit(family.prompt_version, where, (type(family),), (*LISTS, FAMILIES))
    for name, strategy in heads.STRATEGIES.items():
        where = f"`version` of {name} in heads.STRATEGIES"
        found[f"strategy {name}"] = Unit(heads.version_of(name), where, (strategy.score, Maps))
    for name in names.CONTROLS:
        where = f"{name} in heads.CONTROL_VERSIONS"
        found[f"control {name}"] = Unit(heads.version_of(name), where, (CONTROL_CODE[name],))
    for name, method in METHODS.items():
        found[f"method {name}"] = Unit(heads.version_of(name), f"{type(method).__name__}.version", (type(method),))
    for name, benchmark in BENCHMARKS.items():
        where = f"{type(benchmark).__name__}.version"
        found[f"scorer {name}"] = Unit(str(benchmark.version), where, (type(benchmark), score_records, read_answers))
    return found


def problems(found: Mapping[str, Unit], golden: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What does not fit, one line per unit, each with what to do."""
    lines = []
    for name in sorted(found.keys() | golden.keys()):
        unit, known = found.get(name), golden.get(name)
        if unit is None:
            lines.append(f"{name}: is gone; run `{COMMAND}`")
        elif known is None or unit.version != known["version"]:
            lines.append(f"{name}: version {unit.version} is new; run `{COMMAND}`")
        elif unit.digest != known["digest"]:
            lines.append(
                f"{name}: its code changed and its version ({unit.version}) did not. If an answer or score can differ "
                f"now, raise {unit.where}; then, or if none can, run `{COMMAND}`"
            )
    return lines


def accept() -> None:
    content = {name: {"version": unit.version, "digest": unit.digest} for name, unit in units().items()}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def golden_versions() -> dict[str, dict[str, str]]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


if __name__ == "__main__":
    if "--accept" in sys.argv:
        accept()
    sys.exit("\n".join(problems(units(), golden_versions())) or 0)
