"""`headwise compare`: what is known about finished cells."""

from __future__ import annotations

import json

import click

from headwise.cli.options import StudyCommand, more_options, plugin_option
from headwise.errors import ConfigError

EXPERIMENT = "Compare every finished cell of this experiment (with --study: look there).  [default: of any]"
AGAINST = "Show differences to the published figures, or to a folder of that form."


@click.command("compare", cls=StudyCommand)
@more_options
@plugin_option
@click.option("--study", help="Compare the cells of this study (run id, or `latest`).  [default: latest]")
@click.option("--experiment", help=EXPERIMENT)
@click.option("--run", "run_ids", multiple=True, help="Compare this cell (run id; may be repeated).")
@click.option("--include-incomplete", is_flag=True, help="Take in cells that lack answers or are contradicted.")
@click.option("--against", default="none", show_default=True, metavar="none|published|FOLDER", help=AGAINST)
@click.option("--report/--no-report", default=None, help="Draw the report.  [default: of up to 1,000 cells]")
@click.option("--log/--no-log", "log", default=True, show_default=True, help="Log the comparison as a run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    study: str | None,
    experiment: str | None,
    run_ids: tuple[str, ...],
    include_incomplete: bool,
    against: str,
    report: bool | None,
    log: bool,
    as_json: bool,
) -> None:
    """Best-configuration tables, the best sets and what is significant, from finished cell runs."""
    if run_ids and (study or experiment):
        raise ConfigError("compare: give either --run or --study and --experiment")
    if report and not log:
        raise ConfigError("compare: --report is logged with the comparison; leave out --no-log")
    from headwise import tracking
    from headwise.analysis.analyse import analyse
    from headwise.analysis.comparison import load_comparison
    from headwise.published.baseline import Baseline
    from headwise.report.as_json import as_json as as_object
    from headwise.report.compare import output, publish
    from headwise.report.text import print_analysis
    from headwise.system.terminal import plain_console

    uri, progress = tracking.connect(), plain_console(stderr=True)
    with progress.status("comparing"):
        comparison = load_comparison(
            study=study, experiment=experiment, run_ids=run_ids, include_incomplete=include_incomplete
        )
        analysis = analyse(comparison)
    baseline = None if against == "none" else Baseline.read(against, comparison.cells)
    if baseline:
        analysis.tables.update(baseline.tables())
    if not as_json:
        print_analysis(analysis, output())
        if baseline:
            baseline.print(output())
    run_id = publish(analysis, uri, progress, report) if log else None
    if as_json:
        found = as_object(analysis, run_id)
        click.echo(json.dumps(found | ({"against": baseline.as_json()} if baseline else {})))
