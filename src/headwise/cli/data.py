"""`headwise data`: is a folder of benchmarks all there, and what do published figures say?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headwise.cli.options import plugin_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from headwise.benchmarks.bundles.check import Check


@click.group("data")
def command() -> None:
    """Check a folder of benchmarks; show published figures."""


@command.command("check")
@click.argument("data_dir", metavar="DIR", default="embedded")
@plugin_option
@click.option("--benchmark", help="Benchmarks or sets (all, llava, vlm), separated by commas.  [default: those in DIR]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def check(context: click.Context, data_dir: str, benchmark: str | None, as_json: bool) -> None:
    """Count questions, labels and images of each benchmark in DIR against the official numbers.

    DIR is a LLaVA bundle's playground/data/eval, `embedded`, or `hf:` (Hugging Face datasets in the local
    cache, or in hf:FOLDER). Without --benchmark those are checked that DIR has a folder of; where it has none,
    the embedded ones. Says how to mend what is wrong; the exit code is 0 where all is there, else 2.
    """
    from headwise.benchmarks.bundles.check import check_benchmark, chosen_benchmarks, data_folder

    chosen = chosen_benchmarks(data_dir, benchmark)
    folder = data_folder(data_dir, chosen)
    checks = [check_benchmark(name, folder, _progress(name)) for name in chosen]
    good = not any(each.problems for each in checks)
    click.echo(json.dumps(_record(data_dir, checks, good), indent=2)) if as_json else _print(data_dir, checks)
    if not good:
        context.exit(2)


@command.command("published")
@click.argument("source", metavar="[FOLDER]", default="published")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def published(source: str, as_json: bool) -> None:
    """Print the published study's best cells and tables, holes shown as holes.

    FOLDER holds head_strategy_scores.csv and methods.csv; headwise brings them along.
    """
    from headwise.published.baseline import NO_CELLS, Baseline

    baseline = Baseline.read(source, NO_CELLS)
    click.echo(json.dumps(baseline.as_json())) if as_json else baseline.print(_output())


def _output() -> Console:
    """Standard output; wide where it is a file or a pipe, so that tables stay whole there."""
    from headwise.system.terminal import plain_console

    console = plain_console()
    return console if console.is_terminal else plain_console(width=200)


def _progress(name: str) -> Callable[[list[Path]], Iterable[Path]]:
    def track_images(paths: list[Path]) -> Iterable[Path]:
        from rich.progress import track

        from headwise.system.terminal import plain_console

        return track(paths, f"{name} images", console=plain_console(stderr=True), transient=True)

    return track_images


def _record(data_dir: str, checks: list[Check], good: bool) -> dict[str, object]:
    found = {}
    for each in checks:
        official = each.official or {}
        counts = {part: {"found": n, "official": official.get(part)} for part, n in each.found.items()}
        problems = [asdict(problem) for problem in each.problems]
        found[each.benchmark] = counts | {"problems": problems, "notes": each.notes}
    return {"data_dir": data_dir, "good": good, "benchmarks": found}


def _print(data_dir: str, checks: list[Check]) -> None:
    from rich.table import Table

    console = _output()
    table = Table("benchmark", "questions", "labels", "images", "", title=f"benchmarks in {data_dir}")
    for each in checks:
        counts = [_count(each, part) for part in ("questions", "labels", "images")]
        table.add_row(each.benchmark, *counts, _state(each))
    console.print(table)
    if any(each.embedded for each in checks):
        console.print("These are headwise's embedded benchmarks, with counts of their own.")
    for each in checks:
        for problem in each.problems:
            console.print(f"{each.benchmark}: {problem.what}", markup=False, highlight=False, soft_wrap=True)
            console.print(f"    fix: {problem.fix}", markup=False, highlight=False, soft_wrap=True)
        for note in each.notes:
            console.print(f"{each.benchmark}: note: {note}", markup=False, highlight=False, soft_wrap=True)


def _state(each: Check) -> Text:
    from rich.text import Text

    return Text("incomplete", style="red") if each.problems else Text("good", style="green")


def _count(each: Check, part: str) -> str:
    found = f"{each.found[part]:,}"
    return f"{found} of {each.official[part]:,}" if each.official and part in each.official else found
