"""Gives a command to the node that runs in the folder, or opens the store and carries it out here.

The folder's lock decides: who gets it finds nobody else at work, whatever an old `run/api.json` says. While another
process holds it, the command goes to its local API. A process that holds the folder and does not answer, another command or a
node that just starts, is waited for a little.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from node import config, local_client, logs
from node.cli.options import Settings
from node.command import Claim, Command, carry_out
from node.folder import Folder
from node.local_client import NoAnswer, Sink
from node.system import SystemClock, SystemEntropy, block_s
from protocol.errors import LinkError, StoreBusy

if TYPE_CHECKING:
    from node.node import Node  # see `_on_store`

BUSY_WAIT_S: Final = 10.0  # for another command, or a node that starts; a command that only writes takes well under one
BUSY_POLL_S: Final = 0.05
ANSWER_GRACE_S: Final = 5.0  # the node keeps the time; its answer comes a little later

T = TypeVar("T")
Here = Callable[[config.Config], Mapping[str, object]]

# What a node that is opened for one command must be given before it writes; `hub.cli` adds who is to be told of it.
prepared: list[Callable[[Node], None]] = []


def execute(settings: Settings, name: str, params: Mapping[str, object], sink: Sink, here: Here | None = None) -> None:
    """Carry a command out and hand its answer on.

    Args:
        settings: folder, officer, window, claimed time, longest time.
        name: of `node.operations`.
        params: JSON-ready options by name; None counts as not given.
        sink: takes the answer.
        here: params from the configuration, added when no node runs; a running node has them itself.

    Raises:
        TongbanError: refused, or failed.
    """
    folder = settings.folder
    folder.require()
    command = command_of(settings, name, params)
    clock = SystemClock()
    ends_at = clock.monotonic_s() + min(settings.timeout_s or BUSY_WAIT_S, BUSY_WAIT_S)
    lock = folder.locked()
    while True:
        try:
            lock.acquire()  # only this is tried again, never a command
        except StoreBusy:
            if _there(folder, command, sink, settings.timeout_s):
                return
            if clock.monotonic_s() >= ends_at:
                raise
            block_s(BUSY_POLL_S)
            continue
        try:
            _here(settings, folder, command, sink, here)
        finally:
            lock.release()
        return


def command_of(settings: Settings, name: str, params: Mapping[str, object]) -> Command:
    """Put a command together; what was not given is left out."""
    given = {key: value for key, value in params.items() if value not in (None, (), [], {})}
    return Command(name, given, Claim(settings.officer, settings.window, settings.at_ms))


def patiently(folder: Folder, work: Callable[[], None]) -> None:
    """Start a process that serves and takes the folder itself; a command that just has the folder is waited for.

    Raises:
        StoreBusy: a running node has the folder, or another process keeps it.
    """
    clock = SystemClock()
    ends_at = clock.monotonic_s() + BUSY_WAIT_S
    while True:
        try:
            work()
        except StoreBusy:
            place = folder.load_api()
            if (place is not None and local_client.answers(place)) or clock.monotonic_s() >= ends_at:
                raise
        else:
            return
        block_s(BUSY_POLL_S)


def timed(work: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
    """Run a coroutine to its end, at most this long.

    Raises:
        LinkError: it took longer.
    """

    async def bounded() -> T:
        async with asyncio.timeout(timeout_s):
            return await work

    try:
        return asyncio.run(bounded())
    except TimeoutError as exc:
        raise LinkError(f"not done within {timeout_s:g} s", hint=local_client.UNSURE_HINT) from exc


def _there(folder: Folder, command: Command, sink: Sink, timeout_s: float | None) -> bool:
    """Ask the running node; False when none answers."""
    place = folder.load_api()
    if place is None:
        return False
    try:
        local_client.call(place, command, sink, None if timeout_s is None else timeout_s + ANSWER_GRACE_S)
    except NoAnswer:
        return False
    return True


def _here(settings: Settings, folder: Folder, command: Command, sink: Sink, here: Here | None) -> None:
    """Open the store and carry the command out; the lock is held."""
    found = config.load(folder.config)
    if here is not None:
        command = msgspec.structs.replace(command, params={**command.params, **here(found)})
    # Events go to the node's file; the terminal belongs to the command.
    logs.configure(found.log, folder.root, stream=io.StringIO())
    try:
        timed(_on_store(folder, command, sink), settings.timeout_s)
    finally:
        logs.shutdown()


async def _on_store(folder: Folder, command: Command, sink: Sink) -> None:
    from node import setup  # noqa: PLC0415 - a command that asks a running node loads no store

    node = await setup.open_node(folder, SystemClock(), SystemEntropy())
    try:
        for prepare in prepared:
            prepare(node)
        result = await carry_out(node, command)
        if not isinstance(result, AsyncIterator):
            sink.value(result)
            return
        async for row in result:
            sink.row(row)
    finally:
        await node.close()
