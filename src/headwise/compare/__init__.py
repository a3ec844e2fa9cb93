"""Finished cell runs → what is known about them: tables, best sets, report (no torch).

    tracking ─► load_study ─► Comparison ─► tables, stats, plots ─► console, Markdown, CSV, MLflow

Everything downstream reads a `Comparison`: its `cells` (one row a cell run) and, for one benchmark at a
time, its `verdicts(benchmark)` (what every cell got right, question by question).
"""

from headwise.compare.analysis import Analysis, analyse
from headwise.compare.comparison import Comparison, load_study
from headwise.compare.study import compare_study
from headwise.compare.verdicts import VerdictMatrix

__all__ = ["Analysis", "Comparison", "VerdictMatrix", "analyse", "compare_study", "load_study"]
