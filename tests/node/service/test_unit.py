"""The systemd unit, by its facts."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from node.service import unit
from node.service.plan import Plan
from node.watchdog import Notifier
from tests.node.service.test_plan import PLAN


def settings(plan: Plan) -> dict[str, dict[str, str]]:
    """Parse a unit; each setting stands once."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for line in unit.render(plan).splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            found[section] = {}
        elif line and not line.startswith("#"):
            key, sign, value = line.partition("=")
            assert sign
            assert key not in found[section]
            found[section][key] = value
    return found


def test_it_starts_with_nobody_there_and_no_line() -> None:
    """At boot, after the network's set-up began, not after a line stands; and whatever happened, again."""
    found = settings(PLAN)
    assert found["Unit"]["After"] == "network.target"
    assert "network-online" not in str(found)
    assert found["Unit"]["StartLimitIntervalSec"] == "0"
    assert (found["Service"]["Restart"], found["Service"]["RestartSec"]) == ("always", "5")
    assert found["Install"]["WantedBy"] == "multi-user.target"


def test_it_stops_politely_and_is_watched() -> None:
    """SIGTERM with more time than the drain takes; readiness and beats by the notification socket."""
    service = settings(PLAN)["Service"]
    assert (service["KillSignal"], service["TimeoutStopSec"], service["TimeoutStartSec"]) == ("SIGTERM", "15", "infinity")
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    beat_s = Notifier("socket", float(service["WatchdogSec"])).beat_s
    assert beat_s is not None
    assert beat_s < float(service["WatchdogSec"]) / 2


def test_it_is_shut_in() -> None:
    """It gains no rights, writes its own folder only, and has no capability it does not need."""
    service = settings(PLAN)["Service"]
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
    assert shlex.split(service["ReadWritePaths"]) == [PLAN.folder]
    assert (service["CapabilityBoundingSet"], "AmbientCapabilities" in service) == ("", False)
    assert service["UMask"] == "0077"
    assert service["User"] == "tongban"


@pytest.mark.parametrize(("port", "needed"), [(443, True), (1_023, True), (1_024, False), (0, False)])
def test_a_low_port_brings_its_one_right(port: int, needed: bool) -> None:
    """Below 1,024 the node may bind, and nothing more."""
    service = settings(replace(PLAN, port=port))["Service"]
    assert ("CAP_NET_BIND_SERVICE" in service["CapabilityBoundingSet"]) is needed
    assert ("AmbientCapabilities" in service) is needed


def test_odd_paths_stay_one_word() -> None:
    """Blanks, percent and dollar signs and Chinese names mean to systemd what they mean to people."""
    plan = replace(PLAN, program=("/opt/a b/tongban", "-P"), folder="/srv/100% $x 通办")
    service = settings(plan)["Service"]
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(service["ExecStart"])]
    assert words == list(plan.command)
    assert service["WorkingDirectory"] == "/srv/100%% $x 通办"
