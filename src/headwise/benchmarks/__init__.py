"""The registry of benchmarks: this package's files, other packages' entry points `headwise.benchmarks`, plug-ins.

Every concrete Benchmark subclass with its own `name` in such a file is registered. Nothing here needs torch.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from headwise.benchmarks.benchmark import Benchmark, Counts, Problem
from headwise.benchmarks.files import Grade, KeyedBenchmark, Truth
from headwise.errors import ConfigError
from headwise.study import plugins

GROUP = "headwise.benchmarks"
BENCHMARKS: dict[str, Benchmark] = {}


def register(found: ModuleType | type[Benchmark]) -> None:
    """Register a benchmark class, or all those of a module. ConfigError for a name that is already taken."""
    for each in _classes(found) if isinstance(found, ModuleType) else [found]:
        known = BENCHMARKS.get(each.name)
        if known and type(known) is not each:
            raise ConfigError(f"benchmark {each.name!r}: is defined in {_place(type(known))} and in {_place(each)}")
        BENCHMARKS[each.name] = each()
    ordered = sorted(BENCHMARKS.values(), key=lambda bench: (bench.rank, bench.name))
    BENCHMARKS.clear()
    BENCHMARKS.update({bench.name: bench for bench in ordered})


def _take(plugin: ModuleType) -> int:
    """Add the benchmarks of a plug-in file; how many there are."""
    found = list(_classes(plugin))
    for each in found:
        register(each)
    return len(found)


def _classes(module: ModuleType) -> Iterator[type[Benchmark]]:
    for each in vars(module).values():
        mine = inspect.isclass(each) and issubclass(each, Benchmark) and each.__module__ == module.__name__
        if mine and "name" in vars(each) and not inspect.isabstract(each):
            yield each


def _place(found: type[Benchmark]) -> str:
    return f"{found.__module__}.{found.__qualname__}"


def _discover(points: Iterable[EntryPoint]) -> None:
    for module in pkgutil.iter_modules(__path__):
        register(importlib.import_module(f"{__name__}.{module.name}"))
    for plugin in points:
        try:
            found = plugin.load()
        except Exception as error:  # another package's import may fail in any way; name the package
            raise ConfigError(f"plugin {plugin.name} ({plugin.value}): {type(error).__name__}: {error}") from error
        if not (isinstance(found, ModuleType) or (inspect.isclass(found) and issubclass(found, Benchmark))):
            raise ConfigError(
                f"plugin {plugin.name} ({plugin.value}): is neither a benchmark class nor a module of them"
            )
        register(found)


def benchmark(name: str) -> Benchmark:
    """The benchmark with this name or rule name; ConfigError lists the allowed names."""
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    for bench in BENCHMARKS.values():
        if bench.rule == name:
            return bench
    raise ConfigError(f"benchmark: {name!r} is not one of {', '.join(BENCHMARKS)}")


def default_names() -> list[str]:
    """Benchmarks with their default rules and prompts.

    Left out are other rules of one of them (a name with a full stop) and forms without OCR tokens (`ocr: false`).
    """
    without_ocr = {bench.without_ocr for bench in BENCHMARKS.values()}
    return [name for name in BENCHMARKS if "." not in name and name not in without_ocr]


def named_sets() -> dict[str, list[str]]:
    """Named sets of benchmarks, such as `llava`, as the benchmarks declare them."""
    sets: dict[str, list[str]] = {}
    for name, bench in BENCHMARKS.items():
        for each in bench.sets:
            sets.setdefault(each, []).append(name)
    return dict(sorted(sets.items()))


_discover(entry_points(group=GROUP))
plugins.offer_to(_take)

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Counts",
    "Grade",
    "KeyedBenchmark",
    "Problem",
    "Truth",
    "benchmark",
    "default_names",
    "named_sets",
    "register",
]
