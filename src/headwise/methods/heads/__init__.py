"""Head strategies: rank the H attention heads of layer K and select the best.

Shape suffixes used throughout headwise: H heads, V visual tokens, S prompt positions, D hidden size,
K chosen heads, R kept visual tokens, B branches, Q question positions, N samples.

STRATEGIES are the built-in ones; a plug-in's is a subclass of methods.head_strategies.HeadStrategy, which has the
same `score`, `version` and `counts_heads`. The controls are in CONTROLS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headwise.errors import ConfigError
from headwise.methods.heads import composite, statistics
from headwise.methods.heads.maps import Maps
from headwise.methods.heads.strategy import Strategy
from headwise.study.names import CONTROLS, SCORE_DTYPES, check_strategy, head_strategies
from headwise.study.names import STRATEGIES as NAMES
from headwise.study.versions import carried

if TYPE_CHECKING:
    from headwise.methods.head_strategies import HeadStrategy

STRATEGIES: dict[str, Strategy] = {
    "sum": Strategy(score=statistics.attention_sum),
    "variance": Strategy(score=statistics.variance),
    "entropy": Strategy(score=statistics.entropy),
    "max_attention": Strategy(score=statistics.max_attention),
    "attention_range": Strategy(score=statistics.attention_range),
    "sparsity": Strategy(score=statistics.sparsity),
    "top_k_sum": Strategy(score=statistics.top_k_sum),
    "weighted_quality": Strategy(score=statistics.weighted_quality),
    "gini_coefficient": Strategy(score=statistics.gini_coefficient),
    "multi_objective": Strategy(score=composite.multi_objective),
    "graph_based": Strategy(score=composite.graph_based),
    "hierarchical": Strategy(score=composite.hierarchical, counts_heads=True),
}
assert tuple(STRATEGIES) == NAMES, "study/names.py must list the same strategies, for code that must not import torch"

# As `Strategy.version`, for the controls: incremented when one can keep other tokens.
CONTROL_VERSIONS = dict.fromkeys(CONTROLS, 1)

__all__ = [
    "CONTROLS",
    "SCORE_DTYPES",
    "STRATEGIES",
    "best",
    "counts_heads",
    "degenerate",
    "rank",
    "score_heads",
    "select_heads",
    "select_tokens",
    "token_scores",
    "version_of",
]


def counts_heads(name: str) -> bool:
    """True where the ranking by strategy `name` depends on how many heads will be chosen."""
    return _strategy(name).counts_heads


def version_of(name: str) -> str:
    """Version of a strategy, control or method, as part of the fingerprint of answers (`versions.carried`)."""
    from headwise.methods import METHODS  # methods read heads' formulas, not the other way round

    if name in METHODS:
        return carried(METHODS[name].version, type(METHODS[name]))
    check_strategy(name)
    if name in CONTROL_VERSIONS:
        return carried(CONTROL_VERSIONS[name])
    return carried(STRATEGIES[name].version, STRATEGIES[name].score)


def score_heads(name: str, attention_HV: Tensor, num_heads: int, score_dtype: str = "float64") -> Tensor:
    """Scores of the heads, larger is better: [..., H] in `score_dtype`. ConfigError for an unknown name."""
    strategy = _strategy(name)
    return strategy.score(Maps(attention_HV.to(_dtype(score_dtype)), num_heads if strategy.counts_heads else None))


def select_heads(name: str, attention_HV: Tensor, num_heads: int, score_dtype: str = "float64") -> Tensor:
    """The `num_heads` best heads by strategy `name`, as ascending indices heads_K ([..., K], int64).

    `attention_HV` [..., H, V] is the last prompt token's attention at the pruning layer over the image
    positions. Ties go to the lower head index. Raises ConfigError for an unknown strategy or dtype and
    where `num_heads` is not in 1..H.
    """
    attention_HV = torch.as_tensor(attention_HV)
    heads = attention_HV.shape[-2]
    if not 1 <= num_heads <= heads:
        raise ConfigError(f"heads: {num_heads} is not between 1 and {heads}, the attention heads of a layer")
    score_H = score_heads(name, attention_HV, num_heads, score_dtype)
    return best(score_H, num_heads)


def select_tokens(attention_HV: Tensor, heads_K: Tensor, kept: int, score_dtype: str = "float64") -> Tensor:
    """Indices of the `kept` visual tokens with the highest mean attention over `heads_K`, in image order."""
    return best(token_scores(attention_HV, heads_K, score_dtype), kept)


def token_scores(attention_HV: Tensor, heads_K: Tensor, score_dtype: str = "float64") -> Tensor:
    """Mean attention over the chosen heads, [..., V] in `score_dtype`; `heads_K` is [..., K]."""
    index_KV = heads_K.unsqueeze(-1).expand(*heads_K.shape, attention_HV.shape[-1])
    return attention_HV.gather(-2, index_KV).to(_dtype(score_dtype)).mean(-2)


def rank(score: Tensor) -> Tensor:
    """Indices of the last dimension from the largest value to the smallest; ties go to the lower index."""
    return score.sort(dim=-1, descending=True, stable=True).indices


def best(score: Tensor, count: int) -> Tensor:
    """Ascending indices of the `count` largest values of the last dimension; ties go to the lower index."""
    return rank(score)[..., :count].sort(dim=-1).values


def degenerate(score_H: Tensor) -> Tensor:
    """True [...] where a ranking of heads is degenerate: a NaN among the scores, or all scores equal.

    Heads excluded by a coarse pre-selection (-inf) do not count.
    """
    in_play_H = score_H != -torch.inf
    low = torch.where(in_play_H, score_H, torch.inf).amin(-1)
    return score_H.isnan().any(-1) | (low == score_H.amax(-1))


def _strategy(name: str) -> Strategy | HeadStrategy:
    """A built-in head strategy or a plug-in's. ConfigError for any other name."""
    if name in STRATEGIES:
        return STRATEGIES[name]
    from headwise.methods import METHODS
    from headwise.methods.head_strategies import HeadStrategy

    found = METHODS[name] if name in METHODS else None  # noqa: SIM401 (get expects KeyError)
    if not isinstance(found, HeadStrategy):
        check_strategy(name, allowed=head_strategies())
    assert isinstance(found, HeadStrategy)
    return found


def _dtype(name: str) -> torch.dtype:
    if name not in SCORE_DTYPES:
        raise ConfigError(f"score_dtype: {name!r} is not one of {', '.join(SCORE_DTYPES)}")
    return getattr(torch, name)
