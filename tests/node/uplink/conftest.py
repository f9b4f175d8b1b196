"""The pair that most tests of the uplink begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.uplink import Settings, Uplink
from tests.hub.calling import city_and_child
from tests.node.building import hire, opened
from tests.node.uplink.building import Wire


@pytest.fixture
async def pair(tmp_path: Path) -> tuple[Uplink, Wire]:
    """A child with one case to push, and its line to its hub."""
    caller = await city_and_child(tmp_path)
    await hire(caller.node)
    await opened(caller.node)
    wire = Wire(caller.hub)
    return Uplink(caller.node, wire, Settings(("hub:1",), 10.0, 5)), wire
