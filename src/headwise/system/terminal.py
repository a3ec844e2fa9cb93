"""The console that every command prints on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(**options: Any) -> Console:
    """A rich console that prints text as it is: `[b]` or `:cat:` in a path are characters, neither style nor picture.

    What is to be styled is a `rich.text.Text`, or has its style beside it.
    """
    from rich.console import Console

    return Console(markup=False, emoji=False, **options)
