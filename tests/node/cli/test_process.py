"""A serving process ends when it is told to, in time, with exit 0."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from node.cli.process import run_until_stopped
from tests.sources import ROOT

SERVICE = """
import asyncio, sys
from node.cli.process import run_until_stopped

async def serve(stop):
    print("ready", flush=True)
    await stop.wait()
    {last}

run_until_stopped(serve, on_stop=lambda: print("stopping", flush=True), drain_s=0.5)
print("ended", flush=True)
"""


def ended(last: str, number: int) -> tuple[int, list[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE.format(last=last)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
        return process.returncode, out.split()


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals from outside; the handlers are the same")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number: int) -> None:
    """SIGTERM and Ctrl-C wake a loop that waits for nothing else."""
    assert ended("pass", number) == (0, [b"stopping", b"ended"])


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="as above")
def test_what_does_not_end_is_cancelled() -> None:
    """A task that hangs while it stops does not hold the process."""
    assert ended("await asyncio.sleep(3600)", signal.SIGTERM) == (0, [b"stopping", b"ended"])


def test_failures_come_through_and_handlers_are_put_back() -> None:
    """A service that fails at its start says why, and leaves the process as it was."""

    async def serve(_stop: asyncio.Event) -> None:
        raise ValueError("the port is taken")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="port"):
        run_until_stopped(serve)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_service_may_end_by_itself() -> None:
    """Then nothing waits for a signal."""

    async def serve(_stop: asyncio.Event) -> None:
        return

    run_until_stopped(serve)
