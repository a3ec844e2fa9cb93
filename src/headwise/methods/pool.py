"""Control: average pooling of the patches to a smaller grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

from headwise.errors import ConfigError
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PoolOptions(Options):
    """`grid`: height and width to pool to; None: the most nearly square one of T cells, no longer than 2 : 1."""

    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """ConfigError where `grid` is not two positive whole numbers."""
        if self.grid is None:
            return
        sides = tuple(self.grid) if isinstance(self.grid, list | tuple) else ()
        if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
            raise ConfigError(f"grid: {self.grid!r} is not a height and a width, such as (8, 16)")
        object.__setattr__(self, "grid", sides)

    def of(self, tokens: int, side: int) -> tuple[int, int] | None:
        """The grid for T tokens of a side × side image; None where there is none."""
        if self.grid is not None:
            return self.grid if self.grid[0] * self.grid[1] == tokens and max(self.grid) <= side else None
        height = next(height for height in range(isqrt(tokens), 0, -1) if tokens % height == 0)
        width = tokens // height
        return (height, width) if width <= min(side, 2 * height) else None


class Pool(BeforeMethod):
    """Adaptive average pooling of the unprojected patches, row-major; 192 is 12 × 16, 128 is 8 × 16, 64 is 8 × 8."""

    name = "pool"
    title = "Average pooling"
    source = "control; windows of torch's adaptive_avg_pool2d"
    role = "control"
    needs = ("hidden_NC",)
    options_type = PoolOptions

    def feasible(self, tokens: int, visual: int, options: PoolOptions) -> bool:
        """Whether the patches form a square and T cells a grid on it."""
        side = isqrt(visual)
        return side * side == visual and options.of(tokens, side) is not None

    def choose(self, vision: Vision, tokens: int, options: PoolOptions) -> Reduced:
        """T rows, each the mean of the patches in one cell of the grid."""
        import torch

        side = isqrt(len(vision.hidden_NC) - 1)
        height, width = options.of(tokens, side) or (0, 0)
        like = vision.hidden_NC
        weights_TV = torch.kron(_windows(side, height, like), _windows(side, width, like))
        weights_TN = torch.cat([weights_TV.new_zeros(tokens, 1), weights_TV], 1)
        return Reduced.merged(torch.full((tokens,), -1, device=like.device), weights_TN, like)


def _windows(side: int, cells: int, like: Tensor) -> Tensor:
    """Weights [cells, side]: cell i is the mean of floor(i·side/cells) .. ceil((i+1)·side/cells) − 1."""
    weights = like.new_zeros(cells, side)
    for cell in range(cells):
        weights[cell, cell * side // cells : -((cell + 1) * -side // cells)] = 1
    return weights / weights.sum(1, keepdim=True)
