"""The console that all commands print to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(**options: Any) -> Console:
    """A rich console without markup and emoji codes: `[b]` or `:cat:` in a path are printed literally.

    For styled output, pass a `rich.text.Text` or a `style`.
    """
    from rich.console import Console

    return Console(markup=False, emoji=False, **options)
