"""What comes in bundles is believed only as far as it is proven."""

from __future__ import annotations

import msgspec
import pytest

from node.ports import Response
from node.uplink import Uplink
from node.uplink.bundles import keep_receipt
from protocol import messages
from protocol.errors import PeerError
from protocol.log import Bundle
from tests.hub.calling import dump
from tests.node.uplink.building import Wire


async def test_a_receipt_of_something_else_is_none(pair: tuple[Uplink, Wire]) -> None:
    """A receipt must be the hub's own entry, alone in its bundle, with the body that was signed, and name what was sent."""
    uplink, line = pair
    caught: list[Bundle] = []

    def catch(name: str, response: Response) -> Response:
        if name == "push" and response.status == 200:
            receipt = messages.decode(response.body, messages.PushReply).receipt
            assert receipt is not None
            caught.append(receipt)
        return response

    line.twist = catch
    await uplink.round()
    good = caught[0]
    (entry,) = good.entries
    ledger = uplink.node.ledger
    for bad in (
        Bundle(good.signed, ()),
        Bundle(good.signed, (entry, entry)),
        Bundle(good.signed, (msgspec.structs.replace(entry, raw=entry.raw[:-1]),)),
        Bundle(good.signed, (msgspec.structs.replace(entry, path=(bytes(32),)),)),
    ):
        before = await dump(uplink.node)
        with pytest.raises(PeerError):
            await uplink.node.write(lambda conn, changes, bad=bad: keep_receipt(ledger, conn, changes, bad))  # type: ignore[misc]
        assert await dump(uplink.node) == before
    hub = line.hub.node
    await hub.store.own(hub.ledger.seal)
    genesis = await hub.store.own(lambda conn: hub.ledger.bundle_own(conn, 0))
    with pytest.raises(PeerError):
        await uplink.node.write(lambda conn, changes: keep_receipt(ledger, conn, changes, genesis))
