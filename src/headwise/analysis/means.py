"""Whether cells of one budget were given equally many visual tokens per layer, which is what makes them comparable."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from headwise.study.budget import plain

MEAN = "mean_visual_tokens"
# How far the means of two cells of one budget may be apart without a note.
APART = 0.5
# Cells that a note names per budget.
NAMED = 5


def unequal_means(cells: pd.DataFrame) -> list[str]:
    """A note where means differ by more than half a token within a budget: which cells, and what most have."""
    if MEAN not in cells:
        return []
    told: dict[str, dict[str, None]] = {}
    known = cells.dropna(subset=["tokens", MEAN])
    for (model, benchmark, _), rows in known.groupby(["model", "benchmark", "tokens"], sort=False):
        if rows[MEAN].max() - rows[MEAN].min() > APART:
            of_model = f" of {model}" if cells["model"].nunique() > 1 else ""
            text = f"at {plain(rows['tokens'].iloc[0])} tokens{of_model} {_spread(rows)}"
            told.setdefault(text, {})[str(benchmark)] = None
    if not told:
        return []
    return [f"mean visual tokens per layer differ within a budget: {'; '.join(_where(told, cells))}"]


def _where(told: dict[str, dict[str, None]], cells: pd.DataFrame) -> Iterator[str]:
    """The texts, largest budget first as the cells stand; the benchmarks where a text is not of all of them."""
    everywhere = cells["benchmark"].nunique()
    for text, benchmarks in told.items():
        yield text if len(benchmarks) == everywhere else f"{', '.join(benchmarks)}: {text}"


def _spread(rows: pd.DataFrame) -> str:
    """As `169.0 (downsample), 189.8 (dart) and 191.4 to 192.2 (18 others)`."""
    means = rows[["label", MEAN]].drop_duplicates().sort_values(MEAN, kind="stable")
    near = means[MEAN].map(lambda mean: int(((means[MEAN] - mean).abs() <= APART).sum()))
    usual = means[MEAN].iloc[int(near.to_numpy().argmax())]
    alike = (means[MEAN] - usual).abs() <= APART
    apart = [f"{mean:.1f} ({label})" for label, mean in means[~alike].itertuples(index=False)]
    more = [f"{len(apart) - NAMED} more"] if len(apart) > NAMED else []
    low, high = means[MEAN][alike].min(), means[MEAN][alike].max()
    others = str(means["label"][alike].iloc[0]) if alike.sum() == 1 else f"{alike.sum()} others"
    span = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
    return f"{', '.join([*apart[:NAMED], *more])} and {span} ({others})"
