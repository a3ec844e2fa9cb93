"""`headwise import`: answers of the original study as runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from headwise.published.importer import ImportReport
    from headwise.published.importer.sources import Source


@click.command("import")
@click.argument("answers_dir", metavar="ANSWERS_DIR", type=click.Path(path_type=Path))
@click.option("--data-dir", help="Bundle with the labels (MME's own tables carry theirs).  [default: none]")
@click.option("--experiment", help="MLflow experiment to log to.  [default: MLFLOW_EXPERIMENT_NAME or headwise]")
@click.option("--model", default="llava-v1.5-7b", show_default=True, help="Checkpoint, where no folder names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(answers_dir: Path, data_dir: str | None, experiment: str | None, model: str, as_json: bool) -> None:
    """Take in answers of the original study as cell runs, scored here.

    ANSWERS_DIR holds folders vtn_<tokens>_<heads>_<strategy> with merge.jsonl (or its chunks 8_0.jsonl …) or
    MME's <category>.txt, at any depth, and perhaps text logs. A cell that is there already is left alone.
    What is incomplete, doubled or at odds with a log is reported.
    """
    from headwise.published.importer import import_tree

    report = import_tree(
        answers_dir.resolve(), data_dir=data_dir, experiment=experiment, model=model, progress=_progress
    )
    click.echo(json.dumps(_record(report))) if as_json else _print(report)


def _progress(sources: Sequence[Source]) -> Iterable[Source]:
    from rich.progress import track

    from headwise.system.terminal import plain_console

    return track(sources, "importing", console=plain_console(stderr=True), transient=True)


def _record(report: ImportReport) -> dict[str, object]:
    return {
        "study": report.study,
        "logged": [asdict(cell) | {"score": card.score, "complete": card.complete} for cell, card in report.logged],
        "present": report.present,
        "issues": [asdict(issue) for issue in report.issues],
    }


def _print(report: ImportReport) -> None:
    from rich.table import Table

    from headwise.system.terminal import plain_console

    console = plain_console()
    if report.logged:
        table = Table("cell", "score", "samples", "missing", "unparsed", title=f"imported into study {report.study}")
        for cell, card in report.logged:
            score = "-" if card.score is None else f"{card.score:.2f}"
            table.add_row(cell.name, score, str(card.samples), str(card.missing + card.failed), str(card.unparsed))
        console.print(table)
    console.print(f"{len(report.logged)} cells logged, {len(report.present)} there before, {len(report.issues)} issues")
    for issue in report.issues:
        console.print(f"  {issue.where}: {issue.what}", markup=False, highlight=False, soft_wrap=True)
