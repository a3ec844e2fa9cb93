"""A cell of a study (one pruning configuration) and the checkpoint geometry it must fit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel

# Upper bound of every count (tokens, heads, layers, questions).
LARGEST = 2**31 - 1
# The largest int64, which is what a table column can hold.
LARGEST_SEED = 2**63 - 1


# A whole number (int), or a share: a float below 1.
Count: TypeAlias = Any
# V (int), or None where it differs from image to image.
Visual: TypeAlias = Any


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One pruning configuration. `tokens` is the budget T, `heads` the number of selected heads (0: none).

    `tokens` and `heads` are counts where they are whole numbers; below 1 they are shares of an image's visual tokens V
    and of a layer's heads H.

    `query` says which rows of the attention a head strategy reads. `options` are a method's options that are not its
    defaults, as (name, value) by name; `clip` among them is the CLIP checkpoint whose text tower it reads.
    """

    strategy: str
    tokens: Count
    heads: Count = 0
    layer: int = 2
    budget: str = "average"
    score_dtype: str = "float64"
    seed: int = 0
    query: str = "last_token"
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Name of the cell: strategy, tokens, heads, then what differs from the defaults, joined by `-`."""
        query = "" if self.query == "last_token" else f"-{self.query}"
        options = f"-{self.options_text}" if self.options_text else ""
        return f"{self.strategy}-{self.tokens}-{self.heads}{query}{options}"

    @property
    def options_text(self) -> str:
        """The options as `name=value,…`, fit for a file's name; without `clip`, which may be a path."""
        return ",".join(f"{name}={_shown(value)}" for name, value in self.options if name != "clip")

    @property
    def clip(self) -> str | None:
        """The CLIP checkpoint whose text tower the method reads."""
        return dict(self.options).get("clip")


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What a checkpoint's shape fixes: decoder layers L, attention heads per layer H, visual tokens V.

    `visual` is None where V differs from image to image.
    """

    layers: int
    heads: int
    visual: Visual


def _shown(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def fingerprint(*parts: Any) -> str:
    """Short stable digest of JSON-serialisable values (dataclasses included)."""
    text = json.dumps(parts, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Path):
        return str(value)
    return asdict(value)
