"""Names of strategies, controls and options, for code that must not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headwise.errors import ConfigError

STRATEGIES = (
    "sum",
    "variance",
    "entropy",
    "max_attention",
    "attention_range",
    "sparsity",
    "top_k_sum",
    "weighted_quality",
    "gini_coefficient",
    "multi_objective",
    "graph_based",
    "hierarchical",
)
PUBLISHED_STRATEGIES = (
    "max_attention",
    "attention_range",
    "sparsity",
    "top_k_sum",
    "multi_objective",
    "graph_based",
    "hierarchical",
)
CONTROLS = ("vanilla", "all_heads", "random_heads", "random_tokens")
# Roles: the unpruned model, what methods are compared with, what may be recommended.
REFERENCE, CONTROL, METHOD = "reference", "control", "method"
# Strategies that draw at random; the seed changes what these keep, and nothing of any other.
RANDOM = ("random_heads", "random_tokens")
SCORE_DTYPES = ("float64", "float32", "float16")
BUDGETS = ("average", "kept", "published")
QUERIES = (
    "last_token",
    "last_n_tokens",
    "last_5_tokens",
    "text_tokens_only",
    "weighted_recent",
    "system_and_text",
    "attention_weighted",
    "max_attention_token",
    "adaptive_by_length",
)


# Parameters of a cell that affect its answers apart from pruning: cells that differ in one of them are not
# comparable as strategies.
ANSWERING = ("source", "dtype", "device", "compile", "max_new_tokens", "prompt")


_added: list[str] = []


def add_head_strategy(name: str) -> None:
    """Make a plug-in's head strategy known by name."""
    if name not in _added:
        _added.append(name)


def head_strategies() -> tuple[str, ...]:
    """The head strategies of this process: the built-in ones, then those of plug-ins."""
    return (*STRATEGIES, *_added)


def ranks_heads(strategy: str) -> bool:
    """True for a head strategy: it ranks heads by a formula."""
    return strategy in STRATEGIES or strategy in _added


def in_order(found: Iterable[str]) -> list[str]:
    """Names as tables and figures list them: built-in strategies, other methods by alphabet, controls."""
    rest = set(found)
    others = sorted(rest - {*STRATEGIES, *CONTROLS})
    return [name for name in (*STRATEGIES, *others, *CONTROLS) if name in rest]


# Parameters of a cell that change what a pruned one keeps, and nothing of the unpruned one.
RANKING = ("layer", "budget", "score_dtype", "seed", "query", "options")


def check_strategy(name: str, allowed: Sequence[str] = STRATEGIES + CONTROLS) -> None:
    """ConfigError that lists the allowed strategies if `name` is not one of them."""
    if name not in allowed:
        raise ConfigError(f"strategy: {name!r} is not one of {', '.join(allowed)}")


def needs_heads(strategy: str) -> bool:
    """True where the number of heads changes what the strategy keeps."""
    return ranks_heads(strategy) or strategy == "random_heads"


def needs_seed(strategy: str) -> bool:
    """True if the seed affects what the strategy keeps."""
    return strategy in RANDOM


def reads_query(strategy: str) -> bool:
    """True where the query rows change what the strategy keeps."""
    return strategy in STRATEGIES or strategy in ("all_heads", "random_heads")


def needs_tokens(strategy: str) -> bool:
    """True for every strategy except the unpruned control."""
    return strategy != "vanilla"


def role_of(strategy: str) -> str:
    """The role of a strategy that is known here; of any other it is a method's, unless its run says otherwise."""
    if strategy == "vanilla":
        return REFERENCE
    return CONTROL if strategy in CONTROLS else METHOD
