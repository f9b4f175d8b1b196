"""A process that serves until it is told to stop: signals on every system, and a bound on stopping.

Windows knows no SIGTERM from outside and no signal handlers of event loops: plain handlers wake the loop instead. What a
counter was told is saved was committed before it was told so, so ending late work is safe; the bound only keeps manners.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

DRAIN_S: Final = 8.0  # for requests and commands under way
EXIT_S: Final = 9.5  # after that the process ends whatever hangs: within 10 s of being told
SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGBREAK")  # SIGBREAK: Ctrl-Break and the end of a service, on Windows

Serve = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Serves until the event is set, then finishes what is under way."""


def run_until_stopped(serve: Serve, *, on_stop: Callable[[], None] | None = None, drain_s: float = DRAIN_S) -> None:
    """Run a service in this process until a signal asks it to stop, or until it ends by itself.

    Args:
        serve: the service.
        on_stop: called once when a signal came, on the event loop.
        drain_s: how long it may take to stop; what is still at work then is cancelled.

    Raises:
        Exception: whatever the service raises.
    """
    asyncio.run(_bounded(serve, on_stop, drain_s))


async def _bounded(serve: Serve, on_stop: Callable[[], None] | None, drain_s: float) -> None:
    stop = asyncio.Event()
    with _signals(stop, on_stop):
        serving = asyncio.create_task(serve(stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not serving.done():
            await asyncio.wait({serving}, timeout=drain_s)
        if not serving.done():
            serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@contextmanager
def _signals(stop: asyncio.Event, on_stop: Callable[[], None] | None) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            return
        stop.set()
        _end_later()
        if on_stop is not None:
            on_stop()

    def handle(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(asked)  # also wakes the loop out of its wait

    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = [(number, signal.signal(number, handle)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _end_later() -> None:
    """End the process at the bound, whatever hangs: a disk that does not answer, a thread that does not end."""
    guard = threading.Timer(EXIT_S, os._exit, (0,))
    guard.daemon = True
    guard.start()
