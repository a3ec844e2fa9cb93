"""What each decoder layer sees of an image under a study's cells, in words: where budgets can be compared by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from headwise.methods.stages import NOMINAL, for_image, image_decides, mean_seen, seen, stages_of
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
    """As `576 in layers 1-2, 192 in layers 3-8 (mean 288.00)`; where images differ in V, in % of it."""
    if geometry.visual is None:
        return _ragged_words(cell, geometry)
    if image_decides(cell, geometry):
        return "each image decides (mean_tokens says what came of it)"
    stages = stages_of(cell, geometry)
    return f"{_ranges(seen(stages, geometry))} (mean {mean_seen(stages, geometry):.2f})"


def _ragged_words(cell: Cell, geometry: Geometry) -> str:
    """Shares of V, by an image of many tokens; a number of tokens is what stays of images that have more."""
    nominal = replace(geometry, visual=NOMINAL)
    stages = stages_of(for_image(cell, NOMINAL), nominal)
    if stages and not is_share(cell.tokens):
        layer = stages[-1].layer
        return (
            f"all in layers 1-{layer}, at most {cell.tokens} above" if layer else f"at most {cell.tokens} in all layers"
        )
    shares = [f"{100 * count / NOMINAL:.4g} %" for count in seen(stages, nominal)]
    return f"{_ranges(shares)} (mean {100 * mean_seen(stages, nominal) / NOMINAL:.4g} % of an image's tokens)"


def _ranges(counts: Sequence[int | str]) -> str:
    """Runs of equal counts with their layers."""
    parts, first = [], 1
    for count, group in groupby(counts):
        last = first + len(list(group)) - 1
        parts.append(f"{count} in layer{f' {first}' if first == last else f's {first}-{last}'}")
        first = last + 1
    return ", ".join(parts)
