"""Fault points do nothing unless armed, and then exactly what was asked for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from node import faults
from protocol.errors import InputError
from tests.sources import ROOT

PROGRAM = """
from node import faults
for step in range(3):
    faults.point("test.step")
    print(step, flush=True)
"""


def start(trap: str, switch: str = "1") -> subprocess.Popen[str]:
    environ = os.environ | {faults.VARIABLE: trap, faults.SWITCH: switch, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def test_unarmed_points_do_nothing() -> None:
    """In production a point costs one comparison and has no effect."""
    assert faults.armed_by({}) is None
    faults.point("test.any")


def test_an_armed_point_acts_at_the_given_pass_only() -> None:
    """The number counts passes of that label, from 1; other labels do not count."""
    hook = faults.armed_by({faults.VARIABLE: "test.step:2:raise"})
    assert hook is not None
    with faults.hooked(hook):
        faults.point("test.other")
        faults.point("test.step")
        with pytest.raises(faults.InjectedFault) as caught:
            faults.point("test.step")
        faults.point("test.step")
    assert caught.value.errno == errno.EIO
    faults.point("test.step")


def test_several_traps_are_independent() -> None:
    """Traps separated by commas count each for itself."""
    hook = faults.armed_by({faults.VARIABLE: "a.b:1:sleep:0.001, c.d:1:raise"})
    assert hook is not None
    hook("a.b")
    with pytest.raises(faults.InjectedFault):
        hook("c.d")


def test_labels_nobody_passes_are_harmless() -> None:
    """An armed label that no point has changes nothing."""
    hook = faults.armed_by({faults.VARIABLE: "no.such.label:1:kill"})
    assert hook is not None
    with faults.hooked(hook):
        faults.point("test.step")


@pytest.mark.parametrize(
    "text", ["x", "x:1", "x:0:kill", "x:one:kill", "x:1:explode", ":1:kill", "x:1:sleep:long", "x:1:sleep:1:2"]
)
def test_a_wrong_trap_is_refused(text: str) -> None:
    """A mistyped variable is named, not ignored."""
    with pytest.raises(InputError, match=faults.VARIABLE):
        faults.armed_by({faults.VARIABLE: text})


def test_hooks_nest_and_come_back() -> None:
    """A world inside a world gives the outer hook back, also after a crash."""
    seen: list[str] = []

    def crash(label: str) -> None:
        raise faults.Crash(label)

    with faults.hooked(seen.append):
        with pytest.raises(faults.Crash), faults.hooked(crash):
            faults.point("inner.one")
        faults.point("outer.one")
    assert seen == ["outer.one"]


def test_no_handler_of_errors_survives_a_crash() -> None:
    """A virtual crash passes every `except Exception`, as a real one does."""
    assert not issubclass(faults.Crash, Exception)
    assert issubclass(faults.InjectedFault, OSError)


@pytest.mark.processes
@pytest.mark.parametrize("switch", ["", "0", "yes"])
def test_outside_of_tests_the_variable_does_nothing(switch: str) -> None:
    """Who can set one variable by mistake does not stop a counter: two are needed."""
    process = start("test.step:1:kill", switch)
    assert process.communicate(timeout=20)[0].split() == ["0", "1", "2"]
    assert process.returncode == 0


@pytest.mark.processes
def test_kill_ends_the_process_at_once() -> None:
    """A killed process prints nothing more and flushes nothing."""
    process = start("test.step:2:kill")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (faults.EXIT_KILLED, "0\n", "")


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop processes")
def test_stop_freezes_the_process_until_it_is_continued() -> None:
    """A stopped process is alive and silent, and goes on when continued."""
    process = start("test.step:2:stop")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "0\n1\n2\n")
