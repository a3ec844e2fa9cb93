"""The options that every command running a study takes: the fields of its settings, and how it is run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import click

from headwise.benchmarks import default_names, named_sets
from headwise.methods import METHODS
from headwise.run.settings import StudySettings
from headwise.study import names

CONFIG = "YAML file of these settings, or the name of one that headwise brings along.  [default: default]"
OFFLINE = "Answer now without a tracking server; `headwise sync` logs it later."
DEVICES = "GPUs to use, such as 0,2; several start a process each."
DEVICE_MAP = "Spread a model too large for one device: auto, balanced, balanced_low_0, sequential."
PICKLE = "Read weights from pickle files (*.bin) too, which may execute arbitrary code."
MORE = "More options in one string, as in `mlflow run . -P options='--layer 3 --offline'`."
CHOICES = {
    "benchmark": (*default_names(), *named_sets(), "all"),
    "strategy": (*names.STRATEGIES, *names.CONTROLS, *METHODS, "all"),
    "controls": (*names.CONTROLS, "none"),
}
ALL_BY_DEFAULT = {"benchmark": "published", "strategy": "all"}


class StudyCommand(click.Command):
    """A command whose `--options` stands for the options in its value, at that place of the command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _expanded(args))


def _expanded(args: list[str]) -> list[str]:
    words: list[str] = []
    rest = iter(args)
    for word in rest:
        flag, joined, value = word.partition("=")
        if flag != "--options":
            words.append(word)
            continue
        try:
            words += shlex.split(value if joined else next(rest, ""))
        except ValueError as error:
            raise click.UsageError(f"--options: {value or 'the value'!r} has an open quote ({error})") from error
    return words


def more_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--options`, which StudyCommand replaces by what it holds before anything is parsed."""
    return click.option("--options", metavar="STRING", expose_value=False, help=MORE)(command)


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config, one option per field of the settings (None where it was not given), and how the study is run."""
    command = more_options(command)
    command = click.option("--allow-pickle", is_flag=True, help=PICKLE)(command)
    command = click.option("--device-map", metavar="NAME", help=DEVICE_MAP)(command)
    command = click.option("--devices", metavar="LIST", help=DEVICES)(command)
    command = click.option("--offline", is_flag=True, help=OFFLINE)(command)
    for name, field in reversed(StudySettings.model_fields.items()):
        flag = "--" + name.replace("_", "-")
        command = click.option(flag, name, metavar=_metavar(field.annotation), help=_help(name, field))(command)
    return click.option("--config", "config_path", metavar="FILE", help=CONFIG)(command)


def _metavar(annotation: Any) -> str:
    """What a value looks like: the choices of a literal, N for a number, lists separated by commas."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if annotation == list[int | float]:
        return "N[,N...]"
    if annotation == list[str]:
        return "NAME[,NAME...]"
    return "N" if int in (annotation, *get_args(annotation)) else "TEXT"


def _help(name: str, field: Any) -> str:
    """The field's description with its choices and its default; the configuration file may say otherwise."""
    choices = f" Choices: {', '.join(CHOICES[name])}." if name in CHOICES else ""
    default = ALL_BY_DEFAULT.get(name) or ("all" if field.default is None else field.default)
    shown = ",".join(map(str, default)) if isinstance(default, list) else default
    text = str(field.description)
    return f"{text[0].upper()}{text[1:]}.{choices}  [default: {shown}, or as --config says]"
