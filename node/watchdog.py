"""Tells the system's service manager how the program is: systemd's notification protocol, in a few lines of our own.

    notifier = Notifier.of(os.environ)     # a service that asks for it has NOTIFY_SOCKET set; anywhere else nothing happens
    notifier.ready()

One datagram a message, to a local socket. A message that cannot be sent is dropped: a service manager that does not listen must
not stop a counter. Windows has no such sockets, and no such variable.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"
SPAN: Final = "WATCHDOG_USEC"
BEATS_A_SPAN: Final = 3  # two may be late
_FAMILY: Final = getattr(socket, "AF_UNIX", None)


@dataclass(frozen=True, slots=True)
class Notifier:
    """Speaks to a service manager, or to nobody.

    Attributes:
        address: of its socket; "@…" is a name without a file; empty for nobody.
        watchdog_s: it restarts the service after so long without a `beat`; 0 for never.
    """

    address: str = ""
    watchdog_s: float = 0.0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notifier:
        """Read what a service manager left in the environment."""
        span = environ.get(SPAN, "")
        return cls(environ.get(SOCKET, ""), int(span) / 1e6 if span.isdecimal() else 0.0)

    @property
    def beat_s(self) -> float | None:
        """How often to `beat`; None when nobody waits for it."""
        return self.watchdog_s / BEATS_A_SPAN if self.address and self.watchdog_s else None

    def ready(self) -> None:
        """Say that the node serves."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the node drains."""
        self._send("STOPPING=1")

    def beat(self) -> None:
        """Say that the node lives."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self.address or _FAMILY is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with contextlib.suppress(OSError), socket.socket(_FAMILY, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode("ascii"), name)
