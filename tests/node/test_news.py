"""Registers as they travel: in order, each with its facts, within the room but one at least."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import news
from protocol import messages
from protocol.log import decode_header
from tests.hub.calling import city_and_child
from tests.node.building import ask
from tests.story import calendar


@pytest.mark.parametrize("with_texts", [False, True])
async def test_registers_come_in_order_with_their_facts(tmp_path: Path, with_texts: bool) -> None:
    """A page is never empty while more is held; upward, item texts come along."""
    hub = (await city_and_child(tmp_path)).hub.node
    await ask(hub, "calendar.publish", calendar=calendar(2))

    async def page(held: int, room: int) -> list[messages.RegisterNews]:
        found, _ = await hub.store.own(lambda conn: news.registers_after(hub.ledger, conn, held, room, with_texts=with_texts))
        return found

    whole = await page(0, 1 << 20)
    assert [one.number for one in whole] == list(range(1, hub.rules.number + 1))
    assert [one.number for one in await page(1, 0)] == [2]
    assert await page(hub.rules.number, 1 << 20) == []
    facts = [entry for one in whole for bundle in one.facts for entry in bundle.entries]
    texts = [entry.body for entry in facts if decode_header(entry.raw).type == "catalogue.item"]
    assert texts
    assert all((text is not None) is with_texts for text in texts)
