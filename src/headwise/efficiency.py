"""What a cell costs: FLOPs and key-value bytes counted from shapes."""

from __future__ import annotations

from collections.abc import Mapping

from headwise.model import Checkpoint

TEXT = 60
"""Prompt positions that are not the image, as FastV's and its successors' accounting assumes none or few;
LLaVA-1.5's short-answer prompts have about this many."""


def costs(checkpoint: Checkpoint, layer: int, kept: int) -> dict[str, float]:
    """FLOPs of one prefill and bytes of its key-value cache in 2-byte numbers, for `kept` tokens above `layer`."""
    visual, shape = checkpoint.geometry.visual, checkpoint.shape
    full, pruned = visual + TEXT, kept + TEXT
    above = shape["layers"] - layer
    return {
        "flops": layer * layer_flops(shape, full) + above * layer_flops(shape, pruned),
        "kv_bytes": 2 * 2 * shape["kv_heads"] * shape["head_dim"] * (layer * full + above * pruned),
    }


def layer_flops(shape: Mapping[str, int], positions: int, before: int = 0) -> float:
    """FLOPs of one decoder layer over `positions` that attend to `before` earlier ones and causally to themselves.

    Two FLOPs a multiply-add: projections q, k, v, o, the gated MLP, and both attention products over the
    full square that a dense kernel computes.
    """
    hidden, heads, size = shape["hidden"], shape["heads"], shape["head_dim"]
    projections = 2 * hidden * size * (2 * heads + 2 * shape["kv_heads"])
    mlp = 3 * 2 * hidden * shape["intermediate"]
    attention = 2 * 2 * heads * size * (before + positions)
    return float(positions * (projections + mlp + attention))
