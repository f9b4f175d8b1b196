"""The fault points of the program, and which of them a network of virtual machines passes."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from tests.sources import PACKAGES, ROOT

POINT: Final = re.compile(r'faults?\.point\("([a-z_.]+)"\)')
# Not passed in a run: the command line, folders, files that travel by hand, keys that change, migrations; each has tests of its own.
ELSEWHERE: Final = (
    *("store.migrate", "upgrades.", "commands.", "folder.", "replay.", "carry.", "backup.", "restore.", "scrub.", "journal."),
    *("keyring.", "moving.", "rekeying.", "uplink.keys_learnt"),
)
BUILDING: Final = ("joining.", "enrolment.", "setup.", "registrar.", "uplink.chain")  # passed while the network is built


@cache
def everywhere() -> frozenset[str]:
    """Return every label in the packages."""
    files = sorted(file for folder in PACKAGES for file in (ROOT / folder).rglob("*.py"))
    return frozenset(label for file in files for label in POINT.findall(file.read_text(encoding="utf-8")))


@cache
def reachable() -> tuple[str, ...]:
    """Return the labels that the simulation can pass, in order."""
    return tuple(sorted(label for label in everywhere() if not label.startswith(ELSEWHERE)))
