"""The sample catalogue and calendars that the demo's city publishes: `configs/` of the source, or its copy of an installed wheel."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any, Final

from node.cli.files import read_calendar, read_catalogue
from protocol.errors import InputError

DISTRIBUTION: Final = "tongban"
CATALOGUE: Final = "demo.toml"
CALENDARS: Final = ("national-2024-2026.json", "xinjiang-2025.json")

_SOURCE: Final = Path(__file__).resolve().parents[2] / "configs"


def catalogue() -> list[dict[str, Any]]:
    """Return the items of the sample catalogue."""
    return read_catalogue(locate("catalogue", CATALOGUE))


def calendars() -> list[dict[str, Any]]:
    """Return the sample calendars."""
    return [read_calendar(locate("calendars", name)) for name in CALENDARS]


def locate(folder: str, name: str, source: Path = _SOURCE) -> Path:
    """Return where a sample file is.

    Raises:
        InputError: neither beside the source nor installed.
    """
    if (source / folder / name).exists():
        return source / folder / name
    try:
        installed = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        installed = []
    for file in installed:
        if file.parts[-2:] == (folder, name):
            return Path(str(file.locate())).resolve()
    raise InputError(f"the sample file {folder}/{name} is not installed", hint="Install Tongban again.")
