"""Plug-in files: one Python file that adds methods, benchmarks or families of models to this process.

`--plugin my_method.py` loads one. So does the variable HEADWISE_PLUGINS (paths separated by `:`), which processes
that are started here inherit. Installed packages need neither: they have entry points (registry.py). The code of a
plug-in is run as it is, with all that the user may do.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from headwise.errors import ConfigError

VARIABLE = "HEADWISE_PLUGINS"
Taker = Callable[[ModuleType], int]

_modules: dict[Path, ModuleType] = {}
_takers: list[Taker] = []


def offer_to(take: Taker) -> None:
    """Have `take` called with each plug-in's module, those loaded already too; it returns how much it found there."""
    for module in list(_modules.values()):
        take(module)
    _takers.append(take)


def load(paths: Iterable[str | Path]) -> None:
    """Load plug-in files that are not loaded yet, and offer them to every registry there is.

    Raises ConfigError where a file cannot be read or imported, where its name is that of another plug-in, and where
    no registry finds anything in it.
    """
    for given in paths:
        path = Path(given).resolve()
        if path in _modules:
            continue
        module = _imported(path)
        if not sum(take(module) for take in _takers):
            raise ConfigError(f"plugin: {given} defines no named method, benchmark or family")
        _modules[path] = module
        os.environ[VARIABLE] = os.pathsep.join(map(str, _modules))


def load_environment() -> None:
    """Load the files that HEADWISE_PLUGINS names."""
    load([path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path])


def _imported(path: Path) -> ModuleType:
    # The name has no dot and is not headwise's: the digest of the code (versions.py) then follows this file alone.
    name = "plugin_" + re.sub(r"\W", "_", path.stem)
    if name in sys.modules:
        raise ConfigError(f"plugin: {path} has the name of another plug-in, {sys.modules[name].__file__}")
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"plugin: {path} is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does on import, the user is told where
        del sys.modules[name]
        reason = " ".join(str(error).split())
        raise ConfigError(f"plugin: {path} cannot be imported: {type(error).__name__}: {reason}") from error
    return module
