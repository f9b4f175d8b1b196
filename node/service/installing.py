"""Gives the definition of a service to the system's own programs, takes it back, and says how it stands.

    place = installation(plan, windows=os.name == "nt")
    install(place)                     # or: [*place.writes(), *place.install()] shown to an administrator

The only things that touch the system are `run` (one program, by its name on PATH) and writing one file. The node's folder is left as
it is, whatever happens to the service.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from node.service import task, unit
from node.service.plan import Plan
from protocol.errors import CommandRefused, InputError, NotFound

RUN_S: Final = 60.0
SAID_CHARS_MAX: Final = 300
BY_HAND: Final = "Run it as administrator, or do by hand what `tongban service show` prints."

Line = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One program to run. must: what it refuses ends the work; else it is only tried."""

    line: Line
    must: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """How a service stands. enabled, active: as the system says; None where it does not say so in words that programs can read."""

    installed: bool
    enabled: bool | None
    active: bool | None


class Installation(Protocol):
    """How one system keeps services."""

    @property
    def plan(self) -> Plan:
        """What is installed."""
        ...

    @property
    def file(self) -> Path:
        """Where the definition is written."""
        ...

    def definition(self) -> str:
        """Return it as people read it."""
        ...

    def data(self) -> bytes:
        """Return it as the system reads it."""
        ...

    def install(self) -> Sequence[Step]:
        """Return what is run once the file is there."""
        ...

    def begin_removal(self) -> Sequence[Step]:
        """Return what is run before the node is asked to stop."""
        ...

    def remove(self) -> Sequence[Step]:
        """Return what is run after it."""
        ...

    def state(self) -> State:
        """Ask the system."""
        ...


@dataclass(frozen=True, slots=True)
class Systemd:
    """A unit file and `systemctl`. units: the folder of unit files."""

    plan: Plan
    units: Path = Path(unit.UNITS)

    @property
    def file(self) -> Path:
        """See `Installation`."""
        return self.units / self._unit

    def definition(self) -> str:
        """See `Installation`."""
        return unit.render(self.plan)

    def data(self) -> bytes:
        """See `Installation`."""
        return self.definition().encode("utf-8")

    def install(self) -> Sequence[Step]:
        """See `Installation`; nobody waits for a start that may have to wait for a port."""
        return (
            Step(("systemctl", "daemon-reload")),
            Step(("systemctl", "enable", self._unit)),
            Step(("systemctl", "--no-block", "restart", self._unit)),
        )

    def begin_removal(self) -> Sequence[Step]:
        """See `Installation`: systemd's own SIGTERM is the polite stop."""
        return (Step(("systemctl", "disable", "--now", self._unit)),)

    def remove(self) -> Sequence[Step]:
        """See `Installation`."""
        return (Step(("systemctl", "daemon-reload")),)

    def state(self) -> State:
        """See `Installation`."""
        if not self.file.exists():
            return State(installed=False, enabled=False, active=False)
        enabled, active = (run(("systemctl", word, "--quiet", self._unit))[0] for word in ("is-enabled", "is-active"))
        return State(installed=True, enabled=enabled == 0, active=active == 0)

    @property
    def _unit(self) -> str:
        return f"{self.plan.name}.service"


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A task of Windows' scheduler, `schtasks`; `icacls` gives the account the node's folder."""

    plan: Plan

    @property
    def file(self) -> Path:
        """See `Installation`; the scheduler keeps a copy of its own."""
        return Path(self.plan.folder) / "run" / "service.xml"

    def definition(self) -> str:
        """See `Installation`."""
        return task.render(self.plan)

    def data(self) -> bytes:
        """See `Installation`."""
        return task.encode(self.definition())

    def install(self) -> Sequence[Step]:
        """See `Installation`; being registered starts it."""
        if self.plan.user not in task.SERVICE_ACCOUNTS:
            raise InputError(
                f"{self.plan.user!r} has a password, which this program does not ask for",
                hint="Leave --user out, or import what `tongban service show` prints with `schtasks /Create /XML FILE /RU USER /RP *`.",
            )
        return (
            Step(("icacls", self.plan.folder, "/grant", f"*{self.plan.user}:(OI)(CI)M", "/T", "/Q")),
            Step(("schtasks", "/Create", "/TN", self._task, "/XML", str(self.file), "/F")),
        )

    def begin_removal(self) -> Sequence[Step]:
        """See `Installation`: else it would be started again within a minute."""
        return (Step(("schtasks", "/Change", "/TN", self._task, "/DISABLE")),)

    def remove(self) -> Sequence[Step]:
        """See `Installation`."""
        return (
            Step(("schtasks", "/End", "/TN", self._task), must=False),
            Step(("schtasks", "/Delete", "/TN", self._task, "/F")),
            Step(("icacls", self.plan.folder, "/remove:g", f"*{self.plan.user}", "/T", "/Q"), must=False),
        )

    def state(self) -> State:
        """See `Installation`; what else schtasks says is in the language of the machine."""
        return State(installed=run(("schtasks", "/Query", "/TN", self._task))[0] == 0, enabled=None, active=None)

    @property
    def _task(self) -> str:
        return task.task_name(self.plan)


def install(place: Installation) -> None:
    """Write the definition, make it known, start the node at every boot and now; done again, it is renewed.

    Raises:
        CommandRefused: the system refuses. InputError: not this way on this system.
    """
    steps = place.install()
    _write(place.file, place.data())
    _carry_out(steps)


def remove(place: Installation, stop: Callable[[], None]) -> None:
    """Stop the node politely and forget the service; its folder stays.

    Args:
        stop: asks the running node to end, where the system's own way is not polite.

    Raises:
        NotFound: there is no such service. CommandRefused: the system refuses.
    """
    if not place.state().installed:
        raise NotFound(f"there is no service {place.plan.name!r}", hint="Name it with --name, as when it was installed.")
    _carry_out(place.begin_removal())
    stop()
    place.file.unlink(missing_ok=True)
    _carry_out(place.remove())


def run(line: Line) -> tuple[int, str]:
    """Run one program of the system.

    Returns:
        Its exit code, and what it said, short.

    Raises:
        CommandRefused: it is not on this machine, or does not end.
    """
    found = shutil.which(line[0])
    if found is None:
        raise CommandRefused(f"this machine has no `{line[0]}`", hint=BY_HAND)
    try:
        done = subprocess.run(  # noqa: S603 - our own words, each an argument of its own
            (found, *line[1:]), capture_output=True, text=True, errors="replace", check=False, timeout=RUN_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as exc:
        raise CommandRefused(f"`{' '.join(line)}` does not end", hint=BY_HAND) from exc
    return done.returncode, " ".join((done.stderr or done.stdout).split())[:SAID_CHARS_MAX]


def own_program() -> tuple[str, ...]:
    """Return how this very program is started: the command beside this Python, else Python with the module."""
    python = Path(sys.executable)
    command = python.with_name("tongban.exe" if os.name == "nt" else "tongban")
    # -P: a folder that happens to be named like a package of ours is not taken for it
    return (str(command),) if command.exists() else (str(python), "-P", "-m", "hub.cli")


def owner_of(folder: Path) -> str:
    """Return the account that owns a node's folder, which the service runs as unless another is named.

    Raises:
        InputError: it has no name.
    """
    try:
        return folder.owner()
    except (KeyError, OSError, NotImplementedError) as exc:
        raise InputError(f"{folder}: its owner has no name here", hint="Name the account with --user.") from exc


def _carry_out(steps: Sequence[Step]) -> None:
    for step in steps:
        code, said = run(step.line)
        if code and step.must:
            raise CommandRefused(f"`{' '.join(step.line)}` ended with {code}: {said}", hint=BY_HAND)


def _write(path: Path, data: bytes) -> None:
    """Write a definition whole or not at all; others may read it, it holds no secret."""
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as exc:
        raise CommandRefused(f"{path}: cannot be written: {exc.strerror}", hint=BY_HAND) from exc
