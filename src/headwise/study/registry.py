"""Registry of methods, model families and benchmarks of headwise and its plug-ins.

Nothing is listed by hand. Every module of the package is imported and its classes are collected; other installed
packages add theirs by an entry point, a single file by `--plugin` (plugins.py). The modules are imported to learn
their names, so they import torch inside their functions; a module whose name starts with `_`, or a package inside,
holds helpers and is not looked at.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from types import ModuleType
from typing import Generic, TypeVar

from headwise.errors import ConfigError
from headwise.study import plugins

Base = TypeVar("Base")
NAME = re.compile(r"[A-Za-z0-9][\w.+@-]*")


class Registry(Mapping[str, Base], Generic[Base]):
    """The concrete subclasses of `base`, one instance per name.

    Args:
        kind: what one entry is called in error messages, such as `method`.
        base: the class that entries derive from. An entry has a class attribute `name`, which is not empty.
        package: the package whose modules are searched, such as `headwise.methods`.
        apart: modules of the package that are not looked at either.
        group: the entry point group of other installed packages; the value is a subclass of `base` or a module of them.

        reserved: names that no entry may have.

    Looking up an unknown name raises ConfigError that lists the known ones. So does, on first use, a name that
    two classes claim, and an entry point that cannot be loaded.
    """

    def __init__(
        self,
        kind: str,
        base: type[Base],
        package: str,
        group: str,
        apart: Collection[str] = (),
        *,
        reserved: Sequence[str] = (),
    ) -> None:
        """Nothing is imported yet.

        Args:
            kind: what one entry is called in errors.
            base: class of which every entry is a concrete subclass.
            package: package whose modules are searched.
            group: entry-point group of other installed packages.
            apart: modules of the package that hold no entries.
            reserved: names that an entry of another package may not have.
        """
        self.kind, self.base, self.package, self.group = kind, base, package, group
        self.apart, self.reserved = apart, reserved
        self._plugins: list[ModuleType] = []
        plugins.offer_to(self.add)

    def __getitem__(self, name: str) -> Base:
        """The entry of that name. ConfigError, which lists all names, where there is none."""
        if name not in self._found:
            raise ConfigError(f"{self.kind}: {name!r} is not one of {', '.join(self._found)}")
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        """Names, in order of registration."""
        return iter(self._found)

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._found)

    def __contains__(self, name: object) -> bool:  # Mapping's own expects KeyError
        """Whether there is an entry of that name."""
        return name in self._found

    def add(self, plugin: ModuleType) -> int:
        """Take in the entries that a plug-in's module defines; how many there are. ConfigError for a name in use."""
        found = list(self._classes(plugin))
        for one in found:
            if (name := self._name(one)) in self._found:
                self._clash(type(self._found[name]), one)
        self._plugins.append(plugin)
        self.__dict__.pop("_found", None)
        return len(found)

    def _name(self, found: type[Base]) -> str:
        """The class's name, which a list separated by commas can hold. ConfigError where it cannot, or is reserved."""
        name = found.name  # type: ignore[attr-defined]
        if not NAME.fullmatch(name):
            raise ConfigError(f"{self.kind}: {name!r} of {_path(found)} may hold letters, digits and . _ + @ - only")
        if name in self.reserved:
            raise ConfigError(f"{self.kind}: {name!r} of {_path(found)} is a name of headwise's own")
        return str(name)

    def _clash(self, known: type[Base], found: type[Base]) -> None:
        name = found.name  # type: ignore[attr-defined]
        raise ConfigError(f"{self.kind}: {name!r} is the name of two classes, {_path(known)} and {_path(found)}")

    @cached_property
    def _found(self) -> dict[str, Base]:
        """Instances by name, in alphabetical order."""
        classes: dict[str, type[Base]] = {}
        for found in [*self._of_package(), *self._of_plugins()]:
            name = self._name(found)
            if classes.setdefault(name, found) is not found:
                self._clash(classes[name], found)
        return {name: classes[name]() for name in sorted(classes)}

    def _of_package(self) -> Iterator[type[Base]]:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__, f"{self.package}."):
            name = module.name.rpartition(".")[2]
            if not module.ispkg and not name.startswith("_") and name not in self.apart:
                yield from self._classes(importlib.import_module(module.name))

    def _of_plugins(self) -> Iterator[type[Base]]:
        for point in entry_points(group=self.group):
            try:
                found = point.load()
            except Exception as error:  # whatever another package does on import, the user is told which one
                reason = " ".join(str(error).split())
                raise ConfigError(
                    f"{self.kind}: entry point {point.name!r} ({point.value}) cannot be loaded: {reason}"
                ) from error
            classes = list(self._classes(found)) if isinstance(found, ModuleType) else [found]
            if not classes or not all(self._is_entry(one) for one in classes):
                raise ConfigError(
                    f"{self.kind}: entry point {point.name!r} ({point.value}) is not a named {self.base.__name__}"
                )
            yield from classes
        for plugin in self._plugins:
            yield from self._classes(plugin)

    def _classes(self, module: ModuleType) -> Iterator[type[Base]]:
        """Entries defined in the module itself, without those it imports."""
        for found in vars(module).values():
            if self._is_entry(found) and found.__module__ == module.__name__:
                yield found

    def _is_entry(self, found: object) -> bool:
        return (
            isinstance(found, type)
            and issubclass(found, self.base)
            and not inspect.isabstract(found)
            and bool(getattr(found, "name", ""))
        )


def _path(found: type) -> str:
    return f"{found.__module__}.{found.__qualname__}"
