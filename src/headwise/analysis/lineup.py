"""Which cells may stand in one table: complete, asked the same questions, scored by the same labels and rule."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from headwise import tracking
from headwise.errors import DataError
from headwise.study.names import ANSWERING

# Tags of a cell run: digest of the answer key that its score comes from, and the version of the rule.
SCORED_BY = {"labels": "tags.headwise.labels_digest", "scorer": "tags.headwise.scorer"}
# Runs that were logged before these tags were.
UNKNOWN = "unknown"
SHOWN = 5


def without_incomplete(cells: pd.DataFrame, identity: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """The complete cells; the others are named in `notes`, unless a complete run of the same cell is there.

    NothingFound where none is complete.
    """
    complete = cells["complete"].astype(bool)
    if complete.all():
        return cells
    if not complete.any():
        raise tracking.NothingFound(
            f"none of the {len(cells)} finished cells is complete ({listed(cells)}); --include-incomplete takes them in"
        )
    ordered = cells.assign(_first=~complete).sort_values("_first", kind="stable")
    alone = cells[~complete & ~ordered.duplicated(identity).reindex(cells.index)]
    if len(alone):
        notes.append(
            f"incomplete and left out: {listed(alone)}; --include-incomplete takes in cells with failed, missing or "
            "contradicted answers"
        )
    return cells[complete]


def without_partial(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """A cell asked fewer questions than others of its benchmark is no pair to them, and must not shorten theirs."""
    partial = asked_less(cells)
    for benchmark, rows in cells[partial].groupby("benchmark", sort=False):
        most = int(cells.loc[cells["benchmark"] == benchmark, "samples"].max())
        notes.append(
            f"{benchmark}: asked fewer than the others' {most:,} questions and left out: {listed(rows)}; "
            "--include-incomplete takes them in"
        )
    return cells[~partial]


def asked_less(cells: pd.DataFrame) -> pd.Series:
    """Bool: fewer questions than another cell of the same benchmark."""
    if "samples" not in cells:
        return pd.Series(False, index=cells.index)
    return cells["samples"] < cells.groupby("benchmark")["samples"].transform("max")


def check_scored_alike(cells: pd.DataFrame, notes: list[str]) -> None:
    """DataError where cells of a benchmark were scored by different labels or rules; a note where that is unknown.

    Labels of incomplete cells, and of those asked fewer questions, are compared question by question, as the verdicts
    are read.
    """
    unknown: list[str] = []
    for benchmark, rows in cells.groupby("benchmark", sort=False):
        for what, tag in SCORED_BY.items():
            compared = rows[~asked_less(rows) & rows["complete"].astype(bool)] if what == "labels" else rows
            values = compared[tag].fillna(UNKNOWN) if tag in compared else pd.Series(UNKNOWN, index=compared.index)
            if values.nunique() > 1:
                raise DataError(_differently_scored(str(benchmark), what, compared, values))
            unknown += [str(benchmark)] if (values == UNKNOWN).any() else []
    if unknown:
        notes.append(
            f"{', '.join(dict.fromkeys(unknown))}: labels and scorer of these cells are unknown, an older headwise "
            f"logged them; {again(cells[cells['benchmark'].isin(unknown)])} records them"
        )


def _differently_scored(benchmark: str, what: str, cells: pd.DataFrame, values: pd.Series) -> str:
    counts = [f"{len(cells[values == value])} by {value}" for value in dict.fromkeys(values)]
    plural = "labels" if what == "labels" else "versions of the scorer"
    return (
        f"{benchmark}: cells were scored by different {plural} ({', '.join(counts)}), so their scores cannot be "
        f"compared; score them anew by the same: {again(cells)}"
    )


def again(cells: pd.DataFrame) -> str:
    """The command that scores these cells anew."""
    studies = list(dict.fromkeys(cells["study"].dropna())) if "study" in cells else []
    if not studies:
        return "`headwise score --run RUN` for each"
    shown = [f"`headwise score --study {study}`" for study in studies[:SHOWN]]
    return " and ".join(shown) + (" and so on" if len(studies) > SHOWN else "")


def answered_otherwise(cells: pd.DataFrame) -> list[str]:
    """A note where cells were answered in different ways: precision, device, length, prompt, or by another program."""
    known = cells.assign(source=cells["source"].fillna("headwise"))
    different = [name for name in ANSWERING if known[name].nunique() > 1]
    differences = [f"{name} ({', '.join(sorted(map(str, known[name].dropna().unique())))})" for name in different]
    if not differences:
        return []
    return [
        f"cells were not answered alike: they differ in {' and '.join(differences)}. Each is compared with its own "
        "vanilla; their names say which is which"
    ]


def listed(cells: pd.DataFrame) -> str:
    """The cells' names and what each lacks, the first few of them."""
    names = [_name(row) for row in cells.head(SHOWN).to_dict("records")]
    more = f" and {len(cells) - SHOWN} more" if len(cells) > SHOWN else ""
    return ", ".join(names) + more


def _name(row: Mapping[Hashable, Any]) -> str:
    parts = [row.get(name) for name in ("benchmark", "tokens", "heads", "strategy")]
    name = "-".join(str(part) for part in parts if not pd.isna(part))
    status = row.get("tags.headwise.status")
    lost = [f"{row[key]:,.0f} {key}" for key in ("failed", "missing") if not pd.isna(row.get(key)) and row[key]]
    reasons = [status] if status == "contradicted" else lost
    return f"{name} ({', '.join(['run ' + str(row['run_id'])[:8], *reasons])})"
