"""Writes docs/benchmarks.md from the registry: `python tools/benchmarks_page.py` (a test checks that it is current)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from headwise.benchmarks import BENCHMARKS, Benchmark, default_names, named_sets
from headwise.models import FAMILIES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
# The space that a rule measures in, for each that families answer in.
SPACES = {"padded": "padded", "image": "image", "thousandths": "any", "resized": "resized"}
INTRODUCTION = """\
# Benchmarks

This page is made from the code by `python tools/benchmarks_page.py`; change the benchmark's file, not this page.

`--benchmark` takes names and sets, separated by commas:

{sets}
- `all`: every benchmark below under its default rule, or the six of the set `embedded` where `data_dir` is
  `embedded`, which holds no others.

Paths are below `data_dir`, the layout
of the LLaVA evaluation bundle (its `playground/data/eval`); `--data-dir hf:` reads the Hugging Face datasets in the
local cache instead. `headwise data check DIR --benchmark NAME` counts what is there and says how to mend what is
wrong. Failed and missing answers are counted and never scored, whatever an official tool does with them: the score is
over the answered questions, and the cell is incomplete.

Numbers of questions are counted in the official files unless it says where they are from; `data check` reports a
difference from counted numbers as a mistake and from others as a note.
"""
RULES = """\
## Other rules

Published figures were made by different rules. Each has a name, to be used in place of the benchmark's; files,
counts and clusters are those of the default rule.

| name | rule of | what differs |
|---|---|---|
"""
STATISTICS = """\
## What a resample draws

Images, with all their questions. The score is declared once in the benchmark's file and computed by the same code for
one cell and for the bootstrap (`headwise.stats.aggregates`):

| aggregate | score |
|---|---|
| `Mean` | share of questions right, in % (soft accuracies are averaged) |
| `CategoryMean` | mean over the splits there are of each one's share, in % |
| `CategorySum` | number of questions right |
| `PairSum` | MME's sum over categories of accuracy and paired accuracy |
| `MeanF1` | POPE's mean F1 over its categories, in % |
| `GroupMean` | share of groups of rotated questions that are right in every rotation, in %; a group is one unit |
"""


def page() -> str:
    """The page's text."""
    sets = [f"- `{name}`: {', '.join(members)}." for name, members in named_sets().items()]
    parts = [INTRODUCTION.format(sets="\n".join(sets)), *(_section(BENCHMARKS[name]) for name in _shown())]
    rules = [_rule(bench) for bench in BENCHMARKS.values() if "." in bench.name]
    return "\n".join([*parts, RULES + "\n".join(rules) + "\n", STATISTICS])


def _shown() -> list[str]:
    """Benchmarks with their default rules, forms without OCR tokens included."""
    without_ocr = {bench.without_ocr for bench in BENCHMARKS.values()}
    return [name for name in BENCHMARKS if name in default_names() or name in without_ocr]


def _section(bench: Benchmark) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(bench))
    return f"## {bench.title} (`{bench.name}`)\n\n| | |\n|---|---|\n{rows}\n"


def _facts(bench: Benchmark) -> Iterator[tuple[str, str]]:
    yield "default rule", f"`{bench.rule}`, scorer `{bench.scorer}`"
    yield "source", bench.source
    yield "score", f"{type(bench.aggregate).__name__}, {bench.unit}"
    yield "questions", _questions(bench)
    yield "question file", f"`{bench.question_file}`"
    yield "images", bench.image_folder if bench.image_folder.startswith("inside") else f"`{bench.image_folder}/`"
    names = (bench.dataset, *bench.further_datasets) if bench.dataset else ()
    yield "Hugging Face dataset", ", ".join(f"`{name}`" for name in names) or "none"
    yield "cluster", bench.cluster
    yield "convention", bench.convention
    if bench.rules_by_space:
        rules = (f"`{rule}` ({_space(rule)})" for rule in bench.rules_by_space.values())
        yield "other families", f"in a study, a model that answers in other coordinates takes {', '.join(rules)}"
    if bench.least_new_tokens > 1:
        yield "answers", f"a study needs `max_new_tokens` of at least {bench.least_new_tokens}"


def _space(rule: str) -> str:
    titles = [family.title for family in FAMILIES.values() if BENCHMARKS[rule].box_space == SPACES[family.box_space]]
    return ", ".join(titles)


def _questions(bench: Benchmark) -> str:
    if bench.official is None:
        return "depends on the files there are"
    known = "" if bench.official.known_from == "counted" else f" ({bench.official.known_from})"
    parts = ", ".join(f"{name} {count:,}" for name, count in bench.official_categories.items())
    return f"{bench.official.questions:,}{known}" + (f": {parts}" if parts else "")


def _rule(bench: Benchmark) -> str:
    what = " ".join((type(bench).__doc__ or "").split())
    return f"| `{bench.name}` | {bench.source} | {what} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
