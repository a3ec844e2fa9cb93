"""The options that every command running a study takes; each is a field of `config.Study`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from headwise.config import Study


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and one option a field of the study; each is None where it was not given."""
    for name, field in reversed(Study.model_fields.items()):
        flag = "--" + name.replace("_", "-")
        command = click.option(flag, name, metavar="VALUE", help=field.description)(command)
    return click.option("--config", "config_path", metavar="FILE", help="YAML file of these settings")(command)
