"""Which pruning methods are defined for what a family makes of an image, and why the others are not."""

from __future__ import annotations

from collections.abc import Sequence

from headwise.errors import ConfigError
from headwise.methods import METHODS
from headwise.methods.contract import DISTANCES, BeforeMethod, Method
from headwise.models.contract import Family


def methods_before(family: Family) -> list[str]:
    """Methods before the language model that are defined for what the family makes of an image."""
    found = {name: method for name, method in METHODS.items() if isinstance(method, BeforeMethod)}
    return [name for name, method in found.items() if family.views == "square" or (family.views and method.tiled)]


def undefined_inside(family: Family) -> dict[str, str]:
    """Methods inside the language model that are not defined for a family, and what they do that is not."""
    found = {name: _undefined(method, family) for name, method in METHODS.items()}
    return {name: reason for name, reason in found.items() if reason}


def _undefined(method: Method, family: Family) -> str:
    if isinstance(method, BeforeMethod):
        return ""
    if method.positions == "compacted" and family.no_compacting:
        return f"counts positions anew, which is not defined for {family.title}: {family.no_compacting}"
    if family.axes > 1 and DISTANCES & set(method.needs):
        return f"weighs distances along the text, which is not defined for {family.title}: {family.no_compacting}"
    return ""


def check_defined(family: Family, strategies: Sequence[str]) -> None:
    """ConfigError for a method that is not defined for what the family makes of an image."""
    before = methods_before(family)
    reason = family.no_views if not before else f"it says nothing about several tiles; {', '.join(before)} do"
    refused = {
        name: f"prunes before the language model, which is not defined for {family.title}: {reason}"
        for name, method in METHODS.items()
        if isinstance(method, BeforeMethod) and name not in before
    } | undefined_inside(family)
    for name in strategies:
        if name in refused:
            raise ConfigError(f"strategy: {name} {refused[name]}")
