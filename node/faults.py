"""Labelled points at which a test may kill, stop, fail or delay the program; they do nothing in production.

A durable step calls `faults.point("journal.committed")`. Two ways to arm it:

- from outside, for real processes, and only where `TONGBAN_FAULTS_ALLOWED=1` stands too: `TONGBAN_FAULT=journal.committed:3:kill`
  acts the third time that the label is passed;
  actions are `kill` (as a power switch: nothing is flushed), `stop` (SIGSTOP, where the system has it), `raise` (`EIO`)
  and `sleep` (seconds may follow: `…:1:sleep:0.5`); several are separated by commas;
- from inside, for the world of virtual nodes: `with faults.hooked(hook): …` calls `hook(label)` at every point.

Labels are lower-case words joined by dots, written out as one literal at one place; `tests/test_tidy.py` lists them and
refuses doubles. An armed label that no point has is harmless.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NoReturn

from node import system
from protocol.errors import InputError

VARIABLE: Final = "TONGBAN_FAULT"
SWITCH: Final = "TONGBAN_FAULTS_ALLOWED"
ACTIONS: Final = ("kill", "stop", "raise", "sleep")
EXIT_KILLED: Final = 137
SLEEP_S: Final = 1.0

Hook = Callable[[str], None]


class InjectedFault(OSError):
    """The disk failed, because a test said so."""


class Crash(BaseException):
    """A virtual node's process died here; no `except Exception` of its own may catch that."""


@dataclass(slots=True)
class Trap:
    """One armed label.

    Attributes:
        label: the point that it waits for.
        pass_number: 1 for the first time that the point is passed.
        action: one of `ACTIONS`.
        sleep_s: for `sleep`.
        passed: how often the point was passed so far; owned by the thread of the point.
    """

    label: str
    pass_number: int
    action: str
    sleep_s: float = SLEEP_S
    passed: int = field(default=0)

    def __call__(self, label: str) -> None:
        """Count one pass; act when it is the one waited for."""
        if label != self.label:
            return
        self.passed += 1
        if self.passed == self.pass_number:
            _act(self)


def point(label: str) -> None:
    """Mark a durable step. Does nothing unless armed."""
    if _hook is not None:
        _hook(label)


def armed_by(environ: Mapping[str, str]) -> Hook | None:
    """Read `TONGBAN_FAULT`; None when it is not set.

    Raises:
        InputError: the variable is not of the form label:n:action.
    """
    text = environ.get(VARIABLE, "").strip()
    if not text:
        return None
    traps = [parse_trap(part) for part in text.split(",")]

    def hook(label: str) -> None:
        for trap in traps:
            trap(label)

    return hook


def parse_trap(text: str) -> Trap:
    """Read one `label:n:action[:seconds]`.

    Raises:
        InputError: it has another form.
    """
    label, *rest = text.strip().split(":")
    try:
        number, action, *seconds = rest
        trap = Trap(label, int(number), action, float(seconds[0]) if seconds else SLEEP_S)
    except ValueError as exc:
        raise _not_a_trap(text) from exc
    if not label or len(seconds) > 1 or trap.pass_number < 1 or trap.action not in ACTIONS:
        raise _not_a_trap(text)
    return trap


@contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Call `hook(label)` at every point while the block runs; the hook before it comes back afterwards."""
    global _hook  # noqa: PLW0603 - one switch for the process is what a fault point is
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def _act(trap: Trap) -> None:
    if trap.action == "kill":
        os._exit(EXIT_KILLED)  # no buffers flushed, no handlers run: what SIGKILL leaves, on every system
    elif trap.action == "stop":
        _stop()
    elif trap.action == "raise":
        _fail(trap.label)
    else:
        system.block_s(trap.sleep_s)


def _stop() -> None:
    stop = getattr(signal, "SIGSTOP", None)
    if stop is None:
        raise InputError("this system cannot stop a process: use kill, raise or sleep", hint=f"Change {VARIABLE}.")
    signal.raise_signal(stop)


def _fail(label: str) -> NoReturn:
    raise InjectedFault(errno.EIO, f"injected fault at {label}")


def _not_a_trap(text: str) -> InputError:
    return InputError(
        f"{VARIABLE}: {text!r} is not label:n:action", hint=f"Actions: {', '.join(ACTIONS)}; n counts from 1."
    )


_hook: Hook | None = armed_by(os.environ) if os.environ.get(SWITCH) == "1" else None
