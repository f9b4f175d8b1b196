"""Machines with an older program: it does not know every type of entry yet. Whatever it cannot read waits; nothing is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from protocol import cases, fold
from tests.world import _here as here_now

NEWER: Final = frozenset({"correct", "extend"})  # types that an older program does not know
SETS: Final = ("KNOWN_TYPES", "SPINE_TYPES", "SIDE_TYPES")


class _Known(frozenset[str]):
    """The types that the program knows on the machine whose code is running."""

    old: set[str]

    def __contains__(self, kind: object) -> bool:
        return frozenset.__contains__(self, kind) and not (kind in NEWER and here_now.get() in self.old)


@contextlib.contextmanager
def mixed(old: set[str]) -> Iterator[None]:
    """Let the programs of some machines be older while the block runs. old: their names, may change meanwhile."""
    kept: list[tuple[Any, str, Any]] = []
    for module in (fold, cases):
        for name in SETS:
            if hasattr(module, name):
                kept.append((module, name, getattr(module, name)))
                known = _Known(getattr(module, name))
                known.old = old
                setattr(module, name, known)
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
