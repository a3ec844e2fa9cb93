"""Which figures a report has, from the findings, the evidence and the samples of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from headwise.analysis.evidence import Evidence, frequency_maps, overlaps, precision_table
from headwise.analysis.findings import Findings
from headwise.analysis.roles import is_method
from headwise.analysis.tables import efficiency
from headwise.analysis.verdicts import VerdictMatrix
from headwise.report import boxes, figures
from headwise.report.figures import Drawing
from headwise.report.samples import Sampled, strategies_to_show

COSTS_DRAWN = ("flops", "prefill_seconds")
# Questions in the picture of kept tokens.
OVERLAID = 3
# Parts per side of a picture whose tokens form no one square.
MAP = 96


def of_scores(found: Findings, title: str, with_costs: bool = False) -> dict[str, Drawing]:
    """Best set, score against tokens, heat maps, and with `with_costs` accuracy against those that were logged."""
    if found.pruned.empty:
        return {}
    drawn = {"best_set": figures.draw_best_set(found.cells, title, found.unit)}
    own = found.cells[is_method(found.cells)]
    if len(own):
        drawn["tokens"] = figures.score_by_tokens(found.cells, title, found.unit)
    if own["heads"].notna().any():
        drawn["heat_maps"] = figures.heat_maps(found.cells, title, found.unit)
    table = efficiency(found)
    for cost in COSTS_DRAWN if with_costs else ():
        if cost in table and table[cost].notna().any():
            drawn[f"against_{cost}"] = figures.accuracy_against_cost(table, cost, title, found.unit)
    return drawn


def of_evidence(
    cells: pd.DataFrame, evidence: Mapping[str, Evidence], title: str
) -> tuple[dict[str, Drawing], dict[str, pd.DataFrame]]:
    """Head-frequency map and overlaps as figures, the same and the float16 agreement as tables."""
    heads, kept = overlaps(cells, evidence, "heads"), overlaps(cells, evidence, "kept")
    if kept.empty:
        return {}, {}
    drawn = {"overlap": figures.overlap(heads.reindex(index=kept.index, columns=kept.columns), kept, title)}
    tables = {"overlap_kept": kept.reset_index()}
    if maps := frequency_maps(cells, evidence):
        drawn = {"head_frequency": figures.head_frequency(maps, title)} | drawn
        tables |= {
            "head_frequency": pd.concat(maps, names=["heads", "strategy"]).reset_index(),
            "overlap_heads": heads.reset_index(),
        }
    precision = precision_table(cells, evidence)
    if precision["float16_agreement"].notna().any():
        tables["float16"] = precision
    return drawn, tables


def of_samples(
    sampled: Sampled, verdicts: VerdictMatrix, evidence: Mapping[str, Evidence], title: str
) -> dict[str, Drawing]:
    """Kept tokens over the images of the most disputed questions, where images and kept tokens are known."""
    square = {run for run, found in evidence.items() if found.side is not None or found.grids_G7 is not None}
    rows = [row for row in strategies_to_show(sampled.cells) if sampled.cells.loc[row, "run_id"] in square]
    numbers = [number for number, image in enumerate(sampled.images) if image is not None][:OVERLAID]
    seen = [_seen(sampled, verdicts, evidence, number, rows) for number in numbers]
    if not rows or not seen:
        return {}
    return {"kept_tokens": figures.kept_tokens(seen, f"{title}: what is kept where configurations disagree most")}


def _map(found: Evidence, place: int) -> np.ndarray:
    """Bool [side, side]: what the kept tokens of one question see of its square image."""
    side = found.side
    return found.kept_map(place, MAP) if side is None else found.kept(place).reshape(side, side)


def _area(found: Evidence, place: int) -> np.ndarray | None:
    """Which merged row each part of the square image is in; None where none is, or the tokens form no one square."""
    side = found.side
    return None if found.file is None or side is None else found.areas([place])[0].reshape(side, side)


def _seen(
    sampled: Sampled, verdicts: VerdictMatrix, evidence: Mapping[str, Evidence], number: int, rows: list[int]
) -> figures.Seen:
    place = int(sampled.places[number])
    lines = [list(sampled.cells.index).index(row) for row in rows]
    drawn = boxes.for_question(sampled.benchmark, verdicts, np.asarray(rows), place, sampled.sizes[number])
    overlays = []
    for nth, row in enumerate(rows):
        found = evidence[str(sampled.cells["run_id"][row])]
        text = sampled.texts[lines[nth]][number]
        overlays.append(
            figures.Overlay(
                name=str(sampled.cells["configuration"][row]),
                answer="no answer" if text is None else text,
                correct=float(np.nan_to_num(verdicts.correct_CQ[row, place])),
                kept=_map(found, place),
                merged=found.merged(place),
                area=_area(found, place),
                box=drawn["said"][nth] if drawn else None,
            )
        )
    question = sampled.prompts[number].split("\n")[0]
    return figures.Seen(
        question,
        str(verdicts.truth_Q[place]),
        np.asarray(sampled.images[number]),
        overlays,
        drawn["truth"] if drawn else None,
    )
