"""Installing with programs that only write down what they are told: real processes, in place of the system's own."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from node.service import installing, task
from node.service.installing import Installation, Scheduler, State, Systemd
from node.service.plan import Plan
from protocol.errors import CommandRefused, InputError, NotFound

FAKE = """#!/bin/sh
printf '%s' "${0##*/}" >> "$TOLD"
for word in "$@"; do printf '\\t%s' "$word" >> "$TOLD"; done
printf '\\n' >> "$TOLD"
case " $* " in *" $REFUSED "*) echo "Access denied" >&2; exit 5;; esac
"""


class System:
    """A machine's own programs, as far as PATH goes."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told = root / "told"
        self._bin = root / "bin"
        self._bin.mkdir()
        self._patch = monkeypatch
        monkeypatch.setenv("PATH", f"{self._bin}{os.pathsep}/bin{os.pathsep}/usr/bin")
        monkeypatch.setenv("TOLD", str(self.told))
        self.refuse("nothing at all")

    def has(self, *names: str) -> None:
        for name in names:
            (self._bin / name).write_text(FAKE, encoding="utf-8")
            (self._bin / name).chmod(0o755)

    def refuse(self, word: str) -> None:
        """Let each program end with 5 that gets this word."""
        self._patch.setenv("REFUSED", word)

    def lines(self) -> list[tuple[str, ...]]:
        """Return what was run since the last time."""
        if not self.told.exists():
            return []
        text = self.told.read_text(encoding="utf-8")
        self.told.unlink()
        return [tuple(line.split("\t")) for line in text.splitlines()]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    (tmp_path / "units").mkdir()
    plan = Plan("tongban", ("/opt/tongban",), str(tmp_path / "node 一"), "tongban")
    return Systemd(plan, tmp_path / "units")


@pytest.fixture
def scheduler(tmp_path: Path) -> Scheduler:
    (tmp_path / "node 一" / "run").mkdir(parents=True)
    return Scheduler(Plan("tongban", (r"C:\tongban.exe",), str(tmp_path / "node 一"), task.ACCOUNT))


def nothing() -> None:
    """Stop nobody."""


def test_a_unit_is_written_enabled_and_started(system: System, systemd: Systemd) -> None:
    """The unit lies where systemd looks; it is enabled, and restarted without waiting; given again, it is renewed."""
    system.has("systemctl")
    for _ in range(2):
        installing.install(systemd)
        assert systemd.file.read_text(encoding="utf-8") == systemd.definition()
        assert system.lines() == [
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", "tongban.service"),
            ("systemctl", "--no-block", "restart", "tongban.service"),
        ]
    assert systemd.state() == State(installed=True, enabled=True, active=True)
    system.refuse("is-active")
    assert systemd.state() == State(installed=True, enabled=True, active=False)


def test_a_unit_is_taken_back(system: System, systemd: Systemd) -> None:
    """Stopped, disabled, forgotten; the node's folder is not touched. What is not there cannot be removed."""
    system.has("systemctl")
    installing.install(systemd)
    system.lines()
    installing.remove(systemd, nothing)
    assert not systemd.file.exists()
    assert [line for line in system.lines() if "is-" not in line[1]] == [
        ("systemctl", "disable", "--now", "tongban.service"),
        ("systemctl", "daemon-reload"),
    ]
    with pytest.raises(NotFound, match="no service"):
        installing.remove(systemd, nothing)
    assert systemd.state() == State(installed=False, enabled=False, active=False)


def test_a_task_is_registered_with_its_folder(system: System, scheduler: Scheduler) -> None:
    """The account gets the node's folder, the scheduler the UTF-16 file; being registered starts it."""
    system.has("icacls", "schtasks")
    installing.install(scheduler)
    assert scheduler.file.read_bytes() == task.encode(scheduler.definition())
    assert system.lines() == [
        ("icacls", scheduler.plan.folder, "/grant", "*S-1-5-19:(OI)(CI)M", "/T", "/Q"),
        ("schtasks", "/Create", "/TN", "Tongban\\tongban", "/XML", str(scheduler.file), "/F"),
    ]
    assert scheduler.state().installed


def test_a_task_is_disabled_before_the_node_is_stopped(system: System, scheduler: Scheduler) -> None:
    """Else the next minute would start it again; what hangs is ended, and a node that had stopped is no failure."""
    system.has("icacls", "schtasks")
    installing.install(scheduler)
    system.lines()
    system.refuse("/End")
    seen: list[tuple[str, ...]] = []
    installing.remove(scheduler, lambda: seen.extend(system.lines()))
    assert [line[1] for line in seen] == ["/Query", "/Change"]
    assert [line[:2] for line in system.lines()] == [
        ("schtasks", "/End"),
        ("schtasks", "/Delete"),
        ("icacls", scheduler.plan.folder),
    ]
    assert not scheduler.file.exists()


def test_an_account_with_a_password_is_the_administrators(scheduler: Scheduler) -> None:
    """No password is asked for or kept: nothing is written, and the way by hand is named."""
    other = Scheduler(replace(scheduler.plan, user="CITY\\clerk"))
    with pytest.raises(InputError, match="password") as caught:
        installing.install(other)
    assert "service show" in caught.value.hint
    assert not other.file.exists()


@pytest.mark.parametrize("kind", ["systemd", "scheduler"])
def test_what_the_system_refuses_is_told_in_its_words(
    system: System, systemd: Systemd, scheduler: Scheduler, kind: str
) -> None:
    """Which program, its exit code, what it said; and the way by hand."""
    system.has("systemctl", "icacls", "schtasks")
    place: Installation = systemd if kind == "systemd" else scheduler
    system.refuse("enable" if kind == "systemd" else "/Create")
    with pytest.raises(CommandRefused, match="ended with 5: Access denied") as caught:
        installing.install(place)
    assert "by hand" in caught.value.hint


def test_a_machine_without_the_program_is_told(system: System, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without systemd: a refusal in words, no trace of Python."""
    monkeypatch.setenv("PATH", str(systemd.units))
    with pytest.raises(CommandRefused, match="has no `systemctl`"):
        installing.install(systemd)


def test_a_folder_of_units_that_refuses_is_told(system: System, systemd: Systemd) -> None:
    """Whoever is no administrator hears which file it is, and nothing was run."""
    system.has("systemctl")
    absent = Systemd(systemd.plan, systemd.units / "absent")
    with pytest.raises(CommandRefused, match="cannot be written"):
        installing.install(absent)
    assert system.lines() == []


def test_the_program_is_this_one(tmp_path: Path) -> None:
    """The service starts the very program that installed it, and its folder's owner is the account."""
    program = installing.own_program()
    assert Path(program[0]).parent == Path(sys.executable).parent
    assert installing.owner_of(tmp_path) == tmp_path.owner()
