"""A hub's side of files carried by hand: it takes and receipts as on the line, and answers from where the child stands."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import carrying
from hub.app import Hub
from hub.serving import logs_below, upstream_receipts
from node import faults, operations
from node.carrying import Cargo, upward, write_file
from node.folder import Folder
from node.keyring import Keyring
from node.ledger import Draft
from node.node import Node
from node.office import Act
from node.ports import Response
from node.registrar import take_in
from node.rekeying import rotate
from node.store import logs
from node.uplink import Settings, Uplink
from protocol import carry, messages
from protocol.errors import DecodeError, GapFound, InputError, NotPermitted, PeerError
from protocol.log import decode_header
from tests import sticks
from tests.hub.calling import CERTIFICATE
from tests.node.building import (
    CITY,
    DAY_MS,
    EAST,
    EAST_TOWN,
    EAST_VILLAGE,
    HOUR_MS,
    MINUTE_MS,
    WEST,
    ask,
    brought_to,
    enrol,
    found,
    furnish,
    hire,
    item,
    opened,
    seal,
    show,
)
from tests.sticks import added_up, take, write


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[Node]:
    node = await furnish(await found(tmp_path / "city"))
    yield node
    await node.close()


@pytest.fixture
async def east(tmp_path: Path, city: Node) -> AsyncIterator[Node]:
    node = await hire(await enrol(tmp_path / "east", city, EAST))
    yield node
    await node.close()


async def stated(node: Node) -> list[tuple[str, bytes]]:
    """Return type and bytes of each entry of a node's own log."""
    rows = await node.read(lambda conn: logs.entries_between(conn, node.ledger.own_row(conn).id, 0, 1_000))
    return [(decode_header(row.raw).type, row.raw) for row in rows]


async def test_a_file_is_receipted_once(city: Node, east: Node) -> None:
    """The receipt is stated with what it receipts; the same file again states nothing and changes nothing."""
    await opened(east)
    file = await write(east)
    assert added_up(await take(city, file)) == {"entries": 3, "stated": 1}
    assert [kind for kind, _ in await stated(city)].count("receipt") == 1
    before = await city.read(sticks.held)
    assert added_up(await take(city, file)) == {"known": 3}
    assert await city.read(sticks.held) == before


async def test_the_answer_begins_where_the_child_stands(city: Node, east: Node) -> None:
    """A child's file tells its cursors: the next file for it brings what is behind them, and an older file moves nothing back."""
    first = await write(east)
    await take(city, first)
    await ask(city, "catalogue.publish", items=[item("other")])
    whole = await write(city, EAST)
    east.clock.pass_ms(MINUTE_MS)  # type: ignore[attr-defined]
    city.clock.pass_ms(MINUTE_MS)  # type: ignore[attr-defined]
    await take(east, whole)
    case = await opened(east)
    await ask(east, "case.offer", case=case, to=CITY)
    await take(city, await write(east))
    await brought_to(city, case, "take")
    await take(city, first)  # an old one, late: of before the newest rules
    page = (await city.store.own(lambda conn: carrying._state_of(conn, EAST))).cursors
    assert page.registers == east.rules.number
    assert added_up(await take(east, await write(city, EAST)))["entries"] >= 1
    assert (await show(east, case))["holder"] == CITY


async def test_a_child_that_said_nothing_gets_everything(city: Node, east: Node) -> None:
    """Without any word of the child the file begins at the beginning; so does one with `--all`."""
    for whole in (False, True):
        _, pieces = sticks.split(await write(city, EAST, whole=whole))
        assert len(pieces) >= 2
        assert added_up(await take(east, await write(city, EAST, whole=whole))).keys() <= {"known"}


async def test_a_clock_far_ahead_does_not_hold_for_years(city: Node, east: Node) -> None:
    """A child's file of 2040 is believed only until the next one comes."""
    east.clock.pass_ms(5_000 * DAY_MS)  # type: ignore[attr-defined]
    await take(city, await write(east))
    east.clock.pass_ms(-5_000 * DAY_MS + MINUTE_MS)  # type: ignore[attr-defined]
    city.clock.pass_ms(MINUTE_MS)  # type: ignore[attr-defined]
    await ask(city, "catalogue.publish", items=[item("other")])
    await take(east, await write(city, EAST))
    await take(city, await write(east))
    noted = (await city.store.own(lambda conn: carrying._state_of(conn, EAST))).cursors
    assert noted.registers == east.rules.number == city.rules.number


async def test_a_village_is_not_blamed_for_the_days_of_the_stick(city: Node, east: Node) -> None:
    """What a clerk enters between writing the file and its arrival keeps its time: the station spoke when it wrote the file."""
    await opened(east)
    file = await write(east)
    for node in (city, east):
        node.clock.pass_ms(2 * HOUR_MS)  # type: ignore[attr-defined]
    await opened(east, "李梅")  # the stick is on its way
    for node in (city, east):
        node.clock.pass_ms(20 * HOUR_MS)  # type: ignore[attr-defined]
    await take(city, file)
    await take(city, await write(east))
    assert "time" not in {kind for kind, _ in await stated(city)}


async def test_an_old_file_does_not_make_a_station_heard(city: Node, east: Node) -> None:
    """Bringing an old stick again does not narrow the times that count for the station's next entries."""
    await opened(east)
    file = await write(east)
    await take(city, file)
    for node in (city, east):
        node.clock.pass_ms(3 * DAY_MS)  # type: ignore[attr-defined]
    await opened(east, "李梅")
    for node in (city, east):
        node.clock.pass_ms(DAY_MS)  # type: ignore[attr-defined]
    await take(city, file)
    await take(city, await write(east))
    assert "time" not in {kind for kind, _ in await stated(city)}


async def test_backdating_behind_a_file_is_seen(city: Node, east: Node) -> None:
    """What a station enters after a file, and claims for a time before that file, gets the hub's time."""
    await opened(east)
    for node in (city, east):
        node.clock.pass_ms(3 * DAY_MS)  # type: ignore[attr-defined]
    await take(city, await write(east))
    east.clock.pass_ms(-2 * DAY_MS)  # type: ignore[attr-defined]
    await opened(east, "李梅")
    await take(city, await write(east))
    assert [kind for kind, _ in await stated(city)].count("time") == 1


async def test_a_hub_relays_what_it_holds(city: Node, east: Node, tmp_path: Path) -> None:
    """A township carries on for its village, and the village's receipts come down through it."""
    town = await _below(tmp_path / "town", east, EAST_TOWN)
    await opened(town)
    assert added_up(await take(east, await write(town)))["stated"] == 1
    up = added_up(await take(city, await write(east)))
    assert up["entries"] >= 3 + 2  # the village's, and the district's own with invitation and enrolment
    await take(east, await write(city, EAST))
    from_above = await _only_above(east, town)
    assert added_up(await take(town, from_above)) == {"receipts": 1}  # the city's word is kept, and is not the parent's
    assert added_up(await take(town, await write(east, EAST_TOWN)))["acked"] == 3
    above = (await ask(town, "status"))["acked"]
    assert (above["parent"]["node"], above["second"]["node"]) == (EAST, CITY)
    await town.close()


async def _only_above(hub: Node, child: Node) -> bytes:
    """Return a file with the receipts of those above a hub, without its own."""
    bundles, _ = await hub.store.own(
        lambda conn: upstream_receipts(hub.ledger, conn, logs_below(hub.ledger, conn, child.id))
    )

    async def cargo() -> AsyncIterator[Cargo]:
        yield Cargo(carry.Kind.RECEIPTS, messages.encode(carry.Receipts(tuple(bundles))))

    return b"".join([part.data async for part in write_file(hub, child.id, cargo())])


async def _below(folder: Path, hub: Node, node: str) -> Node:
    """Enrol a node below a hub whose network's root is away: no register names it yet."""
    return await hire(await enrol(folder, hub, node, seed=int(node[-6:])))


async def test_the_answer_brings_keys_that_no_register_names(city: Node, east: Node, tmp_path: Path) -> None:
    """A case by a station that the root has not registered is taken in by hand too: the file has the chain of its key."""
    other = await _below(tmp_path / "other", east, EAST_VILLAGE)
    one = await _below(tmp_path / "one", east, EAST_TOWN)
    case = await opened(one)
    await ask(one, "case.offer", case=case, to=EAST)
    await take(east, await write(one))
    await ask(east, "case.take", case=case)
    await ask(east, "case.offer", case=case, to=EAST_VILLAGE)
    assert other.rules.record(EAST_TOWN) is None
    file = await write(east, EAST_VILLAGE)
    await take(other, file)
    assert (await show(other, case))["digest"] == (await show(east, case))["digest"]
    before = await other.read(sticks.held)
    await take(other, file)
    assert await other.read(sticks.held) == before
    for node in (one, other):
        await node.close()


async def test_the_answer_brings_keys_that_replaced_registered_ones(city: Node, east: Node, tmp_path: Path) -> None:
    """A station that replaced its key while the root was away is believed by those who hold its old one: the file has the chain."""
    other = await _below(tmp_path / "other", east, EAST_VILLAGE)
    one = await _below(tmp_path / "one", east, EAST_TOWN)
    await take(city, await write(east))
    await take(east, await write(city, EAST))
    await take(other, await write(east, EAST_VILLAGE))
    assert other.rules.now.node(EAST_TOWN) is not None
    folder = Folder(tmp_path / "keys")
    folder.create()
    one.keyring = Keyring(folder)
    await rotate(one)
    case = await opened(one)
    await ask(one, "case.offer", case=case, to=EAST_VILLAGE)
    await take(east, await write(one))
    await take(other, await write(east, EAST_VILLAGE))
    assert (await show(other, case))["digest"] == (await show(east, case))["digest"]
    for node in (one, other):
        await node.close()


async def test_what_a_case_misses_comes_with_the_next_file(city: Node, east: Node) -> None:
    """An entry that was kept back makes the case wait; the station's file says so, and the answer brings the whole case."""
    case = await opened(east)
    await ask(east, "case.offer", case=case, to=CITY)
    await take(city, await write(east))
    await brought_to(city, case, "take")
    await take(east, await _without_the_first_entry(city))
    await _later(city, east)
    await take(city, await write(east))  # its cursor is behind the entry that it never got
    await brought_to(city, case, "accept")
    await take(east, await write(city, EAST))
    assert len((await _said_by(east)).waiting) == 1
    assert (await show(east, case))["digest"] != (await show(city, case))["digest"]
    await _later(city, east)
    await take(city, await write(east))
    await take(east, await write(city, EAST))
    assert (await show(east, case))["digest"] == (await show(city, case))["digest"]
    assert (await _said_by(east)).waiting == ()


async def _later(*nodes: Node) -> None:
    for node in nodes:
        node.clock.pass_ms(MINUTE_MS)  # type: ignore[attr-defined]


async def _said_by(node: Node) -> carry.State:
    """Return what a node says of itself in its next file."""
    first = await anext(aiter(upward(node)))
    return messages.decode(first.packed, carry.State)


async def _without_the_first_entry(city: Node) -> bytes:
    """Return a file for the station whose pages leave an entry out and move the cursors past it."""
    state = (await city.store.own(lambda conn: carrying._state_of(conn, EAST))).cursors
    page = await city.store.own(lambda conn: carrying._page(city.ledger, conn, EAST, state))
    assert sum(len(bundle.entries) for bundle in page.page.cases) == 1

    async def cargo() -> AsyncIterator[Cargo]:
        less = carry.Page(page.after, msgspec.structs.replace(page.page, cases=()))
        yield Cargo(carry.Kind.PAGE, messages.encode(less))

    return b"".join([part.data async for part in write_file(city, EAST, cargo())])


async def test_a_gap_says_what_to_do(city: Node, east: Node, tmp_path: Path) -> None:
    """A hub put back from an old copy refuses what it cannot join on, and `--all` mends it."""
    await opened(east)
    await take(city, await write(east))
    await take(east, await write(city, EAST))
    await opened(east, "李梅")
    file = await write(east)
    await city.write(lambda conn, _: _lose(conn, city))
    before = await city.read(sticks.held)
    with pytest.raises(GapFound) as caught:
        await take(city, file)
    assert "--all" in caught.value.hint
    changed = {*await city.read(sticks.held)} ^ {*before}
    assert {row[:2] for row in changed} == {("meta", f"carry/{EAST}")}  # the piece before it stays
    assert added_up(await take(city, await write(east, whole=True)))["entries"] == 4


def _lose(conn: Any, city: Node) -> None:
    """Forget all that came from below, as an old copy would."""
    row = next(row for row in logs.load_logs(conn) if row.log.node == EAST)
    for table, column in (("receipts", "log"), ("checkpoints", "log"), ("entries", "log"), ("logs", "id")):
        conn.execute("PRAGMA defer_foreign_keys = ON")
        conn.execute(f"DELETE FROM {table} WHERE {column} = ?", (row.id,))
    conn.execute("DELETE FROM cases")
    conn.execute("DELETE FROM meta WHERE name LIKE 'carry/%'")


async def test_a_revoked_key_brings_nothing(city: Node, east: Node) -> None:
    """A file that a stolen machine signs is refused like its session."""
    await opened(east)
    file = await write(east)
    record = city.rules.record(EAST)
    assert record is not None
    def revoke(conn: Any, changes: Any) -> None:
        now = city.clock.wall_ms()
        city.ledger.append(conn, [Draft("node.revoke", now, {"node": EAST, "key": record.key, "cuts": []})], changes)
        take_in(city.ledger, conn, changes, now)

    await city.write(revoke)
    before = await city.read(sticks.held)
    with pytest.raises(NotPermitted, match="revoked"):
        await take(city, file)
    assert await city.read(sticks.held) == before


async def test_files_go_up_and_to_children_only(city: Node, east: Node, tmp_path: Path) -> None:
    """There is nothing for a neighbour, and the root has no parent."""
    west = await enrol(tmp_path / "west", city, WEST, seed=4)
    await write(city, WEST)
    with pytest.raises(InputError, match="neither above"):
        await write(east, WEST)
    with pytest.raises(InputError, match="no parent"):
        await operations.run(city, "carry.out", {}, Act())
    await west.close()


# --- any order, any repetition; the same as on the line


class Wire:
    """A line without a network: the hub's answers at once."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    async def request(self, _address: str, path: str, body: bytes, *, token: str | None = None, timeout_s: float) -> Response:
        del timeout_s
        answer = await self.hub.handle(path.rsplit("/", 1)[1], bytes.fromhex(token) if token else None, body)
        return Response(answer.status, answer.body, CERTIFICATE, answer.retry_after_s)

    async def close(self) -> None:
        """Nothing to close."""


async def told(folder: Path, *, by_hand: bool) -> list[dict[str, Any]]:
    """Tell one story of a case that is handed over and comes back; return what both ends hold."""
    city = await furnish(await found(folder / "city"))
    east = await hire(await enrol(folder / "east", city, EAST))
    hub = Hub(city, CERTIFICATE)
    case = await opened(east)
    line = Uplink(east, Wire(hub), Settings(("city:1",)))

    async def meet() -> None:
        for node in (city, east):
            node.clock.pass_ms(5 * MINUTE_MS)  # type: ignore[attr-defined]
        if not by_hand:
            await line.round()
            return
        await take(city, await write(east))
        await take(east, await write(city, EAST))

    await ask(east, "case.offer", case=case, to=CITY)
    await meet()
    await brought_to(city, case, "take", "notice")
    await meet()
    await brought_to(east, case, "supplement")
    await meet()
    await brought_to(city, case, "accept", "dispatch", "task:社保核验", "task:民政核验", "decide", "finish")
    await meet()
    await brought_to(east, case, "deliver")
    await meet()
    found_ = [await _end(node, case) for node in (city, east)]
    for node in (city, east):
        await node.close()
    return found_


async def _end(node: Node, case: str) -> dict[str, Any]:
    def read(conn: Any) -> dict[str, Any]:
        receipts = conn.execute("SELECT l.node, r.hub, r.size, r.at FROM receipts r JOIN logs l ON l.id = r.log ORDER BY 1, 2, 3")
        entries = conn.execute("SELECT raw, body FROM entries ORDER BY raw")
        return {"entries": entries.fetchall(), "receipts": receipts.fetchall(), "acks": sorted(logs.acks(conn).values())}

    return {**await node.read(read), "page": await show(node, case), "problems": (await ask(node, "verify"))["problems"]}


async def test_by_hand_it_ends_as_on_the_line(tmp_path: Path) -> None:
    """A case handed over and returned by stick alone ends byte for byte as over the line: entries, receipts, acknowledgements."""
    by_hand, by_line = await told(tmp_path / "hand", by_hand=True), await told(tmp_path / "line", by_hand=False)
    assert by_hand == by_line
    assert [end["problems"] for end in by_hand] == [[], []]
    assert by_hand[0]["page"]["state"] == "finished"
    assert by_hand[0]["page"]["delivered"] is True


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
async def test_any_order_and_repetition_ends_the_same(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Files of both ways, shuffled, repeated, some lost and made anew: once the last two were taken, both ends agree."""
    draw, folder = random.Random(seed), tmp_path_factory.mktemp("any")
    city = await furnish(await found(folder / "city"))
    east = await hire(await enrol(folder / "east", city, EAST))
    sticks_: list[tuple[Node, bytes]] = []
    for number in range(3):
        case = await opened(east, f"王{number}")
        await ask(east, "case.offer", case=case, to=CITY)
        sticks_.append((city, await write(east)))
        for node, file in draw.choices(sticks_, k=3):
            await take(node, file)
        for one in await ask(city, "list", state="received"):
            if draw.random() < 0.7 and one["holder"] != CITY:
                await ask(city, "case.take", case=one["case"])
        sticks_.append((east, await write(city, EAST)))
        for node, file in draw.choices(sticks_, k=3):
            await take(node, file)
    last = [(city, await write(east))]
    await take(*last[0])
    last.append((east, await write(city, EAST)))
    for node, file in [*last, *draw.sample(sticks_, len(sticks_))]:
        await take(node, file)
    pages = [{one["case"]: one for one in await ask(node, "list")} for node in (city, east)]
    assert pages[0].keys() == pages[1].keys()
    for case in pages[0]:
        assert (await show(city, case))["digest"] == (await show(east, case))["digest"]
    assert (await ask(east, "status"))["pending"] == 0
    for node in (city, east):
        assert (await ask(node, "verify"))["problems"] == []
        await node.close()


async def test_a_crash_at_any_point_leaves_a_file_that_can_be_taken_again(city: Node, east: Node) -> None:
    """Each piece is one unit: a process that dies anywhere while a file is taken in keeps all of a piece or nothing of it."""
    case = await opened(east)
    await ask(east, "case.offer", case=case, to=CITY)
    labels: list[str] = []
    with faults.hooked(labels.append):
        await take(city, await write(east))
    await brought_to(city, case, "take", "accept")
    with faults.hooked(labels.append):
        await take(east, await write(city, EAST))
    assert {"carry.state_noted", "carry.push_taken", "carry.page_taken", "carry.receipts_taken", "carry.piece_written"} <= {*labels}
    for label in dict.fromkeys(labels):
        await _crashing(city, east, label)
    assert (await ask(east, "status"))["pending"] == 0
    for node in (city, east):
        assert (await ask(node, "verify"))["problems"] == []


async def _crashing(city: Node, east: Node, label: str) -> None:
    """Take files in both ways with one crash at a label; the second try must do."""
    for node in (city, east):
        node.clock.pass_ms(MINUTE_MS)  # type: ignore[attr-defined]
    case = await opened(east)
    await ask(east, "case.offer", case=case, to=CITY)
    await _twice(lambda: _brought(east, city), label)
    await brought_to(city, case, "take", "accept")
    await _twice(lambda: _brought(city, east), label)
    assert (await show(east, case))["state"] == "accepted"
    assert (await show(east, case))["digest"] == (await show(city, case))["digest"]


async def _brought(giver: Node, taker: Node) -> None:
    await seal(giver)
    await take(taker, await write(giver, taker.id))


async def _twice(work: Any, label: str) -> None:
    def crash(passed: str) -> None:
        if passed == label:
            raise faults.Crash(label)

    try:
        with faults.hooked(crash):
            await work()
    except faults.Crash:
        await work()


# --- the operations


async def test_the_operations_speak_base64_and_tell_each_piece(city: Node, east: Node) -> None:
    """`carry out` gives the file in parts, `carry in` takes some pieces and says what became of each."""
    await opened(east)
    parts = await ask(east, "carry.out")
    assert [part.get("kind") for part in parts] == [None, "state", "push", "end"]
    assert (parts[0]["from"], parts[0]["to"], sum(part.get("entries", 0) for part in parts)) == (EAST, CITY, 3)
    pieces = [base64.b64encode(base64.b64decode(part["data"])[carry.LENGTH_BYTES :]).decode() for part in parts[1:]]
    first = await ask(city, "carry.in", opening=parts[0]["data"], pieces=pieces[:1])
    rest = await ask(city, "carry.in", opening=parts[0]["data"], first=1, pieces=pieces[1:])
    assert [(one["entries"], one["stated"], one["end"]) for one in first + rest] == [(0, 0, False), (3, 1, False), (0, 0, True)]
    with pytest.raises(PeerError):
        await ask(city, "carry.in", opening=parts[0]["data"], first=0, pieces=pieces[1:2])
    with pytest.raises(DecodeError, match="base64"):
        await ask(city, "carry.in", opening="?", pieces=[])
    with pytest.raises(InputError, match="pieces"):
        await ask(city, "carry.in", opening=parts[0]["data"], pieces=["x"] * 65)


async def test_a_node_that_stands_still_marks_feeds_too(city: Node, east: Node, tmp_path: Path) -> None:
    """A file taken in while nothing runs is told to other children as if it had come over the line."""
    west = await enrol(tmp_path / "west", city, WEST, seed=4)
    await take(east, await write(city, EAST))
    case = await opened(east)
    await ask(east, "case.offer", case=case, to=WEST)
    assert city.ledger.feed is None
    await take(city, await write(east))
    await take(west, await write(city, WEST))
    assert (await show(west, case))["digest"] == (await show(city, case))["digest"]
    await west.close()
