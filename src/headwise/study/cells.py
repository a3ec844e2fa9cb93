"""A cell of a study: one configuration of pruning; and the shape of a checkpoint that it must fit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel

LARGEST = 2**31 - 1
"""No count of tokens, heads, layers or questions is larger."""
LARGEST_SEED = 2**63 - 1
"""What a column of a table can hold: a larger number would spoil every table that it is in."""


Count: TypeAlias = Any
"""A whole number (int), or a share: a float below 1."""
Visual: TypeAlias = Any
"""V (int), or None where it differs from image to image."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One configuration of pruning. `tokens` is the budget T, `heads` how many heads are chosen (0: none are).

    Whole numbers are counts; below 1 they are shares of an image's visual tokens V and of a layer's heads H.

    `query` says which rows of the attention a head strategy reads.
    """

    strategy: str
    tokens: Count
    heads: Count = 0
    layer: int = 2
    budget: str = "average"
    score_dtype: str = "float64"
    seed: int = 0
    query: str = "last_token"

    @property
    def name(self) -> str:
        query = "" if self.query == "last_token" else f"-{self.query}"
        return f"{self.strategy}-{self.tokens}-{self.heads}{query}"


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What a checkpoint's shape fixes: decoder layers L, attention heads per layer H, visual tokens V.

    `visual` is None where V differs from image to image.
    """

    layers: int
    heads: int
    visual: Visual


def fingerprint(*parts: Any) -> str:
    """Short stable digest of anything that is JSON (dataclasses included)."""
    text = json.dumps(parts, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Path):
        return str(value)
    return asdict(value)
