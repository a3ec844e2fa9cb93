"""The options that every command running a study takes: the fields of its settings, and how it is run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import click

from headwise.benchmarks import default_names, named_sets
from headwise.methods import METHODS
from headwise.run.settings import StudySettings
from headwise.study import names, plugins

CONFIG = "YAML file of these settings, or the name of one that headwise brings along.  [default: default]"
OFFLINE = "Answer now without a tracking server; `headwise sync` logs it later."
DEVICES = "GPUs to use, such as 0,2, or cpu,cpu; several get one Ray worker each.  [default: as --device says]"
DEVICE_MAP = (
    "Spread a model too large for one device: auto, balanced, balanced_low_0, sequential.  [default: one device]"
)
PICKLE = "Read weights from pickle files (*.bin) too, which may execute arbitrary code."
ENGINE = "Answer in this process, or by workers of a Ray cluster.  [default: local; ray for several devices]"
WORKERS = "Ray: most workers at a time.  [default: the cluster's GPUs]"
ADDRESS = "Ray: the running cluster to use; without it one is started on this machine.  [default: none]"
PER_GPU = "Ray: workers that share a GPU.  [default: 1]"
DATA_ON_WORKERS = "Ray: workers read images from --data-dir on their own hosts, in place of being sent them."
# The options of how a study is spread (`run.executors.Scale`).
SCALE = ("engine", "workers", "address", "workers_per_gpu", "data_on_workers")
MORE = "More options in one string, as in `mlflow run . -P options='--layer 3 --offline'`.  [default: none]"
PLUGIN = "Python file that adds methods, benchmarks or families; runs its code (may be repeated)."
CHOICES = {
    "benchmark": (*default_names(), *named_sets(), "all"),
    "strategy": (*names.STRATEGIES, *names.CONTROLS, *METHODS, "all"),
    "controls": (*(name for name, method in METHODS.items() if method.role == "control"), *names.CONTROLS, "none"),
    "query": names.QUERIES,
}
# Flags that are not the setting's name: `--options` stands for any options in one string.
FLAGS = {"options": "--method-options"}
# What stands for a default that its value does not say.
DEFAULTS = {
    "ocr": "true",
    "benchmark": "published",
    "strategy": "all",
    "clip": "none",
    "options": "none",
    "limit": "all",
    "min_pixels": "the family's",
    "max_pixels": "the family's",
    "max_tiles": "the family's",
}


class StudyCommand(click.Command):
    """A command whose `--options` stands for the options in its value, at that place of the command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line after the value of `--options` was split into options."""
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
    return click.option("--options", "more", metavar="STRING", expose_value=False, help=MORE)(command)


def _load_plugins(_context: click.Context, _parameter: click.Parameter, paths: tuple[str, ...]) -> None:
    plugins.load_environment()
    plugins.load(paths)


def plugin_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--plugin`; the files are loaded before any other option is read, so that their names are known."""
    return click.option(
        "--plugin",
        metavar="FILE",
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=_load_plugins,
        help=PLUGIN,
    )(command)


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config, one option per field of the settings (None where it was not given), and how the study is run."""
    command = plugin_option(more_options(command))
    command = click.option("--allow-pickle", is_flag=True, help=PICKLE)(command)
    command = click.option("--device-map", metavar="NAME", help=DEVICE_MAP)(command)
    command = _scale_options(command)
    command = click.option("--devices", metavar="LIST", help=DEVICES)(command)
    command = click.option("--offline", is_flag=True, help=OFFLINE)(command)
    for name, field in reversed(StudySettings.model_fields.items()):
        flag = FLAGS.get(name, "--" + name.replace("_", "-"))
        command = click.option(flag, name, metavar=_metavar(name, field.annotation), help=_help(name, field))(command)
    return click.option("--config", "config_path", metavar="FILE", help=CONFIG)(command)


def _scale_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--data-on-workers", is_flag=True, help=DATA_ON_WORKERS)(command)
    command = click.option("--workers-per-gpu", type=int, metavar="N", help=PER_GPU)(command)
    command = click.option("--address", metavar="auto|HOST:PORT", help=ADDRESS)(command)
    command = click.option("--workers", type=int, metavar="N", help=WORKERS)(command)
    return click.option("--engine", type=click.Choice(["local", "ray"]), help=ENGINE)(command)


def scale_of(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of how a study is spread out of all options; what remains are its settings."""
    return {name: options.pop(name) for name in SCALE}


def _metavar(name: str, annotation: Any) -> str:
    """What a value looks like: the choices of a literal, N for a number, lists separated by commas."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if annotation is bool:
        return "true|false"
    if annotation == list[int | float]:
        return "N[,N...]"
    if annotation == list[str]:
        return "NAME[,NAME...]"
    if name == "options":
        return "METHOD.OPTION=VALUE[,...]"
    return "N" if int in (annotation, *get_args(annotation)) else "TEXT"


def _help(name: str, field: Any) -> str:
    """The field's description with its choices and its default; the configuration file may say otherwise."""
    choices = f" Choices: {', '.join(CHOICES[name])}." if name in CHOICES else ""
    default = DEFAULTS.get(name, field.default)
    shown = ",".join(map(str, default)) if isinstance(default, list) else default
    text = str(field.description)
    return f"{text[0].upper()}{text[1:]}.{choices}  [default: {shown}, or as --config says]"
