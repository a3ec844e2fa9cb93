"""The options that every command running a study takes: the fields of `config.Study`, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from headwise.run.settings import Study

CONFIG = "YAML file of these settings, or the name of one that headwise brings along.  [default: default]"
OFFLINE = "Answer now without a tracking server; `headwise sync` logs it later."
DEVICES = "GPUs to use, such as 0,2; several start a process each."
DEVICE_MAP = "Spread a model too large for one device: auto, balanced, balanced_low_0, sequential."
PICKLE = "Read weights from pickle files (*.bin) too, which can run code of whoever made them."


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config, one option a field of the study (None where it was not given), and how the study is run."""
    command = click.option("--allow-pickle", is_flag=True, help=PICKLE)(command)
    command = click.option("--device-map", metavar="NAME", help=DEVICE_MAP)(command)
    command = click.option("--devices", metavar="LIST", help=DEVICES)(command)
    command = click.option("--offline", is_flag=True, help=OFFLINE)(command)
    for name, field in reversed(Study.model_fields.items()):
        flag = "--" + name.replace("_", "-")
        command = click.option(flag, name, metavar="VALUE", help=field.description)(command)
    return click.option("--config", "config_path", metavar="FILE", help=CONFIG)(command)
