"""The command line: a click group that loads a command's module when the command is used.

A user's mistake is one line on standard error and exit code 2; nothing here catches anything else.
"""

from __future__ import annotations

import gc
import importlib
import sys

import click

from headwise import __version__
from headwise.errors import HeadwiseError
from headwise.system import garbage
from headwise.system.redaction import without_secrets

COMMANDS = {
    "run": ("headwise.cli.run:command", "Evaluate, score and compare: the whole study."),
    "evaluate": ("headwise.cli.evaluate:command", "Answer every question under every cell of a grid."),
    "score": ("headwise.cli.score:command", "Score an answer file, or rescore finished runs."),
    "compare": ("headwise.cli.compare:command", "Best-configuration tables, statistics and report of finished runs."),
    "list": ("headwise.cli.list_:command", "Strategies, methods, benchmarks and models there are."),
    "data": ("headwise.cli.data:command", "Check a folder of benchmarks."),
    "check-model": ("headwise.cli.check_model:command", "Compare the engine with transformers' own forward."),
    "import": ("headwise.cli.import_:command", "Take in answers of the original study as runs."),
    "sync": ("headwise.cli.sync:command", "Upload what a tracking server did not take."),
    "reproduce": ("headwise.cli.reproduce:command", "Run a finished run again in its container and compare."),
}


class LazyGroup(click.Group):
    """Commands named in COMMANDS, imported on first use, so that --help and scoring never import torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their one-line descriptions, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headwise")
def headwise() -> None:
    """Which attention heads to trust when visual tokens are pruned."""


def main() -> None:
    """Run the command line; a HeadwiseError is printed as one line, exit code 2."""
    garbage.seldom()
    try:
        headwise(prog_name="headwise")
    except HeadwiseError as error:
        click.echo(f"headwise: {without_secrets(str(error))}", err=True)
        sys.exit(2)
    finally:
        gc.freeze()  # the process ends: looking through a million objects for garbage would take another second
