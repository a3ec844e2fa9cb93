"""The columns of the report's tables: what each is called and what it means."""

from __future__ import annotations

import pandas as pd

from headwise.analysis.beside import MEAN
from headwise.analysis.tables import FRONTS
from headwise.report.markup import Column, few, magnitude, mark, number, probability, seconds, signed, whole

NAME = [
    Column("configuration", "configuration", "token budget / heads / strategy"),
    Column("tokens", "tokens", "token budget", whole),
    Column("heads", "heads", "heads chosen", whole),
    Column("strategy", "strategy"),
]


def scores(digits: int) -> list[Column]:
    """Columns of a table of cells."""
    points = number(digits)
    return [
        *NAME,
        Column("score", "score [95 %]", "with its interval: over images drawn anew", points, ("low", "high")),
        Column("in_best_set", "best set", "not significantly worse than the best pruned configuration", mark),
        Column("best_at_budget", "of its budget", "the same among configurations of the same token budget", mark),
        Column("p_best", "p best", "adjusted p of: some other pruned configuration is better", probability),
        Column("vs_best", "− best [95 %]", "difference to the best, paired", signed, ("vs_best_low", "vs_best_high")),
        Column(
            "vs_vanilla", "− vanilla [95 %]", "difference to the unpruned model, paired", signed,
            ("vs_vanilla_low", "vs_vanilla_high"),
        ),
        Column("p_vanilla", "p vanilla", "sign flips by image, Holm-corrected over the table", probability),
        Column("of_vanilla", "% of vanilla", "percent of the unpruned model's score", number(1)),
    ]  # fmt: skip


RECOMMENDATION = [
    Column("budget", "budget"),
    Column("tokens", "tokens", "token budget", whole),
    Column("recommended", "recommended"),
    Column("score", "score [95 %]", "with its interval", number(1), ("low", "high")),
    Column("verdict", "what is known"),
    Column("equals", "statistically tied with", "the other configurations in the best set of this budget", few),
]
RETAINED = [
    Column("benchmark", "benchmark"),
    Column("tokens", "tokens", "token budget", whole),
    Column("best", "best configuration"),
    Column(
        "best_of_vanilla", "best, % [95 %]", "selected post hoc, hence optimistically biased", number(1),
        ("best_of_vanilla_low", "best_of_vanilla_high"),
    ),
    Column(
        "mean_of_vanilla", "mean of methods, % [95 %]", "over all methods and head counts", number(1),
        ("mean_of_vanilla_low", "mean_of_vanilla_high"),
    ),
    Column("all_heads", "all heads, %", "control: every head (the FastV rule)", number(1)),
    Column("random_heads", "random heads, %", "control", number(1)),
    Column("random_tokens", "random tokens, %", "control", number(1)),
]  # fmt: skip


def retained(table: pd.DataFrame | None) -> list[Column]:
    """RETAINED, and the controls that only this study has (pooling, a plug-in's)."""
    known = {column.name for column in RETAINED} | {"configurations"}
    known |= {f"{column.name}{end}" for column in RETAINED for end in ("_low", "_high")}
    others = [] if table is None else [str(name) for name in table if name not in known]
    return [*RETAINED, *(Column(name, f"{name.replace('_', ' ')}, %", "control", number(1)) for name in others)]


def beside(table: pd.DataFrame) -> list[Column]:
    """Columns of percent of vanilla by benchmark, and their mean."""
    known = {column.name for column in NAME}
    own = [str(name) for name in table if name not in known and name != MEAN]
    parts = [Column(name, f"{name}, %", "percent of the unpruned model's score", number(1)) for name in own]
    mean = Column(MEAN, "mean, %", "only where no benchmark is lacking: other means do not compare", number(1))
    return [*NAME, *parts, mean]


STRATEGIES = [
    Column("strategy", "strategy"),
    Column("cells", "cells", "configurations averaged", whole),
    Column("of_vanilla", "% of vanilla [95 %]", "mean over the grid", number(1), ("low", "high")),
    Column("in_best_set", "best set", "not significantly worse than the best strategy", mark),
    Column("p_best", "p best", "adjusted p of: some other strategy is better", probability),
]
WINS = [
    Column("strategy", "strategy"),
    Column("rows", "rows", "benchmark × token budget × heads", whole),
    Column("topped", "highest", "rows with the highest score, ties shared; significance aside", number(1)),
    Column("won", "won", "significantly better than every other strategy of the row", whole),
    Column("shared", "shared", "in the row's best set together with others", whole),
    Column("lost", "lost", "significantly worse than some other strategy of the row", whole),
    Column("too_few", "too few images", "rows of benchmarks with too few images to tell strategies apart", whole),
]
EFFICIENCY = [
    *NAME,
    Column("score", "score", "", number(1)),
    Column("of_vanilla", "% of vanilla", "percent of the unpruned model's score", number(1)),
    Column("kept_tokens", "kept", "visual tokens above the pruning layer", number(0)),
    Column("mean_visual_tokens", "mean tokens", "visual tokens a layer, on average", number(1)),
    Column("flops", "FLOPs", "of a prefill, counted from shapes", magnitude),
    Column("kv_bytes", "KV bytes", "of the key-value cache, 2-byte numbers", magnitude),
    Column("prefill_seconds", "prefill", "measured: one question alone, from embedded image to first token", seconds),
    Column("token_seconds", "each token", "measured: one question alone, after the first token", seconds),
    Column("peak_bytes", "peak memory", "measured: weights, activations and cache of one question alone", magnitude),
    Column("measured_questions", "measured on", "questions that seconds and bytes are medians of", number(0)),
    *(
        Column(f"front_{cost}", f"front: {word}", "on the Pareto front of score and this cost", mark)
        for cost, word in FRONTS.items()
    ),
]
PRECISION = [
    Column("strategy", "strategy"),
    Column("heads", "heads", "heads chosen", whole),
    Column("float16_agreement", "agreement", "share of chosen heads common to both rankings", number(2)),
    Column("chance", "by chance", "heads chosen / heads", number(2)),
]
