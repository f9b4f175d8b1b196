"""What a child shows of the logs above it, and gives back of them."""

from __future__ import annotations

import pytest

from node.uplink import Uplink, returning
from node.uplink.returning import Cursor, newest_above, page
from protocol import messages
from protocol.log import decode_checkpoint, decode_header
from tests.node.building import CITY
from tests.node.uplink.building import Wire


async def test_a_child_shows_how_far_it_has_seen_the_logs_above(pair: tuple[Uplink, Wire]) -> None:
    """One checkpoint a log: the longest that came with any bundle."""
    uplink, wire = pair
    await uplink.round()
    node = uplink.node
    (seen,) = await node.read(lambda conn: newest_above(node.ledger, conn))
    shown = decode_checkpoint(seen.checkpoint)
    own = await wire.hub.node.read(wire.hub.node.ledger.own_row)
    assert (shown.log, shown.size) == (own.log, own.size)


async def test_what_is_given_back_comes_in_pages_and_nothing_is_left_out(
    pair: tuple[Uplink, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the pages: registers first, then every entry that is held of the logs lacked, each once; not those of others."""
    uplink, wire = pair
    await uplink.round()
    node, log = uplink.node, wire.hub.node.ledger.identity.log
    held = await node.read(lambda conn: {row[0] for row in conn.execute("SELECT e.raw FROM entries e JOIN logs l ON l.id = e.log WHERE l.node = ?", (CITY,))})
    for size in (1, 1 << 20):
        monkeypatch.setattr(returning, "GIVEN_BYTES", size)
        pages, cursor = [], Cursor(0)
        while not pages or pages[-1].more:
            given, cursor = await node.store.own(lambda conn, cursor=cursor: page(node.ledger, conn, [messages.Held(log, 0)], cursor))  # type: ignore[misc]
            pages.append(given)
        raws = [entry.raw for one in pages for bundle in one.bundles for entry in bundle.entries]
        assert sorted(raws) == sorted(held)
        assert all(decode_header(raw).node == CITY for raw in raws)
        assert [news.number for one in pages for news in one.registers] == list(range(1, node.rules.number + 1))
        assert (len(pages) > 2) is (size == 1)
    own = node.ledger.identity.log
    given, _ = await node.store.own(lambda conn: page(node.ledger, conn, [messages.Held(own, 0)], Cursor(node.rules.number)))
    assert given.bundles == ()


async def test_a_hub_that_is_whole_is_given_nothing(pair: tuple[Uplink, Wire]) -> None:
    """Where the hub holds what was shown, hello is one question, and nothing else is said."""
    uplink, wire = pair
    await uplink.round()
    uplink.comparing.done = False
    wire.carried.clear()
    await uplink.round()
    assert "give" not in wire.carried
    assert wire.carried.count("hello") == 1
