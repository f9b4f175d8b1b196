"""The systemd unit: started at boot without waiting for any line, started again for ever, and shut in.

It waits for `network.target` (the network's set-up is begun), never for `network-online.target`: a village whose line is cut must
take cases in. Start limits are off, since a unit that gave up at night would stay down until somebody comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from node.service.plan import PRIVILEGED_PORT, RESTART_S, STOP_S, WATCHDOG_S, Plan

UNITS: Final = "/etc/systemd/system"
# What nothing here needs. ProtectHome is not "yes": program or folder may lie in a home.
_SHUT: Final = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "UMask=0077",
)


def render(plan: Plan) -> str:
    """Return the text of NAME.service."""
    return "\n".join([*_unit(plan), "", *_service(plan), "", "[Install]", "WantedBy=multi-user.target", ""])


def quoted(text: str) -> str:
    """Write one word of a setting: `%` and `$` mean something to systemd, blanks would part it."""
    plain = text.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if " " in plain or "'" in plain else plain


def _unit(plan: Plan) -> Iterator[str]:
    yield "[Unit]"
    yield f"Description=Tongban node ({plan.name})"
    yield "# Not network-online.target: a counter works with the cable out."
    yield "After=network.target"
    yield f"RequiresMountsFor={_path(plan.folder)}"
    yield "# Never give up, whatever happened before."
    yield "StartLimitIntervalSec=0"


def _service(plan: Plan) -> Iterator[str]:
    yield "[Service]"
    yield "Type=notify"
    yield "NotifyAccess=main"
    yield f"User={plan.user}"
    yield "ExecStart=" + " ".join(quoted(word) for word in plan.command)
    yield f"WorkingDirectory={_path(plan.folder)}"
    yield "Restart=always"
    yield f"RestartSec={RESTART_S}"
    yield "# A large store may be brought to a new schema at the first start."
    yield "TimeoutStartSec=infinity"
    yield "KillSignal=SIGTERM"
    yield f"TimeoutStopSec={STOP_S}"
    yield f"WatchdogSec={WATCHDOG_S}"
    yield "LimitNOFILE=65536"
    yield "# Advice: 256M at a station, 2G at a district, 4G at a city; the node then is started again before the machine swaps."
    yield "#MemoryMax=2G"
    yield f"ReadWritePaths={quoted(plan.folder)}"
    yield from _SHUT
    yield from _rights(plan)


def _rights(plan: Plan) -> Iterator[str]:
    if 0 < plan.port < PRIVILEGED_PORT:
        yield "AmbientCapabilities=CAP_NET_BIND_SERVICE"
        yield "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"
    else:
        yield "CapabilityBoundingSet="


def _path(text: str) -> str:
    """Write the one path of a setting that takes the whole rest of the line."""
    return text.replace("%", "%%")
