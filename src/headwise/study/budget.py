"""Token budgets: average visual tokens per layer ↔ visual tokens kept after the pruning layer."""

from __future__ import annotations

import math
from fractions import Fraction

from headwise.errors import ConfigError
from headwise.study.names import BUDGETS

# Values of T in the published study of head strategies.
PUBLISHED = (192, 128, 64)


def kept_tokens(tokens: float, *, layers: int, visual: int, layer: int = 2, budget: str = "average") -> int:
    """Visual tokens R that stay after decoder layer `layer` (K).

    `average`: T = `tokens` is the mean number of visual tokens per layer, so that
    R = round((L·T − K·V) / (L − K)) with L = `layers`, V = `visual`: K layers see all V, the others R
    (the accounting of FastV and its successors). `kept`: R = T. A share s = `tokens` below 1 stands for T = s·V,
    rounded half up once, in the end, and keeps at least one token. `published`: as the study of head strategies counts,
    which is `average` for T = 192, 128 and 64.

    Raises ConfigError if K is not a layer of the decoder, the rule is unknown, or R is not in 1..V; the
    message then gives the smallest feasible T.
    """
    if budget not in BUDGETS:
        raise ConfigError(f"budget: {budget!r} is not one of {', '.join(BUDGETS)}")
    if budget == "published" and tokens not in PUBLISHED:
        raise ConfigError(
            f"tokens: {tokens} with budget=published is not a setting of the published study; "
            f"it has {', '.join(map(str, PUBLISHED))}"
        )
    if not 1 <= layer < layers:
        raise ConfigError(f"layer: {layer} is not between 1 and {layers - 1} (the decoder has {layers} layers)")
    if is_share(tokens):
        return _kept_of_share(tokens, layers, visual, layer, budget)
    tokens = int(tokens)
    kept = tokens if budget == "kept" else _average_to_kept(tokens, layers, visual, layer)
    if not 1 <= kept <= visual:
        smallest = _smallest_feasible(layers, visual, layer, budget)
        raise ConfigError(
            f"tokens: {tokens} with budget={budget} would keep {kept} of {visual} visual tokens after layer "
            f"{layer} of {layers}; feasible budgets are {smallest} to {visual}"
        )
    return kept


def is_share(number: float) -> bool:
    """Whether a number of tokens or heads is a share of all that there are: it is below 1 and not 0."""
    return 0 < number < 1


def plain(number: float) -> float:
    """A whole number as an int, a share as it is."""
    return int(number) if number == int(number) else float(number)


def share_of(share: float, total: int) -> int:
    """That share of a number, rounded half up, at least 1. The share counts as it is written: 0.29 of 50 is 14.5."""
    return max(1, math.floor(Fraction(str(share)) * total + Fraction(1, 2)))


def token_count(tokens: float, visual: int) -> int:
    """A budget in tokens: a share of the image's V = `visual`, or the number itself."""
    return share_of(tokens, visual) if is_share(tokens) else int(tokens)


def head_count(heads: float, total: int) -> int:
    """Chosen heads: a share of the `total` heads of a layer, or the number itself."""
    return share_of(heads, total) if is_share(heads) else int(heads)


def _kept_of_share(share: float, layers: int, visual: int, layer: int, budget: str) -> int:
    if budget == "kept":
        return share_of(share, visual)
    above = (layers * Fraction(str(share)) - layer) / (layers - layer)
    if above <= 0:
        raise ConfigError(
            f"tokens: {share} with budget={budget} would keep nothing after layer {layer} of {layers}; feasible shares "
            f"are those above {layer / layers:.3g}"
        )
    return max(1, math.floor(above * visual + Fraction(1, 2)))


def mean_tokens(kept: int, *, layers: int, visual: int, layer: int) -> float:
    """Mean number of visual tokens per decoder layer when `kept` of `visual` are kept after `layer`."""
    return (layer * visual + (layers - layer) * kept) / layers


def _average_to_kept(tokens: int, layers: int, visual: int, layer: int) -> int:
    return round((layers * tokens - layer * visual) / (layers - layer))


def _smallest_feasible(layers: int, visual: int, layer: int, budget: str) -> int:
    if budget == "kept":
        return 1
    return next(t for t in range(1, visual + 1) if _average_to_kept(t, layers, visual, layer) >= 1)
