"""Finished cell runs → what is known about them: tables, best sets, report (no torch).

    tracking ─► load_study ─► Comparison ─► tables, stats, plots ─► console, Markdown, CSV, MLflow

Everything downstream reads a `Comparison`: its `cells` (one row a cell run) and, for one benchmark at a
time, its `verdicts(benchmark)` (what every cell got right, question by question).
"""

from headwise.compare.comparison import Comparison, VerdictMatrix, load_study

__all__ = ["Comparison", "VerdictMatrix", "load_study"]
