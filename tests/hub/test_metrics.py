"""What a hub counts."""

from __future__ import annotations

from pathlib import Path

from hub import metrics
from hub.app import Hub
from hub.metrics import CHILDREN_MAX, PROGRAMS_MAX
from node.metrics import render
from protocol import messages
from tests.hub.calling import CERTIFICATE, Caller
from tests.node.building import CITY, EAST, HOUR_MS, ID_NUMBER, enrol, found, furnish, hire, opened, size_of
from tests.node.test_metrics import numbers


async def collected(hub: Hub) -> dict[str, float]:
    return numbers(await text_of(hub))


async def text_of(hub: Hub) -> str:
    return await hub.node.read(lambda conn: render(metrics.of_hub(hub, conn)))


async def pair(folder: Path) -> tuple[Hub, Caller]:
    city = await furnish(await found(folder / "city"))
    east = await hire(await enrol(folder / "east", city, EAST))
    hub = Hub(city, CERTIFICATE)
    return hub, Caller(east, hub)


async def test_pushes_and_refusals_are_counted(tmp_path: Path) -> None:
    """What was taken in, how many entries, and what was refused by code; nothing of people."""
    hub, caller = await pair(tmp_path)
    case = await opened(caller.node)
    await caller.login()
    pushed = await caller.push()
    assert pushed.held
    await caller.refused("push", b"nonsense", "decode")
    await caller.refused("push", b"nonsense", "decode")
    await caller.send("pull", messages.Pull(messages.Cursors(-1, -1, b"", -1)), bytes(16))
    shown = await collected(hub)
    assert shown["tongban_pushes_total"] == 1
    assert shown["tongban_pushed_entries_total"] == await size_of(caller.node)
    assert shown['tongban_requests_refused_total{code="decode"}'] == 2
    assert shown['tongban_requests_refused_total{code="session"}'] == 1
    assert (shown["tongban_intake_waiting"], shown["tongban_intake_waiting_seconds"]) == (0, 0)
    assert shown["tongban_sessions"] == 1
    assert {name: count for name, count in shown.items() if "callers" in name} == {'tongban_callers{program="other"}': 1}
    text = await text_of(hub)
    assert not [canary for canary in (ID_NUMBER, "王伟", case) if canary in text]


async def test_each_child_has_its_lag_and_last_contact(tmp_path: Path) -> None:
    """Entries held, entries signed for but not sent, and when it was heard; a child that never called has no time."""
    hub, caller = await pair(tmp_path)
    await caller.login()
    await caller.push()
    now_s = hub.node.clock.wall_ms() / 1_000
    row = await hub.node.read(lambda conn: conn.execute("SELECT id, size FROM logs WHERE node = ?", (EAST,)).fetchone())
    await hub.node.write(
        lambda conn, _: conn.execute("UPDATE logs SET committed = ? WHERE id = ?", (row[1] + 7, row[0]))
    )
    await enrol(tmp_path / "west", hub.node, "650103000000", seed=3)
    hub.node.clock.at_ms += HOUR_MS  # type: ignore[attr-defined] # the virtual clock
    shown = await collected(hub)
    assert shown["tongban_children"] == 2
    assert shown[f'tongban_child_entries{{child="{EAST}"}}'] == row[1]
    assert shown[f'tongban_child_lag_entries{{child="{EAST}"}}'] == 7
    assert shown[f'tongban_child_contact_timestamp_seconds{{child="{EAST}"}}'] == now_s
    assert 'tongban_child_contact_timestamp_seconds{child="650103000000"}' not in shown
    assert not any(CITY in name for name in shown)


async def test_labels_are_bounded(tmp_path: Path) -> None:
    """A contact of who is no child is no series, a thousand children are the most, and what a child calls its program is no text of its own."""
    hub, _ = await pair(tmp_path)
    said = [f"tongban/0.{number}" for number in range(50)] + ["王伟\n", "tongban/٣", "x" * 200, "tongban/1.2.3-王"]
    hub.sessions.programs = {str(place): program for place, program in enumerate(said)}
    names = [name for name in await collected(hub) if "callers" in name]
    assert len(names) == PROGRAMS_MAX
    assert names[0] == 'tongban_callers{program="other"}'
    rows = [(f"65010200{number:04d}", 1_000) for number in range(CHILDREN_MAX + 5)]
    await hub.node.write(lambda conn, _: conn.executemany("INSERT INTO contacts (node, at) VALUES (?, ?)", rows))
    shown = await collected(hub)
    assert sum("child_contact" in name for name in shown) == 1  # EAST is among the made-up ones
