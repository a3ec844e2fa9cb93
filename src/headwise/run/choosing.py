"""What choosing before the language model costs: torch's count over the method's own computation on made-up signals.

Axes as in methods/contract.py.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from headwise.methods import Vision
from headwise.methods._tiles import tile_budget
from headwise.methods.contract import AXES
from headwise.methods.stages import before_method
from headwise.models.checkpoint import Checkpoint
from headwise.models.vision import VisionShape, vision_shape
from headwise.study.budget import token_count
from headwise.study.cells import Cell

CLIP_WIDTH = 768
# E of CLIP's joint space in LLaVA-1.5's tower, and words of a question.
WORDS = 12


def _matrix_by_vector(matrix: tuple[int, int], vector: tuple[int], *_: Any, **__: Any) -> int:
    return 2 * matrix[0] * matrix[1]


# A product that torch's counter leaves out.
VECTORS = {torch.ops.aten.mv: _matrix_by_vector}


def before_flops(checkpoint: Checkpoint, cell: Cell) -> float:
    """FLOPs of one choice by a method before the language model: its products with matrices, from signals to rows.

    Towers, projector and CLIP's text tower are not in it, as the tower is in no other cost; 0 for other cells.
    """
    if before_method(cell.strategy) is None:
        return 0.0
    return _counted(cell, vision_shape(checkpoint), checkpoint.geometry.visual, checkpoint.shape["hidden"])


@lru_cache(maxsize=4096)
def _counted(cell: Cell, shape: VisionShape, visual: int, hidden: int) -> float:
    method = before_method(cell.strategy)
    assert method is not None
    options = method.options(**dict(cell.options))
    tokens = token_count(cell.tokens, visual)
    if method.tiled == "each" and shape.tiles > 1:  # as many of every tile, however many the mean image has
        tiles = max(1, round(visual / shape.side**2))
        part = replace(cell, tokens=tile_budget(method, tokens, tiles, shape.side**2, options))
        return tiles * _counted(part, replace(shape, tiles=1), shape.side**2, hidden)
    rows = visual if method.image_side(tokens, 1) is None else method.rows(tokens, visual, options) or visual
    sizes = {"V": rows, "N": rows + 1, "H": shape.heads, "C": shape.width, "d": shape.width // shape.heads}
    sizes |= {"D": hidden, "E": CLIP_WIDTH, "M": 1, "m": WORDS}
    with FlopCounterMode(display=False, custom_mapping=VECTORS) as counter, torch.inference_mode():
        method.reduce(_made_up(method.needs, sizes), tokens, options)
    return float(counter.get_total_flops())


def _made_up(needs: tuple[str, ...], sizes: dict[str, int]) -> Vision:
    generator = torch.Generator().manual_seed(0)
    signals: dict[str, Any] = {}
    for name in needs:
        signal: Tensor = torch.rand([sizes[axis] for axis in AXES[name]], generator=generator)
        signals[name] = signal
    return Vision(**signals)
