"""What each decoder layer sees of an image under a study's cells, in words: where budgets can be compared by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from headwise.methods.stages import NOMINAL, image_decides, mean_seen, seen, stages_of
from headwise.study.budget import is_share
from headwise.study.cells import Cell, Geometry


def layer_lines(cells: Sequence[Cell], geometry: Geometry) -> list[tuple[str, str]]:
    """One line per T and way of dropping tokens: the counts per layer, the mean reached, and whose they are."""
    found: dict[tuple[float, str], list[str]] = {}
    for cell in cells:
        name = cell.strategy + (f" ({cell.options_text})" if cell.options_text else "")
        found.setdefault((cell.tokens, layer_words(cell, geometry)), []).append(name)
    return [(f"tokens {tokens}", f"{text}: {', '.join(dict.fromkeys(of))}") for (tokens, text), of in found.items()]


def layer_words(cell: Cell, geometry: Geometry) -> str:
    """As `576 in layers 1-2, 192 in layers 3-8 (mean 288.00)`; shares of V where it differs from image to image."""
    if image_decides(cell, geometry):
        return "each image decides (mean_tokens says what came of it)"
    stages = stages_of(cell, geometry)
    ragged = geometry.visual is None
    nominal = replace(geometry, visual=NOMINAL) if ragged else geometry
    counts = seen(stages, nominal)
    parts, first = [], 1
    for count, group in groupby(counts):
        last = first + len(list(group)) - 1
        name = _share(count, cell) if ragged else str(count)
        parts.append(f"{name} in layer{f' {first}' if first == last else f's {first}-{last}'}")
        first = last + 1
    if ragged:
        return ", ".join(parts)
    return f"{', '.join(parts)} (mean {mean_seen(stages, nominal):.2f})"


def _share(count: int, cell: Cell) -> str:
    """Rows of an image of V = NOMINAL in words that hold for every V."""
    if count == NOMINAL:
        return "all V"
    return f"{count / NOMINAL:.2%} of V" if is_share(cell.tokens) else f"at most {count}"
