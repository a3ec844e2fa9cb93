"""What a head strategy says of itself beside its formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from headwise.methods.heads.maps import Maps


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A head strategy: `score` gives [..., H] from Maps, larger is better.

    `version` changes whenever the formula can rank heads otherwise: answers given under another version are not
    reused. `counts_heads`: true where the scores depend on how many heads will be chosen (`Maps.num_heads`).
    """

    score: Callable[[Maps], Tensor]
    version: int = 1
    counts_heads: bool = False
