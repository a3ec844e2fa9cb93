"""Declaration of a head strategy: formula, version, dependence on the head count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from headwise.methods.heads.maps import Maps


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A head strategy: `score` gives [..., H] from Maps, larger is better.

    `version` is incremented when the formula can rank heads differently; answers of other versions are not reused.
    `counts_heads`: true if the scores depend on the number of heads to select (`Maps.num_heads`).
    """

    score: Callable[[Maps], Tensor]
    version: int = 1
    counts_heads: bool = False
