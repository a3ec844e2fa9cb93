"""Where the visual tokens of an image lie on it, as grids: what overlays need where images differ in their tokens.

A grid is rows × columns of tokens over a box of the picture, row by row; tiles are grids one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Grid(NamedTuple):
    """`rows` × `columns` tokens over the box left, top, right, bottom in fractions of the picture.

    `newline`: 1 where a token without a place ends each row.
    """

    rows: int
    columns: int
    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    newline: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the grid, newlines included."""
        return self.rows * (self.columns + self.newline)


def tiles(rows: int, columns: int, side: int) -> list[Grid]:
    """Tiles of side × side tokens each that cut the picture in rows and columns, row by row."""
    return [
        Grid(side, side, column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        for row in range(rows)
        for column in range(columns)
    ]


def boxes(grids: Sequence[Sequence[Any]]) -> np.ndarray:
    """Left, top, right, bottom of each token in fractions of the picture, [V, 4]; NaN for newlines."""
    return np.concatenate([_boxes(Grid(*grid)) for grid in grids])


def _boxes(grid: Grid) -> np.ndarray:
    x = np.linspace(grid.left, grid.right, grid.columns + 1)
    y = np.linspace(grid.top, grid.bottom, grid.rows + 1)
    found = np.full((grid.rows, grid.columns + grid.newline, 4), np.nan)
    found[:, : grid.columns, 0], found[:, : grid.columns, 2] = x[:-1], x[1:]
    found[:, : grid.columns, 1], found[:, : grid.columns, 3] = y[:-1, None], y[1:, None]
    return found.reshape(-1, 4)


def covered(boxes_V4: np.ndarray, kept_V: np.ndarray, size: tuple[int, int], side: int) -> np.ndarray:
    """Which pixels of the picture, padded to a square of `side` pixels, a kept token covers: bool [side, side].

    A pixel counts where its centre does. Where tiles overlap (a whole view beside them), one kept token is enough.
    """
    width, height = size
    largest = max(size)
    offset = np.array([largest - width, largest - height, largest - width, largest - height]) // 2
    scaled = (boxes_V4[kept_V] * [width, height, width, height] + offset) / largest * side
    edges = np.ceil(scaled[~np.isnan(scaled[:, 0])] - 0.5).clip(0, side).astype(int)
    found = np.zeros((side, side), dtype=bool)
    for left, top, right, bottom in edges:
        found[top:bottom, left:right] = True
    return found
