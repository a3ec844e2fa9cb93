"""The tables of methods on the embedded study, docs/methods-*.md: scores, intervals, best sets, costs.

    python tools/methods_table.py            # runs both studies of configs/, compares each and writes its page
    python tools/methods_table.py --study methods --limit 4 --folder /tmp

Answers that are on disk are not computed again. Nothing on the page is typed by hand but its explanations.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from embedded_table import caption

from headwise.analysis.tables import pareto_front
from headwise.benchmarks import BENCHMARKS
from headwise.methods import METHODS, BeforeMethod
from headwise.report.columns import EFFICIENCY

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"methods": "methods-embedded.md", "methods-few-tokens": "methods-few-tokens.md"}
QUESTION = """\
Methods before the language model only. The last column says which kind has a method in the best set of its budget on
that benchmark: one kind alone there is better than all of the other by more than chance.
"""
COUNTED = ("flops", "kv_bytes")
MEASURED = ("prefill_seconds", "token_seconds")
TITLES = {
    "methods": """\
# Methods on the embedded study

This page is made by `python tools/methods_table.py`; run it again rather than change the page.

Every method that the embedded model can run, at equal budgets (`configs/methods.yaml`): T is the mean number of visual
tokens that a decoder layer sees ([why budgets differ](methods.md#why-budgets-differ)). The model has 2.3 million
parameters and sees synthetic scenes ([the embedded study](embedded.md)): the page shows what a comparison of methods
looks like and what can be told apart at this number of questions, not which method is best on photographs. Methods
before the language model at fewer tokens: [where few are left](methods-few-tokens.md).
""",
    "methods-few-tokens": """\
# Methods at few tokens on the embedded study

This page is made by `python tools/methods_table.py`; run it again rather than change the page.

Methods before the language model, where few tokens are left (`configs/methods-few-tokens.yaml`): 64, 36 and 16 of 576,
in every layer. Methods inside it cannot get there on a decoder of 8 layers: the layers before they prune see all. It is
the same small model as [where there is room](methods-embedded.md), and as little a statement about photographs.
""",
}
READING = """\
Scores with 95 % intervals (bootstrap over images); `mean` is the mean over the benchmarks of percent of the unpruned
model. ✓: in the best set of its budget, statistically tied with the best one there. Controls are in italics. FLOPs are
of one prefill with the choosing in it, key-value bytes in 2-byte numbers, both counted from shapes; `front` names the
costs at which no other row of the page is both at least as good and at least as cheap.
"""


def page(found: dict[str, Any], source: str, seconds: bool = False, study: str = "methods") -> str:
    """The page of a comparison (what `headwise compare --json` prints); `source` says where its numbers are from."""
    if not found["overall"]:
        raise click.ClickException("the comparison has no mean over benchmarks; compare several of them")
    costs = COUNTED + (MEASURED if seconds else ())
    budgets = sorted({cell["tokens"] or 0 for cell in found["overall"]["cells"]}, reverse=True)
    fronts = _fronts(found["overall"]["cells"], costs)
    parts = [TITLES[study], READING, *(f"- {note}" for note in found["notes"]), ""]
    for tokens in [0, *(tokens for tokens in budgets if tokens)]:
        title = f"{tokens} tokens" if tokens else "Unpruned"
        parts += [f"## {title}", "", _table(found, tokens, costs, fronts), "", *_best_set(found, tokens)]
    parts += _question(found, [tokens for tokens in budgets if tokens])
    return "\n".join([*parts, source, ""])


def _table(found: dict[str, Any], tokens: int, costs: Sequence[str], fronts: dict[str, str]) -> str:
    names = [BENCHMARKS[name].title for name in found["benchmarks"]]
    looks = {column.name: column for column in EFFICIENCY}
    header = ["method", "mean, %", "", *names, "tokens seen", *(looks[cost].title for cost in costs), "front"]
    cells = [cell for cell in found["overall"]["cells"] if (cell["tokens"] or 0) == tokens]
    lines = [header, ["---", "--:", "---", *["--:"] * (len(names) + 1 + len(costs)), "---"]]
    for cell in sorted(cells, key=lambda cell: -(cell["score"] or 0)):
        alike = [_same(found["benchmarks"][name]["cells"], cell) for name in found["benchmarks"]]
        name = cell["configuration"].removeprefix(f"{tokens}/")
        shown = f"`{name}`" if cell["role"] != "control" else f"*{name}*"
        mark = "✓" if cell["best_at_budget"] and cell["role"] != "reference" else ""
        seen = cell["mean_visual_tokens"]
        lines.append(
            [shown, _score(cell), mark, *map(_score, alike), f"{seen:.1f}"]
            + [looks[cost].show(cell[cost]) for cost in costs]
            + [fronts[cell["configuration"]]]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _same(cells: Sequence[dict[str, Any]], wanted: dict[str, Any]) -> dict[str, Any]:
    return next((cell for cell in cells if cell["configuration"] == wanted["configuration"]), {"score": None})


def _score(cell: dict[str, Any]) -> str:
    """Score and interval; `·` where it was not run."""
    if cell["score"] is None:
        return "·"
    digits = 0 if cell["score"] > 200 else 1
    score, *interval = (None if cell[key] is None else f"{cell[key]:.{digits}f}" for key in ("score", "low", "high"))
    return str(score) if None in interval or interval[0] == interval[1] else f"{score} ({interval[0]} to {interval[1]})"


def _best_set(found: dict[str, Any], tokens: int) -> list[str]:
    inside = [
        f"`{cell['strategy']}`"
        for cell in sorted(found["overall"]["cells"], key=lambda cell: -(cell["score"] or 0))
        if cell["tokens"] == tokens and cell["best_at_budget"]
    ]
    return [f"Best set: {', '.join(inside)}.", ""] if inside else []


def _question(found: dict[str, Any], budgets: Sequence[int]) -> list[str]:
    """Whether methods before the language model that read the question beat those that do not, or are tied."""
    lines = [
        "| tokens | benchmark | best that reads the question | best that does not | tied with the best of its budget |",
        "| --: | --- | --- | --- | --- |",
    ]
    parts = {BENCHMARKS[name].title: part["cells"] for name, part in found["benchmarks"].items()}
    parts["mean, %"] = found["overall"]["cells"]
    for tokens in budgets:
        for title, cells in parts.items():
            reads, blind = (_kind(cells, tokens, reads) for reads in (True, False))
            if not reads or not blind:
                return []
            tied = [said for kind, said in ((reads, "reads it"), (blind, "does not")) if any(map(_best, kind))]
            best = (max(kind, key=lambda cell: cell["score"]) for kind in (reads, blind))
            shown = [f"`{cell['strategy']}` {_score(cell)}" for cell in best]
            lines.append(f"| {tokens} | {title} | {' | '.join(shown)} | {', '.join(tied) or 'neither'} |")
    return ["## Does reading the question help?", "", QUESTION, *lines, ""]


def _kind(cells: Sequence[dict[str, Any]], tokens: int, reads: bool) -> list[dict[str, Any]]:
    """The scored cells of a budget whose method chooses before the language model, and reads the question or not."""
    return [
        cell
        for cell in cells
        if cell["tokens"] == tokens
        and cell["role"] == "method"
        and cell["score"] is not None
        and isinstance(method := METHODS.get(cell["strategy"]), BeforeMethod)
        and method.question_dependent == reads
    ]


def _best(cell: dict[str, Any]) -> bool:
    return bool(cell["best_at_budget"])


def _fronts(cells: Sequence[dict[str, Any]], costs: Sequence[str]) -> dict[str, str]:
    """Per configuration the costs on whose Pareto front it is, the unpruned model among the rivals."""
    looks = {column.name: column.title for column in EFFICIENCY}
    score = np.array([np.nan if cell["score"] is None else cell["score"] for cell in cells])
    on = {
        cost: pareto_front(np.array([np.nan if cell[cost] is None else cell[cost] for cell in cells], float), score)
        for cost in costs
    }
    return {
        cell["configuration"]: ", ".join(looks[cost] for cost in costs if on[cost][place])
        for place, cell in enumerate(cells)
    }


def _headwise(*words: str) -> str:
    """Run the command line; its standard output. What it says of its progress goes to this terminal."""
    done = subprocess.run([sys.executable, "-m", "headwise", *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"headwise {' '.join(words)} ended with exit code {done.returncode}")
    return done.stdout


@click.command()
@click.option("--limit", default="config", help="Questions of each benchmark.  [default: as the configuration says]")
@click.option("--study", "studies", multiple=True, default=list(PAGES), type=click.Choice(list(PAGES)), help="Which.")
@click.option("--folder", default=ROOT / "docs", type=click.Path(path_type=Path), help="Where to write the pages.")
@click.option("--seconds", is_flag=True, help="Measured seconds, too; run it on an idle machine.")
def main(limit: str, studies: Sequence[str], folder: Path, seconds: bool) -> None:
    """Run the studies of methods, compare each and write its page."""
    pages = {}
    for study in studies:
        _headwise("evaluate", "--config", str(ROOT / "configs" / f"{study}.yaml"), "--limit", limit)
        found = json.loads(_headwise("compare", "--json", "--no-report"))
        pages[folder / PAGES[study]] = page(found, caption(found), seconds, study)
    for path, text in pages.items():  # only now: a page written before would make the next study's checkout a dirty one
        path.write_text(text, encoding="utf-8")
        click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
