"""The command line that answers recorded cells again, and which cell is which in what it logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from headwise.run.settings import StudySettings
from headwise.study import names
from headwise.study.budget import plain

# Settings whose option has another name.
FLAGS = {"options": "--method-options"}
# Parameters that a run has whatever its strategy, and the strategies whose answers they change.
APPLIES: dict[str, Callable[[str], bool]] = {
    "tokens": names.needs_tokens,
    "heads": names.needs_heads,
    "seed": names.needs_seed,
    "query": names.reads_query,
}
# What stands before a CLIP's digest in a cell's options.
CLIP = "clip@"


def settings_of(cells: pd.DataFrame) -> dict[str, str]:
    """The settings that these cells were answered with, in command-line form; a setting that nobody logged is absent.

    All are given: what is not would be what the default configuration of the image says.
    """
    found = {name: _setting(cells, name) for name in StudySettings.model_fields if name in cells}
    found |= {"controls": "none", "limit": found.get("limit") or "all", "query": _queries(cells)}
    found["options"] = ",".join(dict.fromkeys(_options(cells)))
    return {name: value for name, value in found.items() if value}


def command(settings: Mapping[str, str]) -> list[str]:
    """`headwise evaluate` with these settings."""
    options = [[FLAGS.get(name, f"--{name.replace('_', '-')}"), value] for name, value in settings.items()]
    return ["python", "-m", "headwise", "evaluate", *(part for option in options for part in option)]


def identity(cell: Mapping[Any, Any]) -> tuple[str, ...]:
    """What tells a cell from the others of its study: benchmark, tokens, heads, strategy, query rows and options."""
    parts = (cell.get(name) for name in ("run_name", "query", "options"))
    return tuple("" if part is None or pd.isna(part) else str(part) for part in parts)


def clip_digest_of(cells: pd.DataFrame) -> str | None:
    """The beginning of the digest of the CLIP that cells read, as they recorded it."""
    texts = cells["options"].dropna().astype(str).tolist() if "options" in cells else []
    digests = [part.removeprefix(CLIP) for text in texts for part in text.split(",") if part.startswith(CLIP)]
    return digests[0] if digests else None


def _setting(cells: pd.DataFrame, name: str) -> str:
    """The parameter's values over the cells it applies to; those of all cells where it applies to none."""
    applies = cells["strategy"].map(APPLIES[name]).astype(bool) if name in APPLIES else cells["strategy"].notna()
    rows = cells[applies] if applies.any() or name in ("tokens", "heads") else cells
    values = rows[name].dropna()
    return ",".join(dict.fromkeys(str(plain(value) if isinstance(value, float) else value) for value in values))


def _queries(cells: pd.DataFrame) -> str:
    """Query rows are logged where they are not the default."""
    rows = cells[cells["strategy"].map(names.reads_query).astype(bool)]
    values = rows["query"].fillna(names.QUERIES[0]).tolist() if "query" in rows else []
    return ",".join(dict.fromkeys(values))


def _options(cells: pd.DataFrame) -> Iterable[str]:
    """Options as METHOD.OPTION=VALUE; a CLIP is a setting of its own."""
    if "options" not in cells:
        return
    for strategy, text in cells[["strategy", "options"]].dropna().itertuples(index=False):
        for part in str(text).split(","):
            if not part.startswith(CLIP):
                yield f"{strategy}.{part}"
