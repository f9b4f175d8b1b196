"""The scrub finds what the disk changed, mends it by what was signed, signs nothing itself, and names what is left."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node import scrub
from node.inspection import verify
from node.node import Node
from node.store import logs
from node.store.database import Connection
from protocol import codec, messages
from protocol.errors import LinkError, TongbanError
from tests.faults.disk import content_of, lay
from tests.hub.calling import Caller, city_and_child, count
from tests.node.building import VirtualClock, ask, brought_to, carry, hire, opened, seal, store_in


@pytest.fixture
async def caller(tmp_path: Path) -> Caller:
    """A district with cases, all of it also at the city."""
    made = await city_and_child(tmp_path)
    await hire(made.node)
    for number in range(6):
        await brought_to(made.node, await opened(made.node, f"王{number}"), "accept")
    await made.push(await made.next_push())
    await made.node.write(lambda conn, _: made.node.ledger.save_seals(conn))
    return made


async def scrubbed(caller: Caller, **how: Any) -> scrub.Outcome:
    async def fetch(what: messages.Fetch) -> messages.FetchReply:
        return await caller.ask("fetch", what, messages.FetchReply)

    with scrub.attached(caller.node, fetch):
        return await scrub.scrub(caller.node, **how)


async def evidence(node: Node) -> list[Any]:
    """Return all that was signed or stands for it."""

    def read(conn: Connection) -> list[Any]:
        tables = ("entries", "checkpoints", "paths", "logs", "receipts")
        return [sorted(conn.execute(f"SELECT * FROM {one}").fetchall(), key=repr) for one in tables]

    return await node.read(read)


async def signed(node: Node) -> set[bytes]:
    return set(await node.read(lambda conn: [row[0] for row in conn.execute("SELECT signature FROM checkpoints")]))


FLIPS = {
    "raw": "UPDATE entries SET raw = {flip} WHERE id = {own}",
    "body": "UPDATE entries SET body = {flip} WHERE id = (SELECT max(id) FROM entries WHERE log = {log} AND body IS NOT NULL)",
    "opening": "UPDATE entries SET body = {flip} WHERE id = (SELECT min(id) FROM entries WHERE log = {log} AND case_id IS NOT NULL)",
    "checkpoint": "UPDATE checkpoints SET raw = {flip} WHERE log = {log}",
    "signature": "UPDATE checkpoints SET signature = {flip} WHERE log = {log}",
    "peaks": "UPDATE logs SET peaks = {flip} WHERE id = {log}",
    "root": "UPDATE logs SET root = {flip} WHERE id = {log}",
}


def flip(conn: Connection, log_id: int, kind: str) -> None:
    column = {"raw": "raw", "checkpoint": "raw", "opening": "body"}.get(kind, kind)
    flipped = f"CAST(substr({column}, 1, length({column}) - 1) || x'00' AS BLOB)"
    own = f"(SELECT id FROM entries WHERE log = {log_id} AND idx = 4)"
    conn.execute(FLIPS[kind].format(flip=flipped, own=own, log=log_id))


@pytest.mark.parametrize("kind", FLIPS)
async def test_what_the_disk_changed_comes_back_from_the_parent(kind: str, caller: Caller) -> None:
    """Headers, bodies, signatures, sums of the own log: found, fetched, compared with what was signed, equal to what was."""
    node = caller.node
    before, signatures = await evidence(node), await signed(node)
    log_id = await node.read(lambda conn: node.ledger.own_row(conn).id)
    await node.write(lambda conn, _: flip(conn, log_id, kind))
    assert (await verify(node)).problems
    outcome = await scrubbed(caller)
    assert outcome.checked.problems
    assert outcome.left.problems == []
    after = await evidence(node)
    before[1], after[1] = ({row[1:] for row in rows[1]} for rows in (before, after))  # a checkpoint's id is not signed
    assert (before[1] - after[1], after[1] - before[1]) == (set(), set())
    assert after == before
    assert await signed(node) == signatures, "nothing was signed anew"
    await opened(node, "之后")
    await caller.push(await caller.next_push())


async def test_without_a_parent_it_is_named_and_stays(caller: Caller) -> None:
    """A root, or a node whose parent is away: nothing is touched; status and verify name the place until it is mended."""
    node = caller.node
    log_id = await node.read(lambda conn: node.ledger.own_row(conn).id)
    await node.write(lambda conn, _: flip(conn, log_id, "raw"))
    damaged = await evidence(node)
    outcome = await scrub.scrub(node)
    assert (outcome.mended, bool(outcome.left.problems)) == (0, True)
    assert await evidence(node) == damaged
    standing = await node.read(scrub.standing)
    assert standing["damaged"] > 0
    assert standing["scrubbed"]
    assert (await ask(node, "verify"))["problems"]
    await scrubbed(caller)
    assert (await node.read(scrub.standing))["damaged"] == 0


async def test_what_the_parent_has_not_yet_is_not_mended_and_not_signed(caller: Caller) -> None:
    """An entry that nobody above has, damaged before it was sealed: named; the log signs nothing behind it."""
    node = caller.node
    case = await opened(node, "李")
    log_id, size = await node.read(lambda conn: (node.ledger.own_row(conn).id, node.ledger.own_row(conn).size))
    await node.write(lambda conn, _: conn.execute("UPDATE entries SET raw = CAST(x'00' || raw AS BLOB) WHERE log = ? AND idx = ?", (log_id, size - 1)))
    signatures = await signed(node)
    outcome = await scrubbed(caller)
    assert outcome.left.problems
    with pytest.raises(TongbanError, match="nothing was signed"):
        await node.store.own(node.ledger.seal)
    assert await signed(node) == signatures
    assert case


async def test_a_parent_that_lies_mends_nothing(caller: Caller) -> None:
    """What comes back must be what was signed: a parent's own invention is refused, and the damage stays named."""
    node = caller.node
    log_id = await node.read(lambda conn: node.ledger.own_row(conn).id)
    await node.write(lambda conn, _: flip(conn, log_id, "raw"))
    damaged = await evidence(node)
    city = caller.hub.node
    theirs = await city.read(lambda conn: logs.find_log(conn, node.ledger.identity.log))
    assert theirs is not None
    await city.write(lambda conn, _: flip(conn, theirs.id, "raw"))
    outcome = await scrubbed(caller)
    assert (outcome.mended, bool(outcome.left.problems)) == (0, True)
    assert (await evidence(node))[0] == damaged[0]


async def test_entries_that_the_signature_does_not_cover_are_not_taken(caller: Caller) -> None:
    """A genuine checkpoint with another entry under it: the run does not give its root, and nothing is written."""
    node = caller.node
    log_id = await node.read(lambda conn: node.ledger.own_row(conn).id)
    await node.write(lambda conn, _: flip(conn, log_id, "root"))
    before = await evidence(node)

    async def forging(what: messages.Fetch) -> messages.FetchReply:
        reply = await caller.ask("fetch", what, messages.FetchReply)
        sets = tuple(msgspec.structs.replace(one, entries=(*one.entries[:-1], codec.encode([b"another", None]))) for one in reply.sets)
        return msgspec.structs.replace(reply, sets=sets)

    with scrub.attached(node, forging):
        assert (await scrub.scrub(node)).mended == 0
    assert (await evidence(node))[0] == before[0]


async def test_entries_that_came_in_bundles_are_fetched_by_their_case(caller: Caller, tmp_path: Path) -> None:
    """What a node holds of others' logs is mended too, with its path."""
    city, node = caller.hub.node, caller.node
    case = await opened(city, "赵")
    await ask(city, "case.offer", case=case, to=node.id)
    await seal(city)
    await carry(city, node)
    before = await evidence(node)
    own = await node.read(lambda conn: node.ledger.own_row(conn).id)
    where = f"log <> {own} AND case_id IS NOT NULL"
    assert await count(node, "entries", where) >= 2
    await node.write(lambda conn, _: conn.execute(f"UPDATE entries SET raw = CAST(raw || x'00' AS BLOB) WHERE {where}"))
    await node.write(
        lambda conn, _: conn.execute(f"UPDATE paths SET path = CAST(x'00' || path AS BLOB) WHERE entry IN (SELECT id FROM entries WHERE {where})")
    )
    outcome = await scrubbed(caller)
    assert outcome.left.problems == []
    assert [row for row in (await evidence(node))[0] if row in before[0]] == before[0]


async def test_every_flip_in_the_file_is_found_or_touches_no_evidence(caller: Caller, tmp_path: Path) -> None:
    """One bit anywhere in the file's pages: refused, found by verify, or entries, checkpoints, paths and sums read as before."""
    node = caller.node
    await node.store.own(lambda conn: conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    files = content_of(tmp_path / node.id / "tongban.sqlite3")
    data = files["tongban.sqlite3"]
    before = await evidence(node)
    blobs = [cell for table in (before[0], before[1]) for row in table for cell in row if isinstance(cell, bytes) and len(cell) > 20]
    chance, found_in_blobs, hits = random.Random(1), 0, 0
    for number in range(160):
        if number % 2:
            place = chance.randrange(len(data))
        else:
            blob = chance.choice(blobs)
            place = data.find(blob) + chance.randrange(len(blob))
        flipped = bytearray(data)
        flipped[place] ^= 1 << chance.randrange(8)
        noticed = await _noticed(lay(tmp_path / "flips", {"tongban.sqlite3": bytes(flipped)}, "tongban.sqlite3"), node, before)
        hits += 1 - number % 2
        found_in_blobs += noticed * (1 - number % 2)
    assert found_in_blobs == hits


async def _noticed(path: Path, node: Node, before: list[Any]) -> bool:
    """Tell whether a flip is noticed; what is not noticed must have changed no evidence."""
    from node import setup

    for left in path.parent.glob("*-wal"):
        left.unlink()
    try:
        flipped = await setup.node_of(store_in(path.parent), node.ledger.identity.key, node.clock, node.entropy)
    except TongbanError:
        return True
    try:
        noticed = bool((await verify(flipped)).problems)
        assert noticed or await evidence(flipped) == before
    except TongbanError:
        noticed = True
    finally:
        await flipped.close()
    return noticed


async def test_slices_leave_the_node_to_others(caller: Caller) -> None:
    """Between two slices it pauses nine times as long as the slice took; a scrub that somebody waits for does not."""
    clock = caller.node.clock
    assert isinstance(clock, VirtualClock)
    before = clock.wall_ms()
    await scrubbed(caller, slice_entries=2)
    assert clock.wall_ms() - before >= 5 * 10
    before = clock.wall_ms()
    await scrubbed(caller, slice_entries=2, share=0)
    assert clock.wall_ms() == before


async def test_once_a_day_at_its_time(caller: Caller) -> None:
    """After ten minutes if a day has passed since the last one, then daily; hourly while something is damaged; never by chance twice."""
    node, times = caller.node, []
    clock = node.clock
    assert isinstance(clock, VirtualClock)
    sleep = clock.sleep

    class Ended(Exception):
        pass

    async def watched(span_s: float) -> None:
        done = await node.read(scrub.standing)
        times.append(done["scrubbed"])
        if clock.wall_ms() > start + 50 * 3_600_000:
            raise Ended
        await sleep(span_s)

    start = clock.wall_ms()
    clock.sleep = watched  # type: ignore[method-assign]
    with pytest.raises(Ended):
        await scrub.daily(node, 24.0)
    assert len(set(times) - {None}) == 3


async def test_a_parent_that_is_away_is_tried_again(caller: Caller) -> None:
    """A line that is cut costs nothing but time."""
    node = caller.node
    log_id = await node.read(lambda conn: node.ledger.own_row(conn).id)
    await node.write(lambda conn, _: flip(conn, log_id, "raw"))

    async def away(_: messages.Fetch) -> messages.FetchReply:
        raise LinkError("cut")

    with scrub.attached(node, away):
        assert (await scrub.scrub(node)).left.problems
    assert (await scrubbed(caller)).left.problems == []
