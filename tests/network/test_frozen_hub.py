"""N06: a hub that stands still with its connections open. The counter works on, requests end at their deadline, nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.errors import LinkError
from tests.network.door import acked, lined, tried
from tests.node.building import EAST, enrol, found, furnish, hire, opened, show, size_of
from tests.sources import ROOT

needs_stop = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot freeze a process")


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the hub in a process; returns it and its address."""
    line = [sys.executable, "-m", "tests.network.hub_process", str(folder)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@needs_stop
@pytest.mark.processes
async def test_a_hub_that_freezes_is_waited_for_no_longer_than_its_time(tmp_path: Path) -> None:
    """N06: SIGSTOP in a session: a round ends at its deadline, cases are taken in meanwhile, and after SIGCONT all of it arrives."""
    city = await furnish(await found(tmp_path / "city"))
    node = await hire(await enrol(tmp_path / EAST, city, EAST))
    await city.close()
    with running(tmp_path) as (process, address):
        async with lined(node, address, 0.5) as uplink:
            await uplink.round()
            before = await acked(node)
            process.send_signal(signal.SIGSTOP)
            cases = [await opened(node, f"甲{number}") for number in range(5)]
            for _ in range(2):  # in the session, and meeting anew: the system still accepts connections
                begun = time.monotonic()
                assert isinstance(await tried(uplink), LinkError)
                assert time.monotonic() - begun < 1.5
            assert await acked(node) == before
            cases.append(await opened(node, "乙"))
            assert (await show(node, cases[-1]))["state"] == "received"
            process.send_signal(signal.SIGCONT)
            await uplink.sync(10.0)
            assert await acked(node) == await size_of(node)
