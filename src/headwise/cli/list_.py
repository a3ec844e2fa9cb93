"""`headwise list`: what a study can name, plug-ins included. Nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from headwise.cli.options import plugin_option
from headwise.study import names

Row = dict[str, Any]


def _strategies() -> list[Row]:
    """Head strategies and controls."""
    strategies = [{"name": name, "role": "head strategy", "choices": "heads, tokens"} for name in _head_strategies()]
    controls = [{"name": name, "role": "control", "choices": _choices(name)} for name in names.CONTROLS]
    return [*strategies, *controls]


def _head_strategies() -> tuple[str, ...]:
    from headwise.methods import METHODS

    list(METHODS)  # entry points are loaded on first use; head strategies among them make their names known
    return names.head_strategies()


def _choices(name: str) -> str:
    found = {"heads": names.needs_heads(name), "tokens": names.needs_tokens(name), "seed": names.needs_seed(name)}
    return ", ".join(setting for setting, needed in found.items() if needed)


def _methods() -> list[Row]:
    """Pruning methods beside the head strategies."""
    from headwise.methods import METHODS, BeforeMethod

    return [
        {
            "name": name,
            "title": method.title,
            "prunes": "before the language model" if isinstance(method, BeforeMethod) else "inside the language model",
            "role": method.role,
            "version": method.version,
            "source": method.source,
        }
        for name, method in METHODS.items()
    ]


def _benchmarks() -> list[Row]:
    """Benchmarks and their other answer rules."""
    from headwise.benchmarks import BENCHMARKS

    return [
        {
            "name": name,
            "title": bench.title,
            "questions": bench.official.questions if bench.official else None,
            "unit": bench.unit,
            "sets": ", ".join(sorted(bench.sets)),
            "scorer": bench.scorer,
        }
        for name, bench in BENCHMARKS.items()
    ]


def _models() -> list[Row]:
    """Families of models, and those that are refused by name."""
    from headwise.models import FAMILIES, REFUSED

    driven = [
        {
            "name": name,
            "title": family.title,
            "model types": ", ".join(family.model_types),
            "decoders": ", ".join(family.text_types),
            "sees": family.sees,
            "image settings": ", ".join(f"{limit}={value}" for limit, value in family.options.items()),
            "prompt": family.prompt_version,
            "refused": None,
        }
        for name, family in FAMILIES.items()
    ]
    return driven + [{**dict.fromkeys(driven[0]), "name": name, "refused": why} for name, why in REFUSED.items()]


KINDS: dict[str, Callable[[], list[Row]]] = {
    "strategies": _strategies,
    "methods": _methods,
    "benchmarks": _benchmarks,
    "models": _models,
}


@click.command("list")
@click.argument("kind", type=click.Choice(list(KINDS)))
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def command(kind: str, as_json: bool) -> None:
    """Print what a study can name: `strategies`, `methods`, `benchmarks` or `models`, those of plug-ins included."""
    rows = KINDS[kind]()
    click.echo(json.dumps(rows, ensure_ascii=False)) if as_json else _print(kind, rows)


def _print(kind: str, rows: list[Row]) -> None:
    from rich.table import Table

    from headwise.system.terminal import plain_console

    console = plain_console()
    console = console if console.is_terminal else plain_console(width=200)
    table = Table(*rows[0], title=kind)
    for row in rows:
        table.add_row(*("-" if value is None or value == "" else str(value) for value in row.values()))
    console.print(table)
