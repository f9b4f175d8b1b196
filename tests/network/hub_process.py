"""The hub of `door.listening` in a process of its own, so that a test can stop it as a whole: `python -m tests.network.hub_process FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from hub.app import Hub
from hub.server import serve
from node import setup, tls
from node.system import SystemClock, SystemEntropy
from protocol import keys
from tests.node.building import CITY, SeededEntropy, store_in


async def main(folder: Path) -> None:
    """Serve for ever; the first line out is the port."""
    key = keys.SigningKey(SeededEntropy(1).bytes(32))  # as `building.found` makes it
    city = await setup.node_of(store_in(folder / "city"), key, SystemClock(), SystemEntropy())
    pem = folder / "node.pem"
    hub = Hub(city, tls.certificate_hash(tls.ensure_certificate(pem, CITY)))
    server = await serve(hub, pem, "127.0.0.1", 0)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
