"""The one list of benchmarks. A new one is one file with one class, and its line here."""

from __future__ import annotations

from headwise.benchmarks.benchmark import Benchmark
from headwise.benchmarks.gqa import GQA
from headwise.benchmarks.mme import MME
from headwise.benchmarks.pope import POPE
from headwise.benchmarks.textvqa import TextVQA
from headwise.errors import ConfigError

BENCHMARKS: dict[str, Benchmark] = {each.name: each for each in (TextVQA(), MME(), GQA(), POPE())}


def benchmark(name: str) -> Benchmark:
    """The benchmark of that name; ConfigError names what is allowed."""
    if name not in BENCHMARKS:
        raise ConfigError(f"benchmark: {name!r} is not one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


__all__ = ["BENCHMARKS", "Benchmark", "benchmark"]
