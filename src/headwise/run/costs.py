"""What a cell costs: FLOPs and key-value bytes counted from shapes, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from headwise.methods.stages import inside_method, stage_counts, stages_of
from headwise.models.checkpoint import Checkpoint
from headwise.run.choosing import before_flops
from headwise.study.cells import Cell, Geometry
from headwise.study.names import CONTROLS, ranks_heads

# Prompt positions that are not the image, as FastV's and its successors' accounting assumes none or few;
# LLaVA-1.5's short-answer prompts have about this many.
TEXT = 60


def at_mean(checkpoint: Checkpoint, visual: float | None) -> Checkpoint:
    """The checkpoint as it sees an image of mean size, where images differ in V; unchanged where they do not."""
    if checkpoint.geometry.visual is not None or visual is None:
        return checkpoint
    return replace(checkpoint, geometry=replace(checkpoint.geometry, visual=round(visual)))


def count_costs(checkpoint: Checkpoint, cell: Cell, mean: float | None = None) -> dict[str, float]:
    """FLOPs of one prefill under a cell, choosing included, and bytes of its key-value cache in 2-byte numbers.

    `mean`: visual rows per layer as counted over the questions, where each image decides how many there are.
    """
    shape = checkpoint.shape
    seen = stage_counts(cell, checkpoint.geometry) if mean is None else [mean] * checkpoint.geometry.layers
    positions = [count + TEXT for count in seen]
    choosing = choosing_flops(shape, cell, checkpoint.geometry, TEXT) + before_flops(checkpoint, cell)
    return {
        "flops": sum(layer_flops(shape, count) for count in positions) + choosing,
        "kv_bytes": 2 * 2 * shape["kv_heads"] * shape["head_dim"] * sum(positions),
    }


def choosing_flops(shape: Mapping[str, int], cell: Cell, geometry: Geometry, text: int) -> float:
    """FLOPs of the signals that a method reads at all of its stages, for `text` positions beside the image.

    Counted are queries, keys and attention maps that no layer makes anyway, input similarities and distances. The
    one attention row that head strategies, FastV and dynamic heads read is not: it is below a thousandth of a layer.
    What is chosen before the first layer is counted elsewhere (`choosing.before_flops`).
    """
    if ranks_heads(cell.strategy) or cell.strategy in CONTROLS:
        return 0.0 if cell.query == "last_token" else _rows_flops(shape, text, geometry.visual + text)
    before, total = geometry.visual, 0.0
    stages = [stage for stage in stages_of(cell, geometry) if stage.layer]
    needs = inside_method(cell.strategy).needs if stages else ()
    for number, stage in enumerate(stages):
        span = before + text
        if "next_last_HV" in needs:
            total += 2.0 * span * shape["hidden"] * shape["kv_heads"] * shape["head_dim"]
        if "text_HQV" in needs or "most_QV" in needs:
            total += _rows_flops(shape, text, span)
        if "most_VV" in needs:
            total += _rows_flops(shape, before, span)
        if "embeds_VD" in needs and not number:
            total += 2.0 * before * text * shape["hidden"]
        if stage.merged:
            total += 3.0 * (0.3 * (before - stage.keep) + 1) ** 2 * shape["hidden"]
        if "keys_HVd" in needs:
            total += 2.0 * 8 * before * shape["hidden"]
        before = stage.rows
    return total


def _rows_flops(shape: Mapping[str, int], rows: int, keys: int) -> float:
    """Queries of some rows and their attention over `keys` positions."""
    width = shape["heads"] * shape["head_dim"]
    return 2.0 * rows * width * (shape["hidden"] + keys)


def layer_flops(shape: Mapping[str, int], positions: float, before: float = 0) -> float:
    """FLOPs of one decoder layer over `positions` that attend to `before` earlier ones and causally to themselves.

    Two FLOPs a multiply-add: projections q, k, v, o, the gated MLP, and both attention products over the
    full square that a dense kernel computes.
    """
    hidden, heads, size = shape["hidden"], shape["heads"], shape["head_dim"]
    projections = 2 * hidden * size * (2 * heads + 2 * shape["kv_heads"])
    mlp = 3 * 2 * hidden * shape["intermediate"]
    attention = 2 * 2 * heads * size * (before + positions)
    return float(positions * (projections + mlp + attention))
