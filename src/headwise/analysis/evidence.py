"""What each cell's pruning chose: heads and kept tokens, question by question, out of `evidence.npz`.

The file holds `heads_NH` and `kept_NV` (uint8, one row per question in question file order, sets as
numpy.packbits packs them), `head_count`, `visual` (the most, where `visual_N` says that images differ), and
`float16_agreement` where the cell ranks heads. Where rows are merged, `areas_NV` says of each token which merged row
it weighs most in. Sets stay packed here: overlaps are bit counts, unless a cell merges.
"""

from __future__ import annotations

import zipfile
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from headwise.analysis.roles import in_order, is_method
from headwise.errors import DataError
from headwise.study.grids import Grid, from_numbers, places

FILE = "evidence.npz"
# Overlaps are means over at most this many questions, evenly spaced: their error is far below 0.01.
QUESTIONS = 1000


@dataclass(frozen=True)
class Evidence:
    """One cell's choices. `heads_NH` and `kept_NV` are packed bits of `head_count` and `visual` places.

    `merged_N`: how many merged rows stand behind the kept tokens of each question after the last stage; None where the
    cell makes none. `stage_kept_GN`: how many tokens each stage left, after the layers `stage_layers`. `file`: where
    the areas of merged rows are, which are read as they are asked for; None where no row comes from an area.
    """

    heads_NH: np.ndarray
    kept_NV: np.ndarray
    head_count: int
    visual: int
    float16_agreement: float | None
    merged_N: np.ndarray | None = None
    stage_layers: tuple[int, ...] = ()
    stage_kept_GN: np.ndarray | None = None
    visual_N: np.ndarray | None = None
    file: Path | None = None
    grids_G7: np.ndarray | None = None
    grids_N: np.ndarray | None = None

    @property
    def side(self) -> int | None:
        """Tokens per side of every image's square; None where they form none, or images differ in their number."""
        side = round(self.visual**0.5)
        return side if self.visual_N is None and side**2 == self.visual else None

    def merged(self, row: int) -> int:
        """How many merged rows the language model has behind the kept tokens of one question."""
        return 0 if self.merged_N is None else int(self.merged_N[row])

    def stages(self, row: int) -> list[tuple[int, int]]:
        """Each stage of one question: after which layer, and how many of the image's tokens it left."""
        counts = [] if self.stage_kept_GN is None else self.stage_kept_GN[:, row].tolist()
        return list(zip(self.stage_layers, counts, strict=True))

    def kept(self, row: int) -> np.ndarray:
        """Bool [visual]: the tokens kept for one question."""
        return np.unpackbits(self.kept_NV[row], count=self.visual).astype(bool)

    def grids(self, row: int) -> tuple[Grid, ...]:
        """Where the tokens of one question's image lie in its padded square; empty where that is not recorded."""
        if self.grids_G7 is None or self.grids_N is None:
            return ()
        start = int(self.grids_N[:row].sum())
        return from_numbers(self.grids_G7[start : start + int(self.grids_N[row])].tolist())

    def kept_map(self, row: int, side: int) -> np.ndarray:
        """Bool [side, side]: the parts of the padded square that some kept token of one question sees."""
        shown = np.zeros((side, side), dtype=bool)
        boxes_V4 = places(self.grids(row))
        middles = (np.arange(side) + 0.5) / side
        for left, top, right, bottom in boxes_V4[self.kept(row)[: len(boxes_V4)]]:
            within = [(start <= middles) & (middles < stop) for start, stop in ((top, bottom), (left, right))]
            shown |= within[0][:, None] & within[1]
        return shown

    def areas(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """For some questions the merged row that each token is in, from 1 (0: none): uint16 [rows, visual].

        DataError where the file cannot be read.
        """
        if self.file is None:
            return np.zeros((len(rows), self.visual), dtype=np.uint16)
        with opened(self.file) as file:
            areas: np.ndarray = file["areas_NV"][rows]
        return areas

    def shares(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """How much of a row of the language model each token is, for some questions: float32 [rows, visual].

        1 for a kept token; a merged row is spread evenly over its area, so that it counts as one token, too. [CLS] and
        zero rows have no area and count nothing.
        """
        share_nV = np.unpackbits(self.kept_NV[rows], axis=1, count=self.visual).astype(np.float32)
        for share_V, area_V in zip(share_nV, self.areas(rows), strict=True):
            sizes = np.bincount(area_V)
            share_V[area_V > 0] += 1 / sizes[area_V[area_V > 0]]
        return share_nV

    def frequency(self) -> np.ndarray:
        """Share of the answered questions in which each head was chosen, [head_count]."""
        chosen_NH = np.unpackbits(self.heads_NH, axis=1, count=self.head_count)
        ranked = chosen_NH.any(axis=1)
        return chosen_NH[ranked].mean(axis=0) if ranked.any() else np.zeros(self.head_count)


def read_evidence(path: Path) -> Evidence:
    """DataError where the file is unreadable or lacks a part."""
    with opened(path) as file:
        agreement = float(file["float16_agreement"]) if "float16_agreement" in file else None
        counts = int(file["head_count"]), int(file["visual"])
        visual_N = file["visual_N"] if "visual_N" in file else None  # noqa: SIM401 (npz has no get)
        more = _stages(file) | _grids(file) | ({"file": path} if "areas_NV" in file else {})
        return Evidence(file["heads_NH"], file["kept_NV"], *counts, agreement, visual_N=visual_N, **more)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The arrays of an evidence file; DataError where it is unreadable or lacks one that is asked for."""
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read the evidence {path}: {error}") from error


def _stages(file: Any) -> dict[str, Any]:
    """Stage by stage, where the file has it: cells of several stages, or with merged rows."""
    if "stage_layers" not in file:
        return {}
    merged_GN = file["merged_GN"]
    return {
        "merged_N": merged_GN[-1] if merged_GN.any() else None,
        "stage_layers": tuple(int(layer) for layer in file["stage_layers"]),
        "stage_kept_GN": np.bitwise_count(file["stages_GNV"]).sum(axis=2, dtype=int),
    }


def _grids(file: Any) -> dict[str, Any]:
    return {name: file[name] for name in ("grids_G7", "grids_N") if name in file}


def frequency_maps(cells: pd.DataFrame, found: Mapping[str, Evidence]) -> dict[int, pd.DataFrame]:
    """For each number of heads: rows strategies, columns heads, how often a head is chosen (mean over budgets)."""
    maps: dict[int, pd.DataFrame] = {}
    rankers = _rankers(cells, found)
    for number in sorted(rankers["heads"].dropna().unique(), reverse=True):
        rows = rankers.loc[rankers["heads"] == number]
        groups = {name: [found[run].frequency() for run in group["run_id"]] for name, group in rows.groupby("strategy")}
        table = pd.DataFrame({name: np.mean(shares, axis=0) for name, shares in groups.items()}).T
        maps[int(number)] = table.reindex(in_order(groups))
    return maps


def overlaps(cells: pd.DataFrame, found: Mapping[str, Evidence], part: str) -> pd.DataFrame:
    """Jaccard overlap between strategies of the `heads` chosen or the tokens `kept`.

    Mean over questions of |A ∩ B| / |A ∪ B|, for cells that differ in strategy only, then over budgets
    and head counts. A method without heads is held against a head strategy at each number of heads. Where a cell has
    merged rows, kept tokens are `Evidence.shares` and their overlap is `ruzicka`, which is the same for plain sets.
    """
    rows = _rankers(cells, found) if part == "heads" else _methods(cells, found)
    names = in_order(rows["strategy"])
    total = np.zeros((2, len(names), len(names)))
    shares: dict[str, np.ndarray] = {}
    for first, second in _pairs(rows):
        i, j = names.index(str(first["strategy"])), names.index(str(second["strategy"]))
        runs = str(first["run_id"]), str(second["run_id"])
        if part == "kept" and any(found[run].file for run in runs):
            for run in runs:
                if run not in shares:
                    shares[run] = _shares(found[run])
            overlap = ruzicka(*(shares[run] for run in runs))
        else:
            overlap = jaccard(*(_packed(found[run], part) for run in runs))
        if not np.isnan(overlap):
            total[:, max(i, j), min(i, j)] += overlap, 1
    total += np.tril(total, -1).transpose(0, 2, 1)
    mean = np.divide(total[0], total[1], out=np.full_like(total[0], np.nan), where=total[1] > 0)
    return pd.DataFrame(mean, index=pd.Index(names, name="strategy"), columns=names)


def _pairs(rows: pd.DataFrame) -> Iterator[tuple[dict[Hashable, Any], dict[Hashable, Any]]]:
    """Cells at the same token budget, with the same number of heads where both have one; each with itself, too."""
    for _, group in rows.groupby("tokens"):
        cells = group.drop_duplicates(["strategy", "heads"], keep="last").to_dict("records")
        for first, second in combinations_with_replacement(cells, 2):
            heads = [cell["heads"] for cell in (first, second) if not pd.isna(cell["heads"])]
            same = first["strategy"] == second["strategy"]
            if len(set(heads)) < 2 and (not same or first is second):
                yield first, second


def jaccard(first_NX: np.ndarray, second_NX: np.ndarray) -> float:
    """Mean over questions of the overlap of two packed sets; questions on which both are empty do not count."""
    first, second = _alike(first_NX, second_NX)
    shared = np.bitwise_count(first & second).sum(axis=1, dtype=int)
    united = np.bitwise_count(first | second).sum(axis=1, dtype=int)
    return float((shared[united > 0] / united[united > 0]).mean()) if (united > 0).any() else np.nan


def ruzicka(first_NV: np.ndarray, second_NV: np.ndarray) -> float:
    """The overlap of `jaccard` for shares: mean over questions of Σ min / Σ max; the same on shares of 0 and 1."""
    first, second = _alike(first_NV, second_NV)
    shared = np.minimum(first, second).sum(axis=1, dtype=float)
    united = np.maximum(first, second).sum(axis=1, dtype=float)
    return float((shared[united > 0] / united[united > 0]).mean()) if (united > 0).any() else np.nan


def _alike(first_NX: np.ndarray, second_NX: np.ndarray) -> list[np.ndarray]:
    """The questions that both have, of one width: what a cell answered decides how wide its widest image is."""
    length, width = min(len(first_NX), len(second_NX)), max(first_NX.shape[1], second_NX.shape[1])
    return [np.pad(each[:length], ((0, 0), (0, width - each.shape[1]))) for each in (first_NX, second_NX)]


def precision_table(cells: pd.DataFrame, found: Mapping[str, Evidence]) -> pd.DataFrame:
    """Share of chosen heads on which a float16 ranking agrees with the float64 definition; chance is heads / H."""
    rows = _rankers(cells, found)
    agreement = np.array([found[run].float16_agreement for run in rows["run_id"]], dtype=float)
    chance = [heads / found[run].head_count for run, heads in zip(rows["run_id"], rows["heads"], strict=True)]
    table = rows[["strategy", "heads"]].assign(float16_agreement=agreement, chance=chance)
    means = table.groupby(["strategy", "heads"], sort=False).mean().reset_index()
    return means.sort_values(["float16_agreement", "strategy"], ignore_index=True)


def _rankers(cells: pd.DataFrame, found: Mapping[str, Evidence]) -> pd.DataFrame:
    """The cells that rank heads by a strategy and have evidence of a number of heads."""
    rows = _methods(cells, found).dropna(subset="heads")
    return rows.loc[rows["run_id"].map(lambda run: bool(found[run].heads_NH.any())).astype(bool)]


def _methods(cells: pd.DataFrame, found: Mapping[str, Evidence]) -> pd.DataFrame:
    """The cells of methods that have evidence."""
    return cells.loc[is_method(cells) & cells["run_id"].isin(list(found))]


def _packed(evidence: Evidence, part: str) -> np.ndarray:
    sets = evidence.heads_NH if part == "heads" else evidence.kept_NV
    return sets[_spread(len(sets))]


def _shares(evidence: Evidence) -> np.ndarray:
    return evidence.shares(_spread(len(evidence.kept_NV)))


def _spread(length: int) -> Sequence[int] | np.ndarray:
    return np.unique(np.linspace(0, length - 1, min(length, QUESTIONS)).round().astype(int))
