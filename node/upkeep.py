"""Operations on the store itself, for the command line and the running node: `backup` and `scrub`.

Importing this module registers them with `node.operations`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from node import backup, operations, scrub
from node.ballast import MIB, Sizes
from node.config import Config
from node.node import Node
from node.office.desk import Act
from node.uplink.calling import Line, Settings
from protocol import messages
from protocol.problems import Fields


async def _backup(node: Node, params: Mapping[str, Any], _: Act) -> object:
    target, config, sealed = operations.read_params("backup", params, _told)
    return await backup.back_up(node, Path(target), config=config, sealed=sealed)


def _told(fields: Fields) -> tuple[str, bytes | None, bytes | None]:
    """Read where to, the settings' file as text, and the sealed keys as hex."""
    target = fields.text("to", chars_max=4_096)
    config, sealed = _given(fields, "config"), _given(fields, "keys")
    if not Path(target).is_absolute():
        fields.fault("to", "must be an absolute path")
    if config is not None and not isinstance(config, str):
        fields.fault("config", "must be text")
    try:
        opened = bytes.fromhex(sealed) if sealed is not None else None
    except (TypeError, ValueError):
        fields.fault("keys", "must be hex digits")
        opened = None
    return target, config.encode() if isinstance(config, str) else None, opened


def _given(fields: Fields, key: str) -> Any:  # noqa: ANN401 - whatever was given
    return fields.raw(key) if fields.has(key) else None


async def _scrub(node: Node, params: Mapping[str, Any], _: Act) -> object:
    settings = operations.read_params("scrub", params, _settings)
    async with _asking(node, settings):
        return (await scrub.scrub(node, share=0)).shown()


def _settings(fields: Fields) -> Config | None:
    found = _given(fields, "settings")
    if found is not None and not isinstance(found, Config):
        fields.fault("settings", "is not to be given from outside")
        return None
    return found


@asynccontextmanager
async def _asking(node: Node, settings: Config | None) -> AsyncIterator[None]:
    """Have a line to the parent, where no node runs that has one."""
    if settings is None or node.parent is None or scrub.is_attached(node):
        yield
        return
    from node.transport import HttpsTransport  # noqa: PLC0415 - loaded only when it is needed

    told = settings.uplink
    async with HttpsTransport(proxy=told.proxy, connect_timeout_s=told.connect_timeout_s) as transport:
        line = Line(node, transport, Settings(told.parents, told.request_timeout_s))
        with scrub.attached(node, fetching(line)):
            yield


def fetching(line: Line) -> scrub.Ask:
    """Return what a scrub asks the parent with."""

    async def ask(what: messages.Fetch) -> messages.FetchReply:
        return await line.ask("fetch", what, messages.FetchReply)

    return ask


def sizes(config: Config) -> Sizes:
    """Return how much room is kept on the disk."""
    told = config.store
    return Sizes(told.ballast_mb * MIB, told.reserve_mb * MIB, told.wal_alarm_mb * MIB)


operations.register("backup", _backup)
operations.register("scrub", _scrub)
