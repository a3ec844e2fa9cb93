"""Plug-in files: one Python file that adds methods, benchmarks or families of models to this process.

`--plugin my_method.py` loads one. So does the variable HEADWISE_PLUGINS (paths separated by `:`), which processes
that are started here inherit; processes on other hosts are sent the files' content (`sources`). Installed packages
need neither: they have entry points (registry.py). The code of a plug-in is run as it is, with all that the user may
do.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType

from headwise.errors import ConfigError

VARIABLE = "HEADWISE_PLUGINS"
Taker = Callable[[ModuleType], int]

_modules: dict[Path, ModuleType] = {}
_sources: dict[Path, bytes] = {}
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
        if path not in _modules:
            _load(path, _content(path), given)


def sources() -> dict[Path, bytes]:
    """The files of all plug-ins that are loaded here, as they were then."""
    return dict(_sources)


def load_sources(sent: Mapping[Path, bytes]) -> None:
    """Load plug-ins by their content: what another process has loaded, whether its files are on this host or not.

    ConfigError as for `load`.
    """
    for path, content in sent.items():
        if path not in _modules:
            _load(path, content, path)


def _load(path: Path, content: bytes, given: str | Path) -> None:
    module = _imported(path, content)
    if not sum(take(module) for take in _takers):
        raise ConfigError(f"plugin: {given} defines no named method, benchmark or family")
    _modules[path], _sources[path] = module, content
    os.environ[VARIABLE] = os.pathsep.join(map(str, _modules))


def load_environment() -> None:
    """Load the files that HEADWISE_PLUGINS names."""
    load([path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path])


def _content(path: Path) -> bytes:
    if path.suffix != ".py":
        raise ConfigError(f"plugin: {path} is not a Python file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"plugin: {path} is not a Python file") from error


class _Loader(importlib.abc.SourceLoader):
    """Imports what was read already; `inspect` finds the source here, too, on a host that lacks the file."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.content = str(path), content

    def get_filename(self, fullname: str) -> str:
        return self.path

    def get_data(self, path: str | bytes) -> bytes:
        if path != self.path:
            raise OSError(f"{path!r} is not {self.path}")  # no cache of bytecode beside the file
        return self.content


def _imported(path: Path, content: bytes) -> ModuleType:
    # The name has no dot and is not headwise's: the digest of the code (versions.py) then follows this file alone.
    name = "plugin_" + re.sub(r"\W", "_", path.stem)
    if name in sys.modules:
        raise ConfigError(f"plugin: {path} has the name of another plug-in, {sys.modules[name].__file__}")
    loader = _Loader(path, content)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
    except Exception as error:  # whatever the file does on import, the user is told where
        del sys.modules[name]
        reason = " ".join(str(error).split())
        raise ConfigError(f"plugin: {path} cannot be imported: {type(error).__name__}: {reason}") from error
    return module
