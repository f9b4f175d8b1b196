"""`tongban service …`: let the system start the node at every boot, with nobody there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import click

from node import config, local_client
from node.cli import output
from node.cli.administration import Kept
from node.cli.options import Commands, Settings, with_settings
from node.command import Claim, Command
from node.service import installing, task, unit
from node.service.installing import Installation, Scheduler, Systemd
from node.service.plan import NAME, Plan
from node.system import SystemClock, block_s
from protocol.errors import LinkError

STOP_S: Final = 10.0
POLL_S: Final = 0.1


@click.group("service", cls=Commands)
def service() -> None:
    """系统服务 · Run the node as a service of this machine: at every boot, with nobody there."""


_NAME: Final = click.option("--name", default=NAME, show_default=True, metavar="N", help="服务名 · of the service")
_USER: Final = click.option(
    "--user", metavar="U", help="运行账户 · account that it runs as; else the folder's owner, on Windows LocalService"
)
_UNITS: Final = click.option(
    "--units",
    type=click.Path(path_type=Path),
    default=unit.UNITS,
    show_default=True,
    metavar="DIR",
    help="单元目录 · folder of systemd units; of no use on Windows",
)
_DRY_RUN: Final = click.option("--dry-run", is_flag=True, help="只显示 · only show what would be done")


@service.command("install")
@_NAME
@_USER
@_UNITS
@_DRY_RUN
@with_settings
def install(settings: Settings, name: str, user: str | None, units: Path, dry_run: bool) -> int:
    """安装 · Install and start it; given again, it is renewed."""
    place = _place(settings, name, user, units)
    commands = [list(step.line) for step in place.install()]
    if not dry_run:
        installing.install(place)
    answer = {"service": name, "file": str(place.file), "user": place.plan.user, "commands": commands}
    return _shown(settings, "service.install", {**answer, "dry_run": dry_run, "done": not dry_run})


@service.command("remove")
@_NAME
@_USER
@_UNITS
@_DRY_RUN
@with_settings
def remove(settings: Settings, name: str, user: str | None, units: Path, dry_run: bool) -> int:
    """卸载 · Stop the node and forget the service; the node's folder stays."""
    place = _place(settings, name, user, units)
    commands = [list(step.line) for step in (*place.begin_removal(), *place.remove())]
    if not dry_run:
        installing.remove(place, lambda: _stop(settings))
    answer = {"service": name, "file": str(place.file), "commands": commands}
    return _shown(settings, "service.remove", {**answer, "dry_run": dry_run, "done": not dry_run})


@service.command("status")
@_NAME
@_USER
@_UNITS
@with_settings
def status(settings: Settings, name: str, user: str | None, units: Path) -> int:
    """状况 · Whether it is installed, starts at boot, and runs."""
    place = _place(settings, name, user, units)
    state = place.state()
    answer = {"service": name, "installed": state.installed, "enabled": state.enabled, "active": state.active}
    return _shown(settings, "service.status", {**answer, "answers": _answers(settings), "file": str(place.file)})


@service.command("show")
@_NAME
@_USER
@_UNITS
@with_settings
def show(settings: Settings, name: str, user: str | None, units: Path) -> int:
    """显示 · Print the unit or the task, to install it by hand."""
    place = _place(settings, name, user, units)
    return _shown(settings, "service.show", {"service": name, "file": str(place.file), "definition": place.definition()})


def _place(settings: Settings, name: str, user: str | None, units: Path) -> Installation:
    settings.folder.require()
    root = settings.folder.root.resolve()
    port = config.load(settings.folder.config).listen.port
    if os.name == "nt":
        return Scheduler(Plan(name, installing.own_program(), str(root), user or task.ACCOUNT, port))
    account = user or installing.owner_of(root)
    return Systemd(Plan(name, installing.own_program(), str(root), account, port), units)


def _answers(settings: Settings) -> bool:
    place = settings.folder.load_api()
    return place is not None and local_client.answers(place)


def _stop(settings: Settings) -> None:
    """Ask the running node to end, and wait until it no longer answers; what hangs is the system's to end."""
    place = settings.folder.load_api()
    if place is None or not local_client.answers(place):
        return
    try:
        local_client.call(place, Command("stop", {}, Claim()), Kept(), STOP_S)
    except LinkError:  # it ended before it could say so
        return
    clock = SystemClock()
    ends_at = clock.monotonic_s() + STOP_S
    while local_client.answers(place) and clock.monotonic_s() < ends_at:
        block_s(POLL_S)


def _shown(settings: Settings, name: str, value: dict[str, Any]) -> int:
    printer = output.Printer(settings, name)
    printer.value(value)
    return printer.finish()
