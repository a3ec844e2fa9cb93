"""What a cell is in a comparison: the unpruned reference, a control, or a method to recommend.

Runs say it in their tag `headwise.role`. Runs that were logged before there was one are known by their strategy's
name; a strategy that is not known here, such as that of a plug-in, is a method.
"""

from __future__ import annotations

import pandas as pd

from headwise.study.names import METHOD, REFERENCE, in_order, role_of

TAG = "tags.headwise.role"

__all__ = ["METHOD", "REFERENCE", "in_order", "is_method", "is_reference", "roles"]


def roles(cells: pd.DataFrame) -> pd.Series:
    """The role of each row: `reference`, `control` or `method`."""
    by_name = cells["strategy"].map(role_of)
    for name in ("role", TAG):
        if name in cells:
            return cells[name].where(cells[name].notna(), by_name).astype(object)
    return by_name.astype(object)


def is_reference(cells: pd.DataFrame) -> pd.Series:
    """Bool: the cell is the unpruned model."""
    return roles(cells) == REFERENCE


def is_method(cells: pd.DataFrame) -> pd.Series:
    """Bool: the cell is neither the unpruned model nor a control."""
    return roles(cells) == METHOD
