"""Backup and scrub as commands: their parameters are checked, and they ask the parent through whatever line there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import upkeep
from node.ballast import MIB
from node.config import Config
from protocol.errors import InputError
from tests.node.building import ask, found, furnish


def lying(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def test_backup_wants_a_place_and_plain_values(tmp_path: Path) -> None:
    """A relative path is nobody's; keys come as hex; nothing is written when something is wrong."""
    city = await furnish(await found(tmp_path / "city"))
    for params in ({"to": "a.backup"}, {"to": str(tmp_path / "a"), "keys": "xyz"}, {"to": str(tmp_path / "a"), "config": 1}, {}):
        with pytest.raises(InputError):
            await ask(city, "backup", **params)
    assert not lying(tmp_path, "a*")
    done = await ask(city, "backup", to=str(tmp_path / "a.backup"), keys="00ff", config="# c")
    assert (done["with_key"], len(lying(tmp_path, "a.backup"))) == (True, 1)
    await city.close()


async def test_scrub_answers_as_verify_does(tmp_path: Path) -> None:
    """Counts, problems, and how much was mended; settings come from this machine only."""
    city = await furnish(await found(tmp_path / "city"))
    done = await ask(city, "scrub")
    assert (done["problems"], done["mended"], done["entries"] > 0) == ([], 0, True)
    assert (await ask(city, "scrub", settings=Config()))["problems"] == []
    with pytest.raises(InputError, match="from outside"):
        await ask(city, "scrub", settings={"uplink": {}})
    await city.close()


def test_sizes_are_in_bytes() -> None:
    """The settings name megabytes."""
    sizes = upkeep.sizes(Config())
    assert (sizes.ballast, sizes.reserve, sizes.wal_alarm) == (64 * MIB, 32 * MIB, 256 * MIB)
