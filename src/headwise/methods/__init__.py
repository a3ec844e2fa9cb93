"""Pruning methods by name. A new one is one file here, or an entry point `headwise.methods` of another package.

What a method is stands in contract.py; fastervlm.py is the shortest example. Names and properties are known
without importing torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headwise.errors import ConfigError
from headwise.methods.contract import BeforeMethod, Method, Options, Reduced, Vision
from headwise.study import names
from headwise.study.registry import Registry

__all__ = ["METHODS", "BeforeMethod", "Method", "Options", "Reduced", "Vision", "reduce"]

# Every method and control by name; an unknown name is a ConfigError that lists the known ones.
METHODS: Registry[Method] = Registry(
    "method", Method, __name__, "headwise.methods", reserved=(*names.STRATEGIES, *names.CONTROLS)
)


def reduce(name: str, vision: Vision, tokens: int, **options: Any) -> Reduced:
    """The visual rows that method `name` hands to the language model, for one image and budget.

    Args:
        name: a method that prunes before the language model.
        vision: the signals of one image, and of the question where the method reads it.
        tokens: T, how many rows the language model gets. [CLS], merged and zero rows are counted: VisionZip's T
            contains [CLS] and the contextual tokens, the T of PruMerge and TRIM their extra token. Adaptive
            variants decide themselves and ignore it.
        options: the method's own, such as `contextual=8`.

    Returns:
        `kept`, the patches in the order in which the language model gets them, and for methods that make rows
        `tokens_TC`, the rows before the projector.

    Raises:
        ConfigError: the method is unknown or works inside the language model, an option is unknown or out of range,
            a signal is missing or has another shape, or T is not feasible.
    """
    method = METHODS[name]
    if not isinstance(method, BeforeMethod):
        raise ConfigError(f"method: {name!r} prunes inside the language model, not before it")
    given = {option: _plain(value) for option, value in options.items()}
    return method.reduce(vision, _plain(tokens), method.options(**given))


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, those in lists and tuples too: what came out of an array is no other number."""
    if isinstance(value, list | tuple):
        return type(value)(_plain(part) for part in value)
    return value.item() if isinstance(value, np.generic) else value
