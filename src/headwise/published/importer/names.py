"""What the folders of the original study say: which strategy a cell is, and with which settings it ran.

The study's scripts name a cell's folder `vtn_<tokens>`, `vtn_<tokens>_<heads>` (whether or not the method chooses
heads: 32 stands for all), `vtn_<tokens>_<heads>_<strategy>`, or `vtn_<tokens>_dynamic[_<least>_<most heads>]`. Its
ports of other papers' methods are not the originals: their names end in `@ancestor`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from headwise.errors import DataError
from headwise.study import names
from headwise.study.cells import LARGEST

CELL_FOLDER = re.compile(r"vtn_(\d+)(?:_(dynamic)(?:_(\d+))?(?:_(\d+))?|_(\d+)(?:_(\w+))?)?")
PORT = "@ancestor"
DYNAMIC = f"dynamic_heads{PORT}"
# Methods of the original study whose folders name no strategy; FastV ranks tokens by all heads.
BY_FOLDER = {
    "vanilla": "vanilla",
    "fastv": "all_heads",
    "pdrop": f"pdrop{PORT}",
    "sparsevlm": f"sparsevlm{PORT}",
    "dynamic_head": DYNAMIC,
    "fastv+finepruner": f"fastv+finepruner{PORT}",
}
# The only one of them to which the folder's number of heads matters.
CHOOSES_HEADS = f"fastv+finepruner{PORT}"
# Ports that prune at several layers, with counts of their own for a budget.
OWN_LISTS = (f"pdrop{PORT}", f"sparsevlm{PORT}")
# How the original study ran: pruning after the second layer, average tokens, ranking in float16.
AS_PUBLISHED = {"layer": 2, "budget": "average", "score_dtype": "float16", "seed": 0}


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a folder's name says; `options` are settings that have no parameter of their own, empty where none."""

    strategy: str
    tokens: int
    heads: int | None
    options: str = ""


def read_name(name: str, method: str) -> Named:
    """The cell of folder `name` below the method's folder `method`. DataError where it says nothing known."""
    found = CELL_FOLDER.fullmatch(name)
    if not found:
        raise DataError(f"{name}: expected vtn_<tokens>_<heads>_<strategy>, vtn_<tokens>_dynamic or vtn_<tokens>")
    tokens, dynamic, least, most, heads, strategy = found.groups()
    if strategy is None:
        strategy = DYNAMIC if dynamic else BY_FOLDER.get(method)
        if strategy is None:
            raise DataError(f"{name}: names no strategy, and {method!r} is not {' or '.join(BY_FOLDER)}")
        by_heads = strategy == CHOOSES_HEADS
    else:
        names.check_strategy(strategy)
        by_heads = names.needs_heads(strategy)
    return Named(
        strategy=strategy,
        tokens=_count(tokens, name),
        heads=_count(heads, name) if heads and by_heads else None,
        options="-".join(str(_count(part, name)) for part in (least, most) if part),
    )


def settings(strategy: str) -> dict[str, Any]:
    """Parameters of a cell that its folder does not say: how the study ran it. None for what a port decides itself."""
    return AS_PUBLISHED | ({"layer": None, "budget": "published"} if strategy in OWN_LISTS else {})


def mean_tokens(strategy: str, tokens: int) -> dict[str, float]:
    """The metric that evaluated cells have: the folder's number is the mean per layer, except for ports with own lists.

    Those count otherwise (SparseVLM's 192 is 206.5 of what enters the layers): no figure is better than a wrong one.
    """
    return {} if strategy in OWN_LISTS else {"mean_visual_tokens": tokens}


def _count(digits: str, name: str) -> int:
    """A number of tokens or heads; DataError for one that no table could hold."""
    if len(digits) > len(str(LARGEST)) or int(digits) > LARGEST:
        raise DataError(f"{name[:80]}: {digits[:20]} tokens or heads are more than {LARGEST}")
    return int(digits)
