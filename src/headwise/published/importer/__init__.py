"""Answers of the original study → ordinary cell runs, scored here.

    folders of answers ─► sources ─┐
    text logs ──────────► logs ────┴► runs ─► MLflow

What cannot be taken in as it stands (incomplete, answered twice, two versions of a cell, at odds with a
log) is reported as an Issue, never guessed.
"""

from headwise.published.importer.runs import ImportReport, import_tree
from headwise.published.importer.sources import Issue

__all__ = ["Issue", "ImportReport", "import_tree"]
