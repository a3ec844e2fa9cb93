"""`headwise score`: an answer file, or finished runs once more."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headwise.benchmarks import BENCHMARKS
from headwise.cli.options import StudyCommand, more_options, plugin_option
from headwise.errors import ConfigError

if TYPE_CHECKING:
    from headwise.records import Scorecard


LATEST = "latest"
ANSWERS = "JSON Lines of question_id, prompt, text.  [default: none; finished runs are scored]"
BENCHMARK = f"Benchmark that the answers are for. Choices: {', '.join(BENCHMARKS)}.  [default: the runs' own]"


class _Limit(click.IntRange):
    """A number of questions, or `all` of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "all" else super().convert(value, param, ctx)


def _given(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """`none` is an option that was not given: MLproject's parameters always have a value."""
    return None if str(value) == "none" else value


@click.command("score", cls=StudyCommand)
@more_options
@plugin_option
@click.option("--answers", type=click.Path(path_type=Path), callback=_given, help=ANSWERS)
@click.option("--benchmark", callback=_given, metavar="NAME", help=BENCHMARK)
@click.option("--data-dir", callback=_given, help="Bundle with the labels.  [default: embedded, or the run's own]")
@click.option(
    "--limit",
    type=_Limit(min=1),
    help="Score the n questions that a study with this limit asks, or all.  [default: all]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (with --answers) or a list.")
@click.option("--study", help="Rescore every cell of this study (run id, or `latest`).  [default: latest]")
@click.option("--run", "run_ids", multiple=True, help="Rescore this cell (run id; may be repeated).")
@click.option("--log/--no-log", default=True, show_default=True, help="Write the new scores to the rescored runs.")
@click.option("--experiment", help="Rescore the newest study of this experiment.  [default: of any]")
def command(
    answers: Path | None,
    benchmark: str | None,
    data_dir: str | None,
    limit: int | None,
    as_json: bool,
    study: str | None,
    run_ids: tuple[str, ...],
    experiment: str | None,
    log: bool,
) -> None:
    """Score an answer file, or finished runs anew from their answers.

    With --answers nothing is logged. Without it the runs of --study, --run, or of the newest study are scored again
    and, unless --no-log, hold the new scores. `none` stands for an option that was not given.
    """
    if answers is None:
        if benchmark or limit:
            raise ConfigError("score: --benchmark and --limit go with --answers FILE")
        _runs(study, run_ids, experiment, data_dir, as_json, log)
    elif not benchmark:
        from headwise.benchmarks import BENCHMARKS

        raise ConfigError(f"score: --answers needs --benchmark, one of {', '.join(BENCHMARKS)}")
    elif study not in (None, LATEST) or run_ids or experiment:
        raise ConfigError("score: give either --answers or --study, --run, --experiment")
    else:
        _file(answers, benchmark, data_dir or "embedded", limit, as_json)


def _file(answers: Path, name: str, data_dir: str, limit: int | None, as_json: bool) -> None:
    from headwise import benchmarks
    from headwise.benchmarks.bundles.check import data_folder
    from headwise.scoring.score import as_record, score_answers

    benchmarks.benchmark(name)
    card, _ = score_answers(name, data_folder(data_dir, [name]), answers, limit)
    if as_json:
        click.echo(json.dumps(as_record(card)))
        return
    from rich.table import Table

    from headwise.system.terminal import plain_console

    table = Table("figure", "value", title=f"{answers.name} on {benchmarks.benchmark(name).title}")
    for figure, value in as_record(card).items():
        table.add_row(figure, f"{value:.2f}" if isinstance(value, float) else str(value))
    plain_console().print(table)


def _runs(
    study: str | None,
    run_ids: tuple[str, ...],
    experiment: str | None,
    data_dir: str | None,
    as_json: bool,
    log: bool,
) -> None:
    from headwise import tracking
    from headwise.run.rescore import rescore

    uri = tracking.connect()
    if not run_ids:
        study = tracking.latest_study(experiment) if study in (None, LATEST) else study
    found = tracking.find_cells(study=study, run_ids=run_ids, include_incomplete=True)
    cells = [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]
    cards = _with_progress(rescore(cells, data_dir, log), len(cells))
    _print_runs(cells, cards, as_json)
    for experiment_id in dict.fromkeys(str(cell["experiment_id"]) for cell in cells):
        where = tracking.runs_url(uri, experiment_id, study=study)
        click.echo(f"logged to these runs: {where}" if log else f"not logged (--no-log); the runs: {where}", err=True)


def _with_progress(rescored: Iterable[tuple[str, Scorecard]], total: int) -> dict[str, Scorecard]:
    from rich.progress import track

    from headwise.system.terminal import plain_console

    return dict(track(rescored, "scoring", total=total, console=plain_console(stderr=True)))


def _print_runs(cells: list[dict[str, Any]], cards: dict[str, Scorecard], as_json: bool) -> None:
    from headwise.run.rescore import contradicted
    from headwise.scoring.score import as_record

    against = {cell["run_id"] for cell in cells if contradicted(cell, cards[cell["run_id"]])}
    if as_json:
        rows = [{"run_id": run_id} | as_record(card) for run_id, card in cards.items()]
        for row in rows:
            row["complete"] = bool(row["complete"]) and row["run_id"] not in against
        click.echo(json.dumps(rows))
        return
    from rich.table import Table

    from headwise.system.terminal import plain_console

    table = Table("run", "was", "is", "complete", title="rescored runs")
    for cell in cells:
        card = cards[cell["run_id"]]
        whole = "contradicted" if cell["run_id"] in against else "yes" if card.complete else "no"
        table.add_row(cell["run_name"], _figure(cell.get("score")), _figure(card.score), whole)
    plain_console().print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"
