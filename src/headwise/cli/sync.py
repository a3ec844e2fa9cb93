"""`headwise sync`: log what a tracking server did not take."""

from __future__ import annotations

import sys

import click

from headwise.cli.options import plugin_option


@click.command("sync")
@plugin_option
@click.option("--forget", is_flag=True, help="Drop studies that can no longer be uploaded (their answers stay).")
def command(forget: bool) -> None:
    """Score and log the studies of this folder that are answered but not logged.

    Cells that were logged already are left as they are, so that it can be repeated. Exit code 1 where a
    study is left over.
    """
    from headwise import tracking
    from headwise.report.compare import compare_study
    from headwise.run.lifecycle import sync_note
    from headwise.system.terminal import plain_console
    from headwise.tracking.pending import forget_unreadable, open_notes

    console = plain_console(stderr=True)
    if forget:
        for reason in forget_unreadable():
            console.print(f"{reason}: forgotten, its answers stay in the spool", soft_wrap=True)
    notes = open_notes()
    if not notes:
        console.print("nothing to upload: every study begun in this folder is logged")
        return
    tracking.connect()
    left = sum(not sync_note(note, console, compare_study, forget) for note in notes)
    sys.exit(1 if left else 0)
