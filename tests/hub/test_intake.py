"""Pushes at a hub: durable and folded when acknowledged; several in one commit, and one bad one hurts nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import intake
from node.ledger import Changes, Draft
from node.registrar import take_in
from node.store.database import Connection
from protocol import messages
from protocol.errors import Overloaded, StoreError, TongbanError
from protocol.log import ChangeSet, LogId, decode_body, decode_header
from tests import story
from tests.hub.calling import Caller, city_and_child, clock, count, dump
from tests.node.building import CITY, EAST, HOUR_MS, ID_NUMBER, MINUTE_MS, START_MS, WEST, Act, ask, enrol, hire, opened
from tests.world import World


@pytest.fixture
async def pair(tmp_path: Path) -> tuple[Caller, Caller]:
    """Two children of one hub, each with a case to push."""
    east = await city_and_child(tmp_path)
    west = Caller(await enrol(tmp_path / "west", east.hub.node, WEST, seed=7), east.hub)
    await west.login()
    for child in (east, west):
        await hire(child.node)
        await opened(child.node)
    return east, west


async def receipts(hub: Any) -> list[dict[str, Any]]:
    """Return the bodies of the hub's own receipts."""
    rows = await hub.read(lambda conn: conn.execute("SELECT raw, body FROM entries ORDER BY id").fetchall())
    return [decode_body(body) for raw, body in rows if (header := decode_header(raw)).type == "receipt" and header.node == hub.id]


async def test_a_receipt_names_what_was_received(pair: tuple[Caller, Caller]) -> None:
    """The acknowledgement is an entry of the hub's log: its time, and each log's size and root; the reply is its bundle."""
    east, _ = pair
    push = await east.next_push()
    reply = await east.push(push)
    identity = east.node.ledger.identity
    row = await east.node.read(east.node.ledger.own_row)
    (body,) = await receipts(east.hub.node)
    assert body == {"of": [[[identity.node, identity.incarnation], row.size, row.root]]}
    assert reply.held == (messages.Held(LogId(identity.node, identity.incarnation), row.size),)
    assert reply.receipt is not None
    assert decode_header(reply.receipt.entries[0].raw).fields == {"at": START_MS}


async def test_pushes_that_wait_share_a_commit_and_get_a_receipt_each(pair: tuple[Caller, Caller]) -> None:
    """Children at once cost one transaction; every reply leaves after it."""
    pushes = [await child.next_push() for child in pair]
    commits: list[Changes] = []
    pair[0].hub.node.listeners.append(commits.append)
    replies = await asyncio.gather(*(child.push(push) for child, push in zip(pair, pushes, strict=True)))
    assert len([one for one in commits if one.logs]) == 1
    assert len({reply.receipt.entries[0].raw for reply in replies if reply.receipt}) == 2


async def test_a_bad_push_in_a_group_hurts_nobody_else(pair: tuple[Caller, Caller]) -> None:
    """Its savepoint is rolled back; the others of the same commit are acknowledged and durable."""
    east, west = pair
    good, whole = await west.next_push(), await east.next_push()
    bad = msgspec.structs.replace(whole, sets=(*whole.sets, msgspec.structs.replace(whole.sets[0], entries=[])))
    answers = await asyncio.gather(east.send("push", bad), west.send("push", good))
    assert [answer.status for answer in answers] == [400, 200]
    assert await count(east.hub.node, "logs", f"node = '{EAST}' AND size > 0") == 0
    assert await count(east.hub.node, "logs", f"node = '{WEST}' AND size > 0") == 1
    await east.push(whole)
    assert (await ask(east.hub.node, "verify"))["problems"] == []
    assert (await ask(east.hub.node, "rebuild"))["problems"] == []


async def test_rules_of_a_refused_push_are_forgotten(pair: tuple[Caller, Caller], tmp_path: Path) -> None:
    """A key that came with a push that was rolled back is not known afterwards, also when the commit went on with others."""
    east, west = pair
    hub = east.hub.node
    await enrol(tmp_path / "below", east.node, f"{EAST}-abc", seed=12)  # known to its hub, not yet to the city
    push = await east.next_push()
    bad = msgspec.structs.replace(push, sets=(*push.sets, msgspec.structs.replace(push.sets[0], entries=[])))
    answers = await asyncio.gather(east.send("push", bad), west.send("push", await west.next_push()))
    assert [answer.status for answer in answers] == [400, 200]
    assert hub.rules.record(f"{EAST}-abc") is None
    await east.push(push)
    assert hub.rules.record(f"{EAST}-abc") is not None


async def test_a_mistake_of_ours_in_one_push_leaves_the_others_and_the_worker(pair: tuple[Caller, Caller], monkeypatch: pytest.MonkeyPatch) -> None:
    """What we did not foresee becomes one refusal; the next pushes are taken as ever."""
    east, _ = pair
    honest = intake.accept_set

    def broken(ledger: Any, conn: Connection, batch: Any, change: Any) -> Any:
        found = honest(ledger, conn, batch, change)
        if found.row.log.node == EAST:
            raise ZeroDivisionError
        return found

    pushes = [await child.next_push() for child in pair]
    with monkeypatch.context() as patched:
        patched.setattr(intake, "accept_set", broken)
        answers = await asyncio.gather(*(child.send("push", push) for child, push in zip(pair, pushes, strict=True)))
    assert [answer.status for answer in answers] == [500, 200]
    await east.push(pushes[0])
    assert (await ask(east.hub.node, "verify"))["problems"] == []


async def test_a_full_disk_fails_the_group_and_nothing_else(pair: tuple[Caller, Caller]) -> None:
    """Everybody is told to come back, nothing of the group is kept, and with space the same pushes are taken."""
    east, west = pair
    hub = east.hub.node
    for number in range(40):
        await opened(east.node, f"甲{number}")
        await opened(west.node, f"乙{number}")
    pushes = [await child.next_push() for child in pair]
    before = await dump(hub)
    await hub.store.own(lambda conn: conn.execute(f"PRAGMA max_page_count = {conn.execute('PRAGMA page_count').fetchone()[0] + 4}"))
    answers = await asyncio.gather(*(child.send("push", push) for child, push in zip(pair, pushes, strict=True)))
    assert [answer.status for answer in answers] == [507, 507]
    assert {messages.decode(answer.body, messages.Refusal).code for answer in answers} == {"store_full"}
    assert await dump(hub) == before
    await hub.store.own(lambda conn: conn.execute("PRAGMA max_page_count = 1073741823"))
    for child, push in zip(pair, pushes, strict=True):
        await child.push(push)
    assert (await ask(hub, "verify"))["problems"] == []
    assert (await ask(hub, "rebuild"))["problems"] == []


async def test_a_caller_that_hangs_up_cancels_nothing(pair: tuple[Caller, Caller]) -> None:
    """The handler's task ends; the commit, and the others in it, go on."""
    east, west = pair
    pushes = [await child.next_push() for child in pair]
    gone = asyncio.ensure_future(east.send("push", pushes[0]))
    stays = asyncio.ensure_future(west.push(pushes[1]))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await count(east.hub.node, "logs", f"node = '{EAST}' AND size > 0") == 1
    assert (await east.push(pushes[0])).held[0].size == (await east.node.read(east.node.ledger.own_row)).size


async def test_one_push_of_a_child_waits_at_a_time(pair: tuple[Caller, Caller]) -> None:
    """A child that floods is told to come back; it takes no place from the others."""
    east, west = pair
    push = await east.next_push()
    flood = [asyncio.ensure_future(east.send("push", push)) for _ in range(6)]
    honest = asyncio.ensure_future(west.send("push", await west.next_push()))
    answers = await asyncio.gather(*flood)
    assert (await honest).status == 200
    statuses = sorted(answer.status for answer in answers)
    assert statuses[0] == 200
    assert 503 in statuses
    assert all(answer.retry_after_s for answer in answers if answer.status == 503)


async def test_too_many_waiting_pushes_are_given_a_slot(pair: tuple[Caller, Caller]) -> None:
    """A full queue refuses with a time to come back, and keeps what it has."""
    east, _ = pair
    east.hub.intake._waiting_max = 1
    work = [asyncio.ensure_future(child.send("push", await child.next_push())) for child in pair]
    answers = await asyncio.gather(*work)
    assert sorted(answer.status for answer in answers) == [200, 503]


async def test_one_slow_push_sends_nobody_away_for_long(pair: tuple[Caller, Caller]) -> None:
    """The slot follows what pushes take, and a single one that waited behind a storm says little: seconds, never hours."""
    east, _ = pair
    honest = east.hub.intake._commit

    async def slow(group: list[Any]) -> None:
        clock(east.hub.node).pass_ms(HOUR_MS)  # the whole loop stood still
        await honest(group)

    east.hub.intake._commit = slow  # type: ignore[method-assign]
    await east.push()
    slot_s = east.hub.intake._waiting_max * east.hub.intake._push_s
    assert slot_s < 60


async def test_the_receive_time_never_falls(pair: tuple[Caller, Caller]) -> None:
    """A hub whose clock is put back goes on from where it was."""
    east, west = pair
    await east.push()
    clock(east.hub.node).at_ms -= HOUR_MS
    await west.push()
    rows = await east.hub.node.read(lambda conn: conn.execute("SELECT at FROM receipts ORDER BY entry").fetchall())
    assert [at for (at,) in rows] == [START_MS, START_MS]


# --- times


async def dated(child: Caller) -> list[str]:
    """Return the types of the hub's entries that date another's."""
    rows = await child.hub.node.read(lambda conn: conn.execute("SELECT raw FROM entries ORDER BY id").fetchall())
    return [header.type for (raw,) in rows if (header := decode_header(raw)).type == "time"]


@pytest.mark.parametrize(("shift_ms", "expected"), [(0, []), (-4 * MINUTE_MS, []), (-HOUR_MS, ["time"]), (HOUR_MS, ["time"])])
async def test_a_claim_outside_its_window_is_dated_by_the_first_hub(tmp_path: Path, shift_ms: int, expected: list[str]) -> None:
    """A clock that is off gets a side entry with the receive time; within five minutes the claim counts."""
    child = await city_and_child(tmp_path)
    await hire(child.node)
    await child.push()
    clock(child.node).at_ms += shift_ms
    await opened(child.node)
    await child.push()
    assert await dated(child) == expected


async def test_what_was_entered_offline_keeps_its_time(tmp_path: Path) -> None:
    """Claims since the last contact count, however late they come."""
    child = await city_and_child(tmp_path)
    await hire(child.node)
    await child.push()
    for _ in range(5):
        clock(child.node).pass_ms(8 * HOUR_MS)
        await opened(child.node)
    clock(child.hub.node).pass_ms(41 * HOUR_MS)
    await child.login()
    await child.push()
    assert await dated(child) == []


async def test_a_long_backlog_keeps_its_times_while_new_heads_are_shown(tmp_path: Path) -> None:
    """A head dates what it commits to, also when longer ones are shown before the log has reached it."""
    child = await city_and_child(tmp_path)
    await hire(child.node)
    await child.push()
    for _ in range(3):
        clock(child.node).pass_ms(8 * HOUR_MS)
        await opened(child.node)
        await child.node.store.own(child.node.ledger.seal)
    clock(child.hub.node).pass_ms(25 * HOUR_MS)
    clock(child.node).pass_ms(HOUR_MS)
    await child.login()
    backlog = await child.next_push()
    first = await child.push(msgspec.structs.replace(backlog, sets=backlog.sets[:-2]))  # the head, and a part
    await opened(child.node)  # another entry, and so a longer head
    longer = await child.next_push()
    assert first.receipt is not None
    await child.push(longer)
    assert await dated(child) == []


async def test_an_afterwards_entry_is_not_dated(tmp_path: Path) -> None:
    """补录 counts from its claimed date."""
    child = await city_and_child(tmp_path)
    await hire(child.node)
    await child.push()
    await ask(child.node, "case.open", Act("1001", "3", START_MS - 24 * HOUR_MS), item="permit", applicant="王伟", id_number="11010519491231002X")
    await child.push()
    assert await dated(child) == []


# --- bodies


def test_a_relay_cannot_change_what_a_department_wrote(tmp_path: Path) -> None:
    """A body is proven with its case's salt, also where the case was opened in another log; a false one is not kept."""
    with World(1, tmp_path) as world:
        world.run(_twisted_on_the_way(world))


async def _twisted_on_the_way(world: World) -> None:
    oracle, true, false = story.Oracle(), "同意补贴一百元整", "同意补贴九千元整"
    await story.build(world, ((story.D1, CITY), (story.V1, story.D1), (story.D2, CITY), (story.SOCIAL, story.D2), (story.CIVIL, story.D2)))
    case = (await story.step(world, oracle, story.V1, "a", "case.open", item="cross", applicant="王伟", id_number=ID_NUMBER))["case"]
    await story.step(world, oracle, story.V1, "b", "case.offer", case=case, to=story.D2)
    for kind, params in (("take", {}), ("accept", {}), ("dispatch", {"stage": story.STAGE})):
        await story.step(world, oracle, story.D2, kind, f"case.{kind}", case=case, **params)
    await world.settle()
    world.cut(story.D2, CITY)
    await story.step(world, oracle, story.SOCIAL, "e", "case.task", case=case, task="社保核验", result="pass", text=true)
    await world.settle_below(story.D2)
    relay = Caller(world.places[story.D2].node, world.places[CITY].hub)
    await relay.login()
    push = await relay.next_push()
    await relay.push(msgspec.structs.replace(push, sets=tuple(twisted(change, true.encode(), false.encode()) for change in push.sets)))
    shown = await story.ask(world.places[CITY], "show", case=case)
    step = next(one for one in shown["timeline"] if one["type"] == "task")
    assert (step["effect"], step["details"].get("text")) == ("applied", None)
    assert (await story.ask(world.places[CITY], "verify"))["problems"] == []


def twisted(change: ChangeSet, old: bytes, new: bytes) -> ChangeSet:
    """Return a set with a text exchanged for another of the same length, wherever a body holds it."""
    entries = [
        one.replace(old, new) if isinstance(one, bytes) else msgspec.structs.replace(one, body=one.body and one.body.replace(old, new))
        for one in change.entries
    ]
    return msgspec.structs.replace(change, entries=entries)


# --- who is taken


async def test_a_retired_nodes_entries_are_still_taken(tmp_path: Path) -> None:
    """What it wrote stands; it takes no more part."""
    child = await city_and_child(tmp_path)
    await hire(child.node)
    case = await opened(child.node)
    await state(child.hub.node, "node.retire", {"node": EAST})
    await child.push()
    assert (await ask(child.hub.node, "show", case=case))["state"] == "received"


async def test_a_revoked_keys_entries_are_taken_without_effect(tmp_path: Path) -> None:
    """Carried by others they are kept and shown, behind the cut void; what lay before the cut stands."""
    child = await city_and_child(tmp_path)
    await hire(child.node)
    before = await opened(child.node)
    await child.push()
    row = await child.node.read(child.node.ledger.own_row)
    identity = child.node.ledger.identity
    after = await opened(child.node)
    await child.push()
    fields = {"node": EAST, "key": identity.key.public, "cuts": [[identity.incarnation, row.size, row.root]]}
    await state(child.hub.node, "node.revoke", fields)
    shown = [await ask(child.hub.node, "list", find="王伟")]
    found = {one["case"]: one["state"] for one in shown[0]}
    assert found[before] == "received"
    assert found.get(after) != "received"
    assert (await ask(child.hub.node, "rebuild"))["problems"] == []


async def state(node: Any, kind: str, fields: dict[str, Any]) -> None:
    """State a rule at the root."""

    def unit(conn: Connection, changes: Changes) -> None:
        node.ledger.append(conn, [Draft(kind, node.clock.wall_ms(), fields)], changes)
        take_in(node.ledger, conn, changes, node.clock.wall_ms())

    await node.write(unit)


def test_errors_are_turned_into_ours() -> None:
    """Whatever a unit raised, another machine can be told."""
    import sqlite3

    from node.store.database import ours

    assert isinstance(ours(sqlite3.OperationalError("database or disk is full")), StoreError)
    assert ours(ZeroDivisionError()).code == "error"
    refused = TongbanError("x")
    assert ours(refused) is refused
    assert issubclass(Overloaded, TongbanError)
    assert CITY


async def test_a_child_is_given_more_room_while_nobody_else_writes(pair: tuple[Caller, Caller]) -> None:
    """A backlog goes up in large pushes; while other children, or clerks here, want the writer often, in small ones."""
    east, west = pair
    hub = east.hub.node
    clock(hub).pass_ms(MINUTE_MS)  # the enrolments are over
    assert (await east.push()).room == intake.ROOM_ALONE_BYTES
    assert (await west.push()).room == intake.ROOM_ALONE_BYTES  # one push of another is no crowd
    for _ in range(intake.OFTEN):
        await hub.write(lambda _conn, _changes: None)  # clerks at the hub
    await opened(east.node)
    assert (await east.push()).room == intake.ROOM_SHARED_BYTES
    clock(hub).pass_ms(MINUTE_MS)
    await opened(east.node)
    assert (await east.push()).room == intake.ROOM_ALONE_BYTES

