"""Versions and source digests of code, so that results of changed code are never reused.

Code that makes answers (engine, prompt, each strategy and control) and code that scores them carries a version,
which is part of the fingerprint of answers and verdicts. For this package a test ties versions to the code
(`tests/versions.py`); for units of other packages the source digest is part of the fingerprint, too.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

PACKAGE = __name__.split(".")[0]
# Fields of syntax-tree nodes that cannot affect a result.
SAYS_NOTHING = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx"}


def carried(version: int | str, *roots: Any) -> str:
    """Recorded version of a unit: its version, plus the source digest if it belongs to another package."""
    own = all(_package(root) == PACKAGE for root in roots)
    return str(version) if own else f"{version}+{source_digest(*roots)}"


def source_digest(*roots: Any, apart: Sequence[Any] = ()) -> str:
    """Digest of the source of functions and classes, and of everything they use from their own packages.

    Comments, docstrings, annotations, imports and the place of a definition do not count; names, values and
    strings do. Objects in `apart` are not followed: they belong to another unit. Imports inside functions are
    not followed.
    """
    packages = {_package(root) for root in roots}
    waiting = [inspect.unwrap(root) for root in roots]
    skipped = {id(each) for each in apart}
    content: set[str] = set()
    while waiting:
        code = waiting.pop()
        if id(code) in skipped:
            continue
        skipped.add(id(code))
        tree = ast.parse(textwrap.dedent(inspect.getsource(code))).body[0]
        content.add(json.dumps([code.__qualname__, _plain(tree)]))
        for name, used in _used(tree, _globals(code), packages):
            for part in _parts(used, packages, skipped):
                if _is_code(part):
                    waiting.append(part)
                else:
                    content.add(json.dumps([name, part]))
    return hashlib.sha256("\n".join(sorted(content)).encode()).hexdigest()[:16]


def _package(code: Any) -> str:
    return str(getattr(inspect.unwrap(code), "__module__", "")).split(".")[0]


def _is_code(value: Any) -> bool:
    return isinstance(value, (FunctionType, type))


def _globals(code: Any) -> Mapping[str, Any]:
    return code.__globals__ if isinstance(code, FunctionType) else vars(sys.modules[code.__module__])


def _plain(node: Any) -> Any:
    """A syntax tree as lists, without positions, docstrings, imports, annotations; the same on every Python version."""
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if name not in SAYS_NOTHING)
        return [type(node).__name__, *([name, value] for name, value in fields if value not in (None, []))]
    if isinstance(node, list):
        return [_plain(each) for each in node if not _is_silent(each)]
    return None if node is None else repr(node)


def _is_silent(node: Any) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return text or isinstance(node, (ast.Import, ast.ImportFrom))


def _used(tree: ast.AST, known: Mapping[str, Any], packages: set[str]) -> Iterator[tuple[str, Any]]:
    """What a definition uses of its module, and of its packages' modules that it names (`composite.graph_based`)."""
    for node in _walk(tree):
        if isinstance(node, ast.Name) and node.id in known and not isinstance(known[node.id], ModuleType):
            yield node.id, inspect.unwrap(known[node.id])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = known.get(node.value.id)
            own = isinstance(module, ModuleType) and module.__name__.split(".")[0] in packages  # not os.environ
            if own and hasattr(module, node.attr):
                yield node.attr, inspect.unwrap(getattr(module, node.attr))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that can affect a result."""
    yield node
    for name, value in ast.iter_fields(node):
        for each in value if isinstance(value, list) else [value]:
            if name not in SAYS_NOTHING and isinstance(each, ast.AST):
                yield from _walk(each)


def _parts(value: Any, packages: set[str], skipped: set[int]) -> Iterator[Any]:
    """Code objects, and plain values as text, that a global consists of; other packages' code is left out."""
    if _is_code(value):
        if _package(value) in packages:
            yield value
    elif value is None or isinstance(value, (str, bytes, int, float)):
        yield repr(value)
    elif isinstance(value, re.Pattern):
        yield repr((value.pattern, value.flags))
    elif id(value) in skipped:
        return
    elif isinstance(value, Mapping):
        for key in value:
            yield repr(key)
            yield from _parts(value[key], packages, skipped | {id(value)})
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _parts(each, packages, skipped | {id(value)})
    elif isinstance(value, (set, frozenset)):
        yield from sorted(map(repr, value))
    elif _package(type(value)) in packages:
        yield type(value)
        yield from _parts(vars(value), packages, skipped | {id(value)})
