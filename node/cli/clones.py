"""`tongban clones`: when two machines seem to be at work under one name."""

from __future__ import annotations

import click

from node.cli.options import Command, Commands, Settings, settings_of, with_settings
from node.cli.program import give


@click.group("clones", cls=Commands, invoke_without_command=True)
@click.pass_context
def clones(ctx: click.Context) -> int | None:
    """复制机 · Machines that seem to share this node's identity, or a child's; choose which one goes on.

    Without a command: what is known, since when, and which machines showed themselves. Give `keep` on the machine that goes on
    and `retire` on the other. Nothing of either is lost.
    """
    return None if ctx.invoked_subcommand else give(settings_of(ctx), "clones")


@clones.command("keep", cls=Command)
@with_settings
def keep(settings: Settings) -> int:
    """留用 · Let this machine go on: it advances cases again, in a new incarnation of its log."""
    return give(settings, "clones.keep")


@clones.command("retire", cls=Command)
@with_settings
def retire(settings: Settings) -> int:
    """停用 · Let this machine take no more entries; what it has goes to the parent, and can be read here."""
    return give(settings, "clones.retire")
