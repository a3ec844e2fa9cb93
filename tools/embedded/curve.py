"""Learning curves of a training run, from the logs in its work folder."""

import json
from pathlib import Path
from typing import Any

SHOWN = {
    "color_query": "color?",
    "exists": "is it there?",
    "side_choose": "left or right?",
    "read": "read the sign",
    "color_verify": "is it red?",
    "count_verify": "how many?",
    "relation": "left of?",
    "option": "which letter?",
    "locate": "where? (box)",
    "mean": "mean of all kinds",
}


def draw_curve(work: Path, out: Path, unguided: Path | None = None) -> None:
    """Write a PNG: accuracy of tower and projector, what [CLS] and texts find, held-out accuracy per kind.

    `unguided`: the work folder of a run without the aid in layer 4, whose language stage is drawn beside.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (vision, seen, language) = plt.subplots(1, 3, figsize=(14, 3.6), width_ratios=(1, 1, 2))
    _vision(vision, work)
    _seen(seen, work)
    _language(language, work, read_log(unguided, "language") if unguided else [])
    figure.tight_layout()
    figure.savefig(out, dpi=80)
    plt.close(figure)


def read_log(work: Path, stage: str) -> list[dict[str, Any]]:
    path = work / f"{stage}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _vision(axis: Any, work: Path) -> None:
    tower, align = read_log(work, "tower"), read_log(work, "align")
    for name in ("shape", "color", "character"):
        axis.plot([row["step"] for row in tower], [100 * row[name] for row in tower], label=name)
    start = tower[-1]["step"] if tower else 0
    left = [100 * (1 - row["foreground"]) for row in align]
    axis.plot([start + row["step"] for row in align], left, "k--", label="explained by projector")
    axis.axvline(start, color="0.7", lw=0.8)
    axis.set(title="tower, then align", xlabel="step", ylabel="% (foreground patches)", ylim=(0, 101))
    axis.legend(fontsize=7)


def _seen(axis: Any, work: Path) -> None:
    tower = read_log(work, "tower")
    for name, label in (("foreground", "foreground, by [CLS]"), ("named", "what a text names")):
        axis.plot([row["step"] for row in tower], [row[name] for row in tower], label=label)
    axis.axhline(1, color="0.7", lw=0.8)
    axis.set(title="among the top 64 patches", xlabel="step", ylabel="times chance", ylim=(0, 10))
    share = axis.twinx()
    share.plot([row["step"] for row in tower], [100 * row["retrieval"] for row in tower], "k--", label="captions")
    share.set(ylabel="captions found among 64, %", ylim=(0, 101))
    axis.legend(handles=[*axis.lines[:2], *share.lines], fontsize=7)


def _language(axis: Any, work: Path, unguided: list[dict[str, Any]]) -> None:
    language, tune = read_log(work, "language"), read_log(work, "tune")
    start = language[-1]["step"] if language else 0
    rows = [(row["step"], row) for row in language] + [(start + row["step"], row) for row in tune]
    for name, label in SHOWN.items():
        style = {"color": "k", "lw": 2} if name == "mean" else {"lw": 1}
        axis.plot([step for step, _ in rows], [100 * row[name] for _, row in rows], label=label, **style)
    if unguided:
        means = [100 * row["mean"] for row in unguided]
        axis.plot([row["step"] for row in unguided], means, "k--", label="mean, layer 4 not guided")
    axis.axvline(start, color="0.7", lw=0.8)
    axis.set(title="language (symbols), then tune (images)", xlabel="step", ylabel="held-out accuracy, %")
    axis.set_ylim(0, 101)
    axis.legend(fontsize=7, ncols=2)
