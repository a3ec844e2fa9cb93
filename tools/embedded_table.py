"""The table of strategies on the embedded study, with the commit, machine, limit and command it came from.

    headwise evaluate --heads 8 && headwise compare --json --no-report > compare.json
    python tools/embedded_table.py compare.json --page docs/embedded-strategies.md

Reads what compare found and, from the tracking store, the runs it found it in. Nothing in it is typed by hand.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from headwise import tracking
from headwise.benchmarks import BENCHMARKS
from headwise.run.settings import load_settings
from headwise.study.names import CONTROLS
from headwise.system.packaged import DEFAULT, study_file

Cell = dict[str, Any]
VERSIONS, CONFIG = "versions.json", "config.yaml"
INTRODUCTION = """\
# Head strategies on the embedded study

This page is made by `make tables`; run it again rather than change the page.

T is the number of visual tokens kept above layer 2 (`budget=kept`). Scores with 95 % intervals (bootstrap over images);
MME is out of 1,400; the last column is the mean over the benchmarks of percent of the unpruned model.
"""


def table(found: dict[str, Any]) -> str:
    """One row per strategy, budget and number of heads, scores with their 95 % intervals; unpruned first."""
    parts = {BENCHMARKS[name].title: part["cells"] for name, part in found["benchmarks"].items()}
    if found["overall"]:
        parts["mean, % of unpruned"] = found["overall"]["cells"]
    keys = {_key(cell) for part in parts.values() for cell in part}
    lines = [f"| tokens | heads | strategy | {' | '.join(parts)} |", "|---|---|---" + "|--:" * len(parts) + "|"]
    for key in sorted(keys, key=_order):
        tokens, heads, strategy = key
        scores = [_score([cell for cell in part if _key(cell) == key]) for part in parts.values()]
        lines.append(f"| {tokens or 'all'} | {heads or ''} | {strategy} | {' | '.join(scores)} |")
    return "\n".join(lines)


def _key(cell: Cell) -> tuple[int | None, int | None, str]:
    return cell["tokens"], cell["heads"], cell["strategy"]


def _order(key: tuple[int | None, int | None, str]) -> tuple[float, bool, str, int]:
    tokens, heads, strategy = key
    return -(tokens or float("inf")), strategy in CONTROLS, strategy, -(heads or 0)


def _score(cells: Sequence[Cell]) -> str:
    """The cell's score and interval; `·` where it was not run."""
    if len(cells) > 1:
        raise click.ClickException(f"{len(cells)} cells are {_key(cells[0])}; compare one study, of one model")
    if not cells or cells[0]["score"] is None:
        return "·"
    values = [cells[0][name] for name in ("score", "low", "high")]
    digits = 0 if values[0] > 100 else 1
    score, *interval = (None if value is None else f"{value:.{digits}f}" for value in values)
    return str(score) if None in interval or values[1] == values[2] else f"{score} ({interval[0]} to {interval[1]})"


def caption(found: dict[str, Any]) -> str:
    """Commit, machine, number of questions and command of the runs that the table is of."""
    runs = [cell["run_id"] for part in found["benchmarks"].values() for cell in part["cells"]]
    tracking.connect()
    rows = tracking.find_cells(run_ids=runs).to_dict("records")
    files = [tracking.download(row["run_id"], VERSIONS, row["artifact_uri"]) for row in rows]
    versions = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    settings = yaml.safe_load(tracking.download(rows[0]["run_id"], CONFIG, rows[0]["artifact_uri"]).read_text("utf-8"))
    commits = _each(version["commit"] for version in versions)
    machines = _each(row.get("tags.headwise.measured_on") or "machine unknown" for row in rows)
    libraries = _each(f"torch {version['torch']}" for version in versions)
    questions = "all questions" if settings["limit"] is None else f"{settings['limit']} questions of each benchmark"
    return f"*{questions}; commit {commits}; {machines}; {libraries}; `{command(settings)}`*"


def _each(values: Any) -> str:
    return " and ".join(sorted(set(map(str, values))))


def command(settings: dict[str, Any]) -> str:
    """The command that runs these settings: what differs from the default study, as options."""
    default = load_settings(study_file(DEFAULT), {}).model_dump()
    given = {name: settings[name] for name, value in default.items() if settings.get(name, value) != value}
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", _word(value))]
    return shlex.join(["headwise", "evaluate", *words])


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "all" if value is None else str(value)


@click.command()
@click.argument("compared", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--page", type=click.Path(path_type=Path), help="Write it there, as a page, rather than print it.")
def main(compared: Path, page: Path | None) -> None:
    """The table of COMPARED (what `headwise compare --json` printed) and its caption, in Markdown."""
    found = json.loads(compared.read_text(encoding="utf-8"))
    text = f"{table(found)}\n\n{caption(found)}\n"
    if page is None:
        click.echo(text, nl=False)
    else:
        page.write_text(f"{INTRODUCTION}\n{text}", encoding="utf-8")
        click.echo(f"written: {page}")


if __name__ == "__main__":
    main()
