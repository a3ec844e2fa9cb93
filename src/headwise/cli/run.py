"""`headwise run`: evaluate, score and compare."""

from __future__ import annotations

from typing import Any

import click

from headwise.cli.options import StudyCommand, scale_of, study_options


@click.command("run", cls=StudyCommand)
@study_options
def command(
    config_path: str | None,
    offline: bool,
    devices: str | None,
    device_map: str | None,
    allow_pickle: bool,
    **settings: Any,
) -> None:
    """Run a whole study: answer, score and log every cell, then compare them.

    Lists are separated by commas; `all` stands for all of them, `config` for what the file says.
    """
    from headwise.cli.studies import run_study

    scale = scale_of(settings)
    run_study(config_path, settings, True, offline, devices, device_map, allow_pickle, scale)
