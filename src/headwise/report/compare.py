"""From cell runs to a comparison in MLflow and on the console."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from headwise import tracking
from headwise.analysis.analyse import OVERALL, Analysis, analyse
from headwise.analysis.comparison import Comparison, load_comparison
from headwise.report.text import markdown, print_analysis
from headwise.system.terminal import plain_console

# Runs that the UI's compare page shows at once; of a larger best set the best ones are linked.
SIDE_BY_SIDE = 10
# Cells beyond which pictures take longer to draw than they are legible.
DRAWN = 1000
# Tables logged as MLflow tables; every table is a CSV file.
SHOWN_IN_UI = ("best_", "recommendation", "wins")


def compare_study(study: tracking.StudyRun, console: Console) -> None:
    """Compare the cells of a study that is still open, as `headwise run` ends; tables go to standard output.

    A study without a complete cell is no error here: its cells are logged, and the console says so.
    """
    try:
        comparison = load_comparison(study=study.run_id)
    except tracking.NothingFound as nothing:
        console.print(f"nothing to compare: {nothing}")
        return
    with console.status("comparing"):
        analysis = analyse(comparison)
    print_analysis(analysis, output())
    publish(analysis, study.uri, console)


def publish(analysis: Analysis, uri: str, console: Console, report: bool | None = None) -> str:
    """Log the comparison as a run of its own, print where it is, and return its run id.

    `report` None draws report.html and the figures of at most DRAWN cells, and says so where it does not.
    """
    comparison = analysis.comparison
    found = links(analysis, uri)
    if report is None and not (report := len(comparison.cells) <= DRAWN):
        console.print(f"{len(comparison.cells)} cells: the report is drawn of at most {DRAWN}, or with --report")
    with tempfile.TemporaryDirectory() as folder:
        evidence: dict[str, pd.DataFrame] = {}
        figures: dict[str, Any] = {}
        if report:
            from headwise.report.publish import write_report  # matplotlib is loaded where something is drawn

            with console.status("drawing the report"):
                drawn = write_report(analysis, Path(folder), run_links=_run_links(comparison, uri), links=found)
            evidence, figures = drawn.tables, drawn.figures
        run_id = tracking.log_compare(
            comparison.experiment_id,
            study=comparison.study,
            tables=analysis.tables | evidence,
            in_ui=[name for name in analysis.tables if name.startswith(SHOWN_IN_UI)],
            markdown=markdown(analysis, found),
            figures=figures,
            files=Path(folder),
            metrics=_figures(analysis),
        )
    found["this comparison"] = tracking.run_url(uri, comparison.experiment_id, run_id)
    for name, url in found.items():
        console.print(f"{name}: {url}", soft_wrap=True, highlight=False)
    if hint := tracking.ui_hint(uri):
        console.print(f"(start the MLflow UI with: {hint})", soft_wrap=True, highlight=False)
    return run_id


def _figures(analysis: Analysis) -> dict[str, float]:
    """What the runs table shows of a comparison: each benchmark's best score and the size of its best set."""
    known = {name: part for name, part in analysis.all_findings.items() if not part.pruned.empty}
    best = {f"best/{name}": float(part.best["score"]) for name, part in known.items()}
    return best | {f"best_set/{name}": float(len(part.best_set())) for name, part in known.items()}


def _run_links(comparison: Comparison, uri: str) -> dict[str, str]:
    return {run: tracking.run_url(uri, comparison.experiment_id, run) for run in comparison.cells["run_id"]}


def links(analysis: Analysis, uri: str) -> dict[str, str]:
    """Pages of the MLflow UI: the runs that were compared, and each best set side by side."""
    comparison: Comparison = analysis.comparison
    found = {"runs compared": tracking.runs_url(uri, comparison.experiment_id, study=comparison.study)}
    for name, part in analysis.findings.items():
        members = part.best_set()["run_id"].tolist()[:SIDE_BY_SIDE]
        if len(members) > 1:
            found[f"best set of {name}"] = tracking.compare_url(uri, comparison.experiment_id, members)
    return found


def output() -> Console:
    """Standard output; wide where it is a file or a pipe, so that tables stay whole there."""
    console = plain_console()
    return console if console.is_terminal else plain_console(width=200)


__all__ = ["OVERALL", "compare_study", "links", "output", "publish"]
