"""Where visual tokens lie in a picture: grids of equal boxes, few numbers that are kept beside answers.

V visual tokens, n questions. Boxes are left, top, right, bottom in fractions of the picture's width and height. Parts
of a picture may be seen twice: by tiles, and small by a view of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Tokens that follow each other row by row on a part of the picture; `newline`: one without a place ends each row.

    Its box may reach beyond the picture where patches lie on padding.
    """

    rows: int
    columns: int
    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    newline: bool = False

    @property
    def tokens(self) -> int:
        """How many there are, newlines included."""
        return self.rows * (self.columns + self.newline)

    @property
    def boxes(self) -> np.ndarray:
        """Float [tokens, 4]; NaN for newlines."""
        x, y = (
            np.linspace(start, stop, count + 1)
            for start, stop, count in ((self.left, self.right, self.columns), (self.top, self.bottom, self.rows))
        )
        boxes_RC4 = np.full((self.rows, self.columns + self.newline, 4), np.nan)
        boxes_RC4[:, : self.columns, 0], boxes_RC4[:, : self.columns, 2] = x[:-1], x[1:]
        boxes_RC4[:, : self.columns, 1], boxes_RC4[:, : self.columns, 3] = y[:-1, None], y[1:, None]
        return boxes_RC4.reshape(-1, 4)

    def in_square(self, width: float, height: float) -> Grid:
        """The same in fractions of the square that a picture of this size is centred on."""
        side = max(width, height)
        x, y = (side - width) / 2, (side - height) / 2
        left, right = ((each * width + x) / side for each in (self.left, self.right))
        top, bottom = ((each * height + y) / side for each in (self.top, self.bottom))
        return Grid(self.rows, self.columns, left, top, right, bottom, self.newline)


def places(grids: Iterable[Grid]) -> np.ndarray:
    """The box of every token, float [V, 4]; NaN for those without a place."""
    return np.concatenate([np.zeros((0, 4)), *(grid.boxes for grid in grids)])


def tiled(rows: int, columns: int, side: int) -> tuple[Grid, ...]:
    """Tiles of side x side tokens, row by row, then the whole picture where there are several; 0 rows: it alone."""
    tiles = [
        Grid(side, side, column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        for row in range(rows)
        for column in range(columns)
    ]
    return tuple(tiles) if len(tiles) == 1 else (*tiles, Grid(side, side))


def as_numbers(grids: Iterable[Grid]) -> list[list[float]]:
    """Seven numbers per grid, as they are kept."""
    return [[round(float(part), 5) for part in astuple(grid)] for grid in grids]


def from_numbers(rows: Iterable[Sequence[float]]) -> tuple[Grid, ...]:
    """What `as_numbers` made."""
    return tuple(
        Grid(int(row[0]), int(row[1]), float(row[2]), float(row[3]), float(row[4]), float(row[5]), bool(row[6]))
        for row in rows
    )
