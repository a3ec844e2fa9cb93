"""The names a study may use, for code that must not import torch (configuration, scoring, comparison)."""

from __future__ import annotations

from collections.abc import Sequence

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
RANDOM = ("random_heads", "random_tokens")
"""Strategies that draw at random; the seed changes what these keep, and nothing of any other."""
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


ANSWERING = ("source", "dtype", "device", "max_new_tokens", "prompt")
"""Parameters of a cell that say how its questions were answered, whatever was pruned: cells that differ in one of
them differ in more than their strategy."""


def check_strategy(name: str, allowed: Sequence[str] = STRATEGIES + CONTROLS) -> None:
    """ConfigError naming the allowed strategies where `name` is none of them."""
    if name not in allowed:
        raise ConfigError(f"strategy: {name!r} is not one of {', '.join(allowed)}")


def needs_heads(strategy: str) -> bool:
    """True where the number of heads changes what the strategy keeps."""
    return strategy in STRATEGIES or strategy == "random_heads"


def needs_seed(strategy: str) -> bool:
    """True where the seed changes what the strategy keeps."""
    return strategy in RANDOM


def reads_query(strategy: str) -> bool:
    """True where the query rows change what the strategy keeps."""
    return strategy in STRATEGIES or strategy in ("all_heads", "random_heads")


def needs_tokens(strategy: str) -> bool:
    """True for every strategy but the unpruned control."""
    return strategy != "vanilla"
