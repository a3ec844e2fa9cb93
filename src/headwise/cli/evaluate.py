"""`headwise evaluate`: answers, scores and cell runs of a grid."""

from __future__ import annotations

from typing import Any

import click

from headwise.cli.options import StudyCommand, scale_of, study_options


@click.command("evaluate", cls=StudyCommand)
@study_options
@click.option("--plan", "planning", is_flag=True, help="Print what the study will cost, and answer nothing.")
def command(
    planning: bool,
    config_path: str | None,
    offline: bool,
    devices: str | None,
    device_map: str | None,
    allow_pickle: bool,
    **settings: Any,
) -> None:
    """Answer every question under every cell of a grid, score it, and log each cell as a run.

    Lists are separated by commas; `all` stands for all of them, `config` for what the file says.
    """
    from headwise.cli.studies import print_plan, run_study

    scale = scale_of(settings)
    if planning:
        return print_plan(config_path, settings, devices, device_map, allow_pickle)
    return run_study(config_path, settings, False, offline, devices, device_map, allow_pickle, scale)
