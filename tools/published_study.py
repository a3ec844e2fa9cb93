"""Regenerate docs/published-study.md: every figure on the page is computed here, none is typed.

    python tools/published_study.py

reads the published figures (configs/published), the study's MME answers (published/mme_answers.zip) and the
reference rankings (strategies.npz), the latter two from tests/golden.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from headwise.benchmarks import benchmark, mme
from headwise.published.figures import CELL, Published, read_published
from headwise.published.importer.sources import Source, find_sources
from headwise.stats import Estimates, Outcomes, estimate, in_best_set

HERE = Path(__file__).parent
PAGE, TEMPLATE = HERE.parent / "docs/published-study.md", "published-study.md.j2"
GOLDEN = HERE.parent / "tests" / "golden"
QUESTIONS = {"textvqa": 5000, "gqa": 12578}
TITLES = {"textvqa": "TextVQA", "mme": "MME", "gqa": "GQA", "pope": "POPE"}
HEADS = (24, 16, 8)
# A ranking is called noise where its agreement with float64 is this close to chance, or below it.
NOISE = 0.1


def render(golden: Path = GOLDEN) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["name"] = lambda row: f"{row['tokens']}/{row['heads']}/{row['strategy']}"
    return environment.get_template(TEMPLATE).render(facts(golden))


def facts(golden: Path) -> dict[str, Any]:
    """Everything that the template shows."""
    published = read_published()
    return {
        "titles": TITLES,
        "headline": published.best().to_dict("records"),
        "misprints": published.neighbours().to_dict("records"),
        "cells": len(published.every_cell()),
        "holes": holes(published),
        "twins": twins(published) | {"overlap": overlap(golden / "strategies.npz")},
        "winners": sorted(set(published.best()["strategy"])),
        "maps": len(np.load(golden / "strategies.npz")["attention"]),
        "float16": float16(golden / "strategies.npz"),
        "margins": [accuracy_margin(published, name) for name in QUESTIONS],
        "mme": unpacked(golden / "published" / "mme_answers.zip"),
    }


def unpacked(archive: Path) -> dict[str, Any]:
    """`mme_evidence` of the answers in a zip file."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as content:
        content.extractall(folder)
        return mme_evidence(Path(folder) / "mme_answers")


def holes(published: Published) -> dict[str, int]:
    """How many cells never ran, in all and by cause."""
    lacking = published.holes()
    eight = (lacking["strategy"] == "hierarchical") & (lacking["heads"] == 8)
    return {"all": len(lacking), "hierarchical": int(eight.sum()), "others": int((~eight).sum())}


def twins(published: Published) -> dict[str, Any]:
    """Where `max_attention` and `attention_range` have the same score, and how far apart they ever are."""
    keys = [name for name in CELL if name != "strategy"]
    wide = published.scores.pivot(index=keys, columns="strategy", values="score").dropna(subset=["max_attention"])
    apart = (wide["max_attention"] - wide["attention_range"]).abs()
    accuracies = apart[apart.index.get_level_values("benchmark") != "mme"]
    return {"cells": len(apart), "equal": int((apart == 0).sum()), "apart": float(accuracies.max())}


def overlap(path: Path) -> float:
    """Share of heads that both twins choose on the reference maps, in float64, at its lowest over 24/16/8 heads."""
    arrays = np.load(path)
    chosen = [[arrays[f"float64/{name}/{k}"] for name in ("max_attention", "attention_range")] for k in HEADS]
    return min(_agreement(one, other) for one, other in chosen)


def float16(path: Path) -> list[dict[str, Any]]:
    """Share of the chosen heads on which float16 agrees with float64, one row per strategy, and what chance gives."""
    arrays = np.load(path)
    heads = arrays["attention"].shape[1]
    rows = []
    for strategy in dict.fromkeys(name.split("/")[1] for name in arrays.files if "/" in name):
        shares = [_agreement(arrays[f"float16/{strategy}/{k}"], arrays[f"float64/{strategy}/{k}"]) for k in HEADS]
        chance = [k / heads for k in HEADS]
        noise = all(share <= luck + NOISE for share, luck in zip(shares, chance, strict=True))
        rows.append({"strategy": strategy, "shares": shares, "chance": chance, "noise": noise})
    return sorted(rows, key=lambda row: -sum(row["shares"]))


def _agreement(chosen_MK: np.ndarray, reference_MK: np.ndarray) -> float:
    common = [len(np.intersect1d(a, b)) / len(b) for a, b in zip(chosen_MK, reference_MK, strict=True)]
    return float(np.mean(common))


def accuracy_margin(published: Published, benchmark: str) -> dict[str, Any]:
    """The best accuracy's own 95 % half-width (binomial, in points), and how many cells lie inside it."""
    scores = published.scores.query("benchmark == @benchmark").sort_values("score", ascending=False)
    best, second = scores.iloc[0], scores.iloc[1]
    share = best["score"] / 100
    half = 196 * float(np.sqrt(share * (1 - share) / QUESTIONS[benchmark]))
    inside = int((scores["score"] > best["score"] - half).sum()) - 1
    rows = {"best": best.to_dict(), "second": second.to_dict(), "gap": best["score"] - second["score"]}
    return rows | {"benchmark": benchmark, "half": half, "inside": inside, "cells": len(scores)}


def mme_evidence(root: Path) -> dict[str, Any]:
    """What the study's own MME answers say: scores with intervals, the best set, differences to FastV."""
    sources = find_sources(root, "llava-v1.5-7b", _fail)
    estimates = estimate(_outcomes(sources))
    names = [source.identity.name.removeprefix("mme-") for source in sources]
    pruned = [place for place, source in enumerate(sources) if source.identity.strategy != "vanilla"]
    members = in_best_set(estimates.of(pruned))
    rows = [
        {"name": names[place], "score": estimates.score_C[place], "low": low, "high": high, "member": bool(member)}
        for place, member, (low, high) in zip(pruned, members, estimates.intervals()[pruned], strict=True)
    ]
    best = max(pruned, key=lambda place: estimates.score_C[place])
    table = sorted(rows, key=lambda row: -row["score"])
    return {
        "rows": table,
        "members": int(members.sum()),
        "vanilla": estimates.score_C[names.index("576-vanilla")],
        "best": names[best],
        "against_fastv": _difference(estimates, best, names.index("192-all_heads")),
        "fastv": _fastv(names, estimates.score_C),
    }


def _difference(estimates: Estimates, cell: int, reference: int) -> tuple[float, float, float]:
    """Score difference cell − reference, and its paired 95 % interval."""
    low, high = estimates.differences(np.full(len(estimates.score_C), reference))[cell]
    return float(estimates.score_C[cell] - estimates.score_C[reference]), float(low), float(high)


def _fail(issue: object) -> None:
    raise SystemExit(f"the published answers cannot be read: {issue}")


def _outcomes(sources: list[Source]) -> Outcomes:
    judged = [mme.judge_labelled(source.rows()) for source in sources]
    return Outcomes(
        aggregate=benchmark("mme").aggregate,
        correct_CQ=np.array([[verdict.correct for verdict in row] for row in judged], dtype=np.float32),
        image_Q=np.unique([verdict.image for verdict in judged[0]], return_inverse=True)[1],
        category_Q=np.unique([verdict.category for verdict in judged[0]], return_inverse=True)[1],
    )


def _fastv(names: list[str], scores: np.ndarray) -> list[dict[str, Any]]:
    """FastV's MME score from the study's answers beside the one other papers give."""
    papers = read_published().methods.query("method == 'FastV' and benchmark == 'mme'")
    rows = []
    for paper in papers.to_dict("records"):
        ours = float(scores[names.index(f"{paper['tokens']}-all_heads")])
        rows.append({"tokens": paper["tokens"], "answers": ours, "paper": paper["score"], "source": paper["source"]})
    return rows


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
