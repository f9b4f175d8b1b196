"""Why a port could not be taken, said so that the person at the machine knows what to do: one place for all listeners."""

from __future__ import annotations

import errno
from typing import Final

from protocol.errors import PortTaken, StoreError

TAKEN: Final = {errno.EADDRINUSE, 10_048}  # the second: Windows' own number
ABSENT: Final = {errno.EADDRNOTAVAIL, 10_049}


def cannot_listen(exc: OSError, address: str, setting: str) -> StoreError:
    """Turn a listener's failure into ours.

    Args:
        exc: what the system said.
        address: HOST:PORT that was asked for.
        setting: where an administrator changes it, such as "[listen] port".
    """
    if exc.errno in TAKEN:
        return PortTaken(f"cannot listen on {address}: another program has that port", hint=_hint(setting))
    if exc.errno in ABSENT:
        return PortTaken(
            f"cannot listen on {address}: no network card of this machine has that address now",
            hint="A cable that is out may be the reason. 0.0.0.0 as host needs none, and starts in any case.",
        )
    return StoreError(f"cannot listen on {address}: {exc.strerror}", hint=f"Change {setting} in config.toml.")


def _hint(setting: str) -> str:
    return f"Stop the other program (perhaps an older start of this one), or change {setting} in config.toml; then start again."
