"""From the spool to one folder per cell: raw answers in question order, and the evidence of heads and tokens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headwise.engine.alone import kind_of
from headwise.methods.stages import stages_of
from headwise.records import Sample
from headwise.run.answering import unpacked
from headwise.run.by_cell import ByCell
from headwise.run.reducing import unpacked_area
from headwise.run.spool import Spool, read_line
from headwise.run.tasks import Task
from headwise.study.cells import Cell, Geometry

ANSWERS = "answers.jsonl"
EVIDENCE = "evidence.npz"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one question costs under a cell alone (`engine.alone.Cost`): medians over `questions`, all on `device`."""

    prefill_seconds: float
    token_seconds: float
    peak_bytes: float
    questions: int
    device: str


@dataclass(frozen=True, kw_only=True)
class CellFolder:
    """A cell's files and what was counted while they were written.

    `agreement`: mean share of chosen heads on which float16 and float64 rankings agree (None for controls).
    `measured`: None where the answers were spooled without measuring. `rows`, `visual`: means over the answered
    questions of the visual rows after the last stage and of V, None where there are none.
    """

    cell: Cell
    folder: Path
    seconds: float
    degenerate: int
    agreement: float | None
    measured: Measured | None
    rows: float | None = None
    visual: float | None = None


def write_cells(task: Task, spool: Spool, failures: dict[int, str], out: Path, geometry: Geometry) -> list[CellFolder]:
    """Write `answers.jsonl` and `evidence.npz` of every cell below `out`, one cell after the other.

    A failed question stands in answers.jsonl with its error in place of a text; one that was never answered is
    absent. Memory grows with cells and with questions, not with their product (`ByCell`).
    """
    keys = [task.key(cell) for cell in task.cells]
    costs: list[dict[str, Any]] = []
    grids: list[list[list[float]]] = []
    rows = ByCell(out / task.name / ".waiting", len(keys))
    for found, where in _answers(task, spool, costs):
        grids.append(where)
        for number, key in enumerate(keys):
            rows.add(number, found.get(key))
    return [
        _written(
            task, cell, out / task.name / cell.name, zip(rows.of(number), grids, strict=True), failures, geometry, costs
        )
        for number, cell in enumerate(task.cells)
    ]


def _written(
    task: Task,
    cell: Cell,
    folder: Path,
    rows: Iterable[tuple[dict[str, Any] | None, list[list[float]]]],
    failures: dict[int, str],
    geometry: Geometry,
    costs: Sequence[dict[str, Any]],
) -> CellFolder:
    """Write the files of one cell; `rows` are its answers in question order, None where there is none."""
    with closing(_CellWriter(folder, geometry)) as writer:
        for place, (row, grids) in enumerate(rows):
            if row is not None:
                writer.answer(task.samples[place], row, grids)
            else:
                writer.failure(task.samples[place], failures.get(place))
    return CellFolder(
        cell=cell,
        folder=folder,
        seconds=writer.seconds,
        degenerate=writer.degenerate,
        agreement=writer.agreement,
        measured=None if geometry.visual is None else _measured_of(cell, geometry, costs),
        rows=writer.mean_rows,
        visual=writer.mean_visual,
    )


class _CellWriter:
    """Writes one cell's files, its answers given in question order."""

    def __init__(self, folder: Path, geometry: Geometry) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.geometry = folder, geometry
        self.seconds, self.degenerate = 0.0, 0
        self._agreement: list[float] = []
        self._out = open(folder / ANSWERS, "w", encoding="utf-8")  # noqa: SIM115
        self._heads: list[np.ndarray] = []
        self._kept: list[np.ndarray] = []
        self._stages: list[list[Any]] = []
        self._areas: list[np.ndarray] = []
        self._grids: list[Sequence[Sequence[float]]] = []
        self._rows: list[int] = []
        self._visual: list[int] = []

    def answer(self, sample: Sample, row: dict[str, Any], grids: Sequence[Sequence[float]] = ()) -> None:
        self._write({"question_id": sample.question_id, "prompt": sample.prompt, "text": row["text"]})
        self.seconds += row["seconds"]
        self.degenerate += row["degenerate"]
        self._heads.append(unpacked(row["heads"]))
        self._kept.append(unpacked(row["kept"]))
        stages: list[Any] = row.get("stages", [])
        self._stages.append(stages)
        self._areas.append(unpacked_area(row.get("area", "")))
        self._rows.append(int(np.bitwise_count(self._kept[-1]).sum()) + (stages[-1][2] if stages else 0))
        self._grids.append(grids)
        visual: int = row.get("visual") or self.geometry.visual
        self._visual.append(visual)
        if row["agreement"] is not None:
            self._agreement.append(row["agreement"])

    def failure(self, sample: Sample, error: str | None) -> None:
        """A question without an answer; its rows of evidence are empty sets, so that rows stay aligned."""
        if error is not None:
            self._write({"question_id": sample.question_id, "prompt": sample.prompt, "error": error})
        self._heads.append(np.zeros(-(-self.geometry.heads // 8), dtype=np.uint8))
        self._kept.append(np.zeros(0, dtype=np.uint8))
        self._stages.append([])
        self._areas.append(unpacked_area(""))
        self._grids.append(())
        self._visual.append(self.geometry.visual or 0)

    @property
    def mean_rows(self) -> float | None:
        """Mean number of visual rows after the last stage, merged ones included, over the answered questions."""
        return float(np.mean(self._rows)) if self._rows else None

    @property
    def mean_visual(self) -> float | None:
        """Mean V over the answered questions."""
        found = [count for count in self._visual if count]
        return float(np.mean(found)) if found else None

    @property
    def agreement(self) -> float | None:
        return float(np.mean(self._agreement)) if self._agreement else None

    def close(self) -> None:
        """Write the evidence: bit sets of chosen heads and kept tokens per question, as numpy.packbits makes them.

        Where images differ in V, `visual_N` says how many bits of a row count (0: no answer) and `visual` is the most.
        Cells of several stages or with merged rows have them stage by stage, too: `stage_layers` [stages], `stages_GNV`
        bit sets of the places left after each, and `merged_GN`, how many merged rows stand behind them. Where rows were
        merged, `areas_NV` says of each visual token which of those after the last stage it weighs most in, from 1
        (0: none). Where it is known where tokens lie, `grids_G7` holds the grids of all questions one after the other
        (`grids.as_numbers`, in fractions of the padded square), `grids_N` how many each has.
        """
        self._out.close()
        sizes = {"head_count": self.geometry.heads, "visual": self._widest}
        extra = {} if self.agreement is None else {"float16_agreement": self.agreement}
        columns = {"heads_NH": np.stack(self._heads), "kept_NV": self._stacked(self._kept)}
        if self.geometry.visual is None:
            columns["visual_N"] = np.array(self._visual)
        content: dict[str, Any] = {
            **columns,
            **sizes,
            **extra,
            **self._by_stage(),
            **self._by_area(),
            **self._by_place(),
        }
        np.savez_compressed(self.folder / EVIDENCE, **content)

    def _by_stage(self) -> dict[str, np.ndarray]:
        layers = next(([layer for layer, *_ in stages] for stages in self._stages if stages), [])
        if not layers:
            return {}
        nothing = np.zeros(0, dtype=np.uint8)
        sets = [
            self._stacked([unpacked(stages[g][1]) if stages else nothing for stages in self._stages])
            for g in range(len(layers))
        ]
        merged = [[stages[g][2] if stages else 0 for stages in self._stages] for g in range(len(layers))]
        return {"stage_layers": np.array(layers), "stages_GNV": np.array(sets), "merged_GN": np.array(merged)}

    def _by_area(self) -> dict[str, np.ndarray]:
        if not any(len(area) for area in self._areas):
            return {}
        return {"areas_NV": np.stack([np.pad(area, (0, self._widest - len(area))) for area in self._areas])}

    def _by_place(self) -> dict[str, np.ndarray]:
        rows = [grid for grids in self._grids for grid in grids]
        if not rows:
            return {}
        return {"grids_G7": np.array(rows, dtype=np.float32), "grids_N": np.array([len(each) for each in self._grids])}

    @property
    def _widest(self) -> int:
        return self.geometry.visual or max(self._visual, default=0)

    def _stacked(self, sets: Sequence[np.ndarray]) -> np.ndarray:
        """Bit sets as rows of one width, zeros behind the shorter ones."""
        width = -(-self._widest // 8)
        return np.stack([np.pad(each, (0, width - len(each))) for each in sets])

    def _write(self, row: dict[str, Any]) -> None:
        self._out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _measured_of(cell: Cell, geometry: Geometry, costs: Sequence[dict[str, Any]]) -> Measured | None:
    method, stages, layer = kind_of(cell, stages_of(cell, geometry), geometry.visual)
    layer, kept = (stages[-1].layer, stages[-1].rows) if stages else (layer, geometry.visual)
    return measured(costs, layer, kept, method)


def measured(costs: Sequence[dict[str, Any]], layer: int, kept: int, method: str = "") -> Measured | None:
    """The costs of branches that keep `kept` tokens above `layer`, on the machine that measured most of them.

    `method`: whose choosing was measured, too (none for head strategies, of which only the counts decide).

    Several processes and restarts may have measured, on unlike machines: times of two machines are not mixed.
    """
    wanted = layer, kept, method
    rows = [row for row in costs if (row["layer"], row["kept"], row.get("method", "")) == wanted]
    if not rows:
        return None
    device = Counter(row["device"] for row in rows).most_common(1)[0][0]
    rows = [row for row in rows if row["device"] == device]
    prefill, token, peak = (float(np.median([row[name] for row in rows])) for name in ("prefill", "token", "peak"))
    return Measured(prefill_seconds=prefill, token_seconds=token, peak_bytes=peak, questions=len(rows), device=device)


def _answers(
    task: Task, spool: Spool, costs: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], list[list[float]]]]:
    """For each question in order what the spool holds of it, by cell key, and its grids.

    `costs` gets what was measured.
    """
    where: list[list[tuple[Path, int]]] = [[] for _ in task.samples]
    for path, offset, row in spool.lines():
        costs += row.get("costs", ())
        for place in task.places.get(row["question"], ()):
            where[place].append((path, offset))
    for lines in where:
        rows = [read_line(path, offset) for path, offset in lines]
        grids: list[list[float]] = next((row["grids"] for row in rows if "grids" in row), [])
        yield _merged([row["answers"] for row in rows]), grids


def _merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first answer under each key (two processes may have answered one question; both say the same)."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, row in part.items():
            merged.setdefault(key, row)
    return merged
