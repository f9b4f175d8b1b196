"""Commands on keys: this node's own, and those of nodes below that are stolen, lost or closed."""

from __future__ import annotations

from typing import Final

import click

from node.cli.options import NODE, TIME, Command, Commands, Settings, with_settings
from node.cli.program import give

_REASON: Final = click.option("--reason", required=True, metavar="R", help="理由 · why")


@click.group("key", cls=Commands)
def key() -> None:
    """密钥 · The key with which this node signs."""


@key.command("show")
@with_settings
def key_show(settings: Settings) -> int:
    """查看 · Show this node's keys, by fingerprint, and since when."""
    return give(settings, "key.show")


@key.command("rotate")
@with_settings
def key_rotate(settings: Settings) -> int:
    """更换 · Replace this node's key, also without a connection; the old one is destroyed once the parent has heard."""
    return give(settings, "key.rotate")


@click.command("revoke", cls=Command)
@click.argument("node", type=NODE)
@click.option("--key", "fingerprint", metavar="FINGERPRINT", help="密钥指纹 · which of its keys; else the present one")
@click.option("--before", type=TIME, metavar="TIME", help="可信截止 · trusted is what was receipted before; else all that is here")
@_REASON
@click.option("--dry-run", is_flag=True, help="只查看 · only show what would be trusted")
@with_settings
def revoke(
    settings: Settings, node: str, fingerprint: str | None, before: int | None, reason: str, dry_run: bool
) -> int:
    """吊销 · Trust the key of a node below no further: it was stolen, or its machine is gone."""
    return give(settings, "revoke", node=node, key=fingerprint, before=before, reason=reason, dry_run=dry_run or None)


@click.command("retire", cls=Command)
@click.argument("node", type=NODE)
@_REASON
@with_settings
def retire(settings: Settings, node: str, reason: str) -> int:
    """撤站 · Close a station below: what it wrote stands, its open cases are listed."""
    return give(settings, "retire", node=node, reason=reason)


ALL: Final = (key, revoke, retire)
