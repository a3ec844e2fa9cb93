"""The one bar of a study: questions answered of those to be answered now, their rate, and the time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class StudyBar:
    """A bar of `questions`, of which those that turn out to be answered already are taken off again."""

    def __init__(self, console: Console, questions: int) -> None:
        """Draw on `console` a bar of that many questions."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate()
        self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
        self._row = self._bar.add_task("answer", total=questions)
        self._total = questions

    def __enter__(self) -> StudyBar:
        """Start drawing."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Draw the last state and stop."""
        self._bar.stop()

    def fewer(self, questions: int) -> None:
        """So many of them need no answer."""
        self._total -= questions
        self._bar.update(self._row, total=self._total)

    def answered(self, questions: int, workers: int) -> None:
        """Advance by `questions`; say how many workers there are where there are several."""
        several = f" ({workers} workers)" if workers > 1 else ""
        self._bar.update(self._row, advance=questions, description=f"answer{several}")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, soft_wrap=True)


class _Rate(ProgressColumn):
    """Questions per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")
