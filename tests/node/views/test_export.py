"""The export: every case entry exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import InputError
from tests.node.building import Act, ask, brought_to, found, furnish, opened

KEYS = {
    *("case", "key", "log", "index", "type", "activity", "source_id", "node", "officer", "claimed_at", "received_at"),
    *("effect", "recorded_afterwards"),
}


async def test_every_case_entry_stands_in_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a page, (log, index) differ and counts by type are those of the cases."""
    city = await furnish(await found(tmp_path))
    for _ in range(5):
        await brought_to(city, await opened(city), "accept", "decide", "finish")
    monkeypatch.setattr("node.views.export.PAGE_ENTRIES", 7)
    rows = await ask(city, "export", entries=True)
    assert set(rows[0]) == KEYS
    assert len({(row["log"], row["index"]) for row in rows}) == len(rows) == 20
    assert [row["type"] for row in rows] == ["open", "accept", "decide", "finish"] * 5
    assert {row["effect"] for row in rows} == {"applied"}


async def test_effects_are_those_of_the_fold(tmp_path: Path) -> None:
    """A case that is not simple is folded; one that waits is called waiting."""
    city = await furnish(await found(tmp_path))
    await brought_to(city, await opened(city), "accept")
    await city.write(lambda conn, _: conn.execute("UPDATE cases SET simple = 0"))
    assert [row["effect"] for row in await ask(city, "export", entries=True)] == ["applied", "applied"]


async def test_a_past_event_keeps_its_source(tmp_path: Path) -> None:
    """An event of another system shows its id, activity and claimed time, and that it was recorded afterwards."""
    city = await furnish(await found(tmp_path))
    act = Act("1001", "3", city.clock.wall_ms() - 1_000, ("s-1", "收件"))
    await ask(city, "case.open", act, item="permit", applicant="王伟")
    (row,) = await ask(city, "export", entries=True)
    assert (row["source_id"], row["activity"], row["recorded_afterwards"]) == ("s-1", "收件", True)
    assert row["claimed_at"] == "2025-11-25T09:59:59.000+08:00"


async def test_an_empty_node_exports_nothing(tmp_path: Path) -> None:
    """No cases, no rows; and what is to be exported must be said."""
    city = await found(tmp_path)
    assert await ask(city, "export", entries=True) == []
    with pytest.raises(InputError, match="export"):
        await ask(city, "export")
