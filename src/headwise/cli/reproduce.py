"""`headwise reproduce`: a finished run again in its container."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from headwise.cli.options import plugin_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headwise.containers.reproduce import CellReport

SHOWN = 5


@click.command("reproduce")
@click.argument("run_id")
@plugin_option
@click.option("--data-dir", metavar="FOLDER", help="Where the run's benchmarks are now.  [default: as recorded]")
@click.option("--model", metavar="FOLDER", help="Where the run's checkpoint is now.  [default: as recorded]")
@click.option("--image", metavar="NAME", help="Image to run in.  [default: the recorded one, or one of its commit]")
@click.option("--gpus", metavar="all|none|0,2", help="GPUs of the container.  [default: as recorded]")
def command(run_id: str, data_dir: str | None, model: str | None, image: str | None, gpus: str | None) -> None:
    """Run the cell or study RUN_ID again in its container and compare answers and metrics.

    Exit code 0 where every answer and every metric (but measured times) is the same, 1 where not, 2 where it
    could not be run. Needs a Docker engine on this machine; nothing is written to the tracking server.
    """
    from headwise import tracking
    from headwise.containers.reproduce import find_original, run_again

    tracking.connect()
    original = find_original(run_id)
    click.echo(f"reproducing {len(original.cells)} cells of commit {original.commit}, GPUs {original.gpus}", err=True)
    if original.commit.endswith("-dirty"):
        click.echo("its working tree had changes that no commit holds: another image of that name may differ", err=True)
    where = {"data_dir": data_dir, "model": model, "image": image, "gpus": gpus}
    reports = list(run_again(original, sys.stderr.buffer, **where))
    _print(reports)
    if not all(report.same for report in reports):
        raise SystemExit(1)


def _print(reports: Sequence[CellReport]) -> None:
    from rich.table import Column, Table

    from headwise.system.terminal import plain_console

    table = Table(Column("cell", no_wrap=True), "identical answers", "equal metrics", "differ (before → now)")
    for report in reports:
        answers = f"{report.answers - len(report.differences):,} of {report.answers:,}"
        equal = f"{report.metrics_compared - len(report.metrics)} of {report.metrics_compared}"
        changed = ", ".join(f"{name} {_figure(a)} → {_figure(b)}" for name, (a, b) in report.metrics.items())
        table.add_row(report.name, answers, equal, changed)
    plain_console().print(table)
    for report in reports:
        _print_differences(report)
    same = sum(report.same for report in reports)
    verdict = "reproduced" if same == len(reports) else "NOT reproduced"
    compared = sum(report.answers for report in reports)
    click.echo(f"{verdict}: {same} of {len(reports)} cells are identical ({compared:,} answers compared)")


def _print_differences(report: CellReport) -> None:
    for difference in report.differences[:SHOWN]:
        question = difference.prompt.splitlines()[0]
        was, now = _answer(difference.before), _answer(difference.after)
        click.echo(f"{report.name}, question {difference.question_id} ({question}): {was} → {now}")
    if (more := len(report.differences) - SHOWN) > 0:
        click.echo(f"{report.name}: {more:,} more")


def _answer(text: str | None) -> str:
    return "no answer" if text is None else repr(text)


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
