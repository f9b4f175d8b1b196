"""Reads our own source, for the tests that check it: modules, calls, labels, texts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("protocol", "node", "hub")


@dataclass(frozen=True)
class Source:
    """One file of Python.

    Attributes:
        path: from the root of the repository, with slashes.
        tree: its syntax tree.
    """

    path: str
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 0)}"

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))


@cache
def read(*folders: str) -> tuple[Source, ...]:
    """Parse every module of these folders."""
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    return tuple(Source(file.relative_to(ROOT).as_posix(), _parse(file)) for file in files)


def imports(source: Source) -> Iterator[tuple[str, ast.AST]]:
    """Yield each imported module with its place, wherever in the file it stands."""
    for node in source.nodes(ast.Import, ast.ImportFrom):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def calls(source: Source) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with its dotted name as written, such as "time.time" or "path.open"."""
    for node in source.nodes(ast.Call):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.AST) -> str:
    """Write a name or attribute as text; what stands before a call or index is shown as "?"."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def first_text(call: ast.Call) -> str | None:
    """Return the first argument when it is a text written out."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def fault_labels() -> dict[str, list[str]]:
    """Return every fault label of the packages with the places where it stands."""
    labels: dict[str, list[str]] = {}
    for source in read(*PACKAGES):
        for name, call in calls(source):
            if name.endswith(("fault.point", "faults.point")):
                labels.setdefault(first_text(call) or "?", []).append(source.at(call))
    return labels


def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))
