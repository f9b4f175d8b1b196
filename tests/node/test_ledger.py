"""The logs: what is stated is durable and signed from what was re-read; what others signed is taken only if it holds together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node import setup
from node.acceptance import accept_set
from node.ledger import Changes, Draft, change_set
from node.node import Node
from node.projection import Batch
from node.store import logs
from node.store.database import Connection, InlineDatabase
from protocol import keys, limits, merkle
from protocol.errors import (
    GapFound,
    LimitExceeded,
    PeerError,
    ProofInvalid,
    SignatureInvalid,
    StoreError,
    UnknownSigner,
)
from protocol.log import ChangeSet, Checkpoint, Signed, decode_checkpoint, sign_checkpoint, verify_checkpoint
from tests.node.building import (
    CITY,
    EAST,
    START_MS,
    WEST,
    SeededEntropy,
    VirtualClock,
    ask,
    carry,
    enrol,
    found,
    furnish,
    hire,
    opened,
    seal,
    size_of,
)


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


@pytest.fixture
async def east(tmp_path: Path, city: Node) -> Node:
    """A district below it, with an officer."""
    return await hire(await enrol(tmp_path / "east", city, EAST))


def draft_of(kind: str = "note.test", at: int = START_MS, **fields: Any) -> Draft:
    """Make an entry of no meaning."""
    return Draft(kind, at, fields)


async def state(node: Node, *drafts: Draft) -> list[int]:
    """State entries and return their indexes."""
    placed = await node.write(lambda conn, changes: node.ledger.append(conn, drafts, changes))
    return [one.index for one in placed]


async def sets_of(node: Node) -> list[ChangeSet]:
    """Return the node's own log as it travels."""
    await seal(node)

    def read(conn: Connection) -> list[ChangeSet]:
        row = node.ledger.own_row(conn)
        return [change_set(conn, row, one, decode_checkpoint(one.checkpoint)) for one in logs.checkpoints_from(conn, row.id, 0)]

    return await node.read(read)


async def give(node: Node, *sets: ChangeSet) -> list[int]:
    """Hand change sets to a node in one unit; returns how many entries each added."""

    def unit(conn: Connection, changes: Changes) -> list[int]:
        batch = Batch(conn, node.rules, node.ledger.judge)
        accepted = [accept_set(node.ledger, conn, batch, one) for one in sets]
        changes.cases += batch.finish()
        return [one.added for one in accepted]

    return await node.write(unit)


async def held(node: Node, author: str) -> int:
    """Return how many entries of another node's log are held."""

    def read(conn: Connection) -> int:
        return sum(row.size for row in logs.load_logs(conn) if row.log.node == author and not row.branch)

    return await node.read(read)


# --- own entries


async def test_equal_statements_are_different_facts(city: Node) -> None:
    """The same words at the same time are two facts: a small counter tells them apart."""
    first = await state(city, draft_of(), draft_of())
    second = await state(city, draft_of())
    assert [*first, *second] == list(range(first[0], first[0] + 3))

    def leaves(conn: Connection) -> set[bytes]:
        return set(logs.leaves_between(conn, city.ledger.own_row(conn).id, first[0], second[0] + 1))

    assert len(await city.read(leaves)) == 3


async def test_a_statement_over_its_bounds_is_refused(city: Node) -> None:
    """Our own entries keep the bounds that others' must keep; nothing of the unit is written."""
    before = await size_of(city)
    with pytest.raises(LimitExceeded):
        await state(city, draft_of(), draft_of(text="x" * limits.HEADER_BYTES_MAX))
    with pytest.raises(LimitExceeded):
        await state(city, Draft("note.test", START_MS, {}, {"text": "x" * limits.BODY_BYTES_MAX}))
    assert await size_of(city) == before


async def test_a_seal_covers_everything_once(city: Node) -> None:
    """Each entry is in exactly one run; sealing again signs nothing; a long log is cut into runs."""
    await state(city, *(draft_of() for _ in range(limits.SET_ENTRIES + 10)))
    signed = await city.store.own(city.ledger.seal)
    points = [decode_checkpoint(one.checkpoint) for one in signed]
    assert [point.start for point in points] == [0, limits.SET_ENTRIES]
    assert points[-1].size == await size_of(city)
    assert await city.store.own(city.ledger.seal) == []
    for one in signed:
        verify_checkpoint(one, city.ledger.identity.key.public, city.ledger.identity.network)


async def test_a_lost_signature_is_made_again_equal(city: Node) -> None:
    """A checkpoint that was signed and not stored costs nothing: the same bytes give the same signature."""
    first = await city.store.own(city.ledger.seal)
    city.ledger.forget_end()
    assert await city.store.own(city.ledger.seal) == first


async def test_what_a_failed_unit_sealed_is_sealed_again(city: Node) -> None:
    """A unit that seals, stores the seal and then fails leaves no entry without a checkpoint."""

    def fail(conn: Connection, _changes: Changes) -> None:
        city.ledger.seal(conn)
        city.ledger.save_seals(conn)
        raise StoreError("what came next was refused")

    await seal(city)
    await city.write(lambda conn, changes: city.ledger.append(conn, [draft_of()], changes))
    with pytest.raises(StoreError, match="refused"):
        await city.write(fail)
    await city.write(lambda conn, changes: city.ledger.append(conn, [draft_of()], changes))
    await seal(city)
    size = await size_of(city)
    for index in range(size):
        await city.store.own(lambda conn, index=index: city.ledger.bundle_own(conn, index))


async def test_nothing_is_signed_that_is_not_on_the_disk(city: Node) -> None:
    """If the bytes re-read are not those appended, sealing stops and says so."""
    await city.write(
        lambda conn, _: conn.execute("UPDATE entries SET raw = x'00' WHERE id = (SELECT max(id) FROM entries)")
    )
    with pytest.raises(StoreError) as caught:
        await city.store.own(city.ledger.seal)
    assert caught.value.data_safe is False


async def test_a_flip_in_an_earlier_run_stops_every_signature(city: Node) -> None:
    """Of several runs to be signed none is, when one of them is not what was written: also not the ones before it, nor later."""
    await state(city, *[draft_of() for _ in range(limits.SET_ENTRIES + 20)])
    index = await city.read(lambda conn: city.ledger.own_row(conn).size) - limits.SET_ENTRIES - 10
    (raw,) = await city.read(lambda conn: conn.execute("SELECT raw FROM entries WHERE idx = ?", (index,)).fetchone())
    flipped = raw[:-1] + bytes([raw[-1] ^ 1])
    await city.write(lambda conn, _: conn.execute("UPDATE entries SET raw = ? WHERE idx = ?", (flipped, index)))
    for _ in range(2):
        with pytest.raises(StoreError, match="nothing was signed"):
            await city.store.own(city.ledger.seal)
        assert await city.store.own(city.ledger.newest_seal) is None
    await city.write(lambda conn, _: conn.execute("UPDATE entries SET raw = ? WHERE idx = ?", (raw, index)))
    assert len(await city.store.own(city.ledger.seal)) > 1, "mended, it is signed without a new start"


@pytest.mark.parametrize("where", ["read", "appended"])
async def test_a_flip_in_memory_is_not_signed(where: str, city: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit that flips in memory, as bytes are appended or as they are read again, ends in a refusal; both times are compared."""
    if where == "appended":
        honest = logs.insert_entries
        flip = lambda rows: [(*row[:4], row[4][:-1] + bytes([row[4][-1] ^ 1]), row[5]) for row in rows]  # noqa: E731
        monkeypatch.setattr(logs, "insert_entries", lambda conn, rows: honest(conn, flip(rows)))
    await state(city, draft_of())
    monkeypatch.undo()
    if where == "read":
        leaves = logs.leaves_between
        monkeypatch.setattr(logs, "leaves_between", lambda *given: [bytes([one[0] ^ 4, *one[1:]]) for one in leaves(*given)])
    with pytest.raises(StoreError, match="nothing was signed"):
        await city.store.own(city.ledger.seal)
    monkeypatch.undo()
    assert bool(await city.store.own(lambda conn: _sealed(city, conn))) == (where == "read")


def _sealed(city: Node, conn: Connection) -> list[Signed]:
    try:
        return city.ledger.seal(conn)
    except StoreError:
        return []


async def test_an_own_entry_travels_alone_as_a_bundle(city: Node) -> None:
    """A receipt is shown by itself: its bundle proves it, sealed first if need be."""
    (index,) = await state(city, draft_of())
    bundle = await city.store.own(lambda conn: city.ledger.bundle_own(conn, index))
    assert [entry.index for entry in bundle.entries] == [index]
    assert decode_checkpoint(bundle.signed.checkpoint).size == index + 1


# --- what others signed


async def test_a_log_arrives_once(city: Node, east: Node) -> None:
    """The same change sets again add nothing; the next ones lead on."""
    await opened(east)
    sets = await sets_of(east)
    assert await give(city, *sets) == [await size_of(east)]
    assert await give(city, *sets) == [0]
    await opened(east)
    more = await sets_of(east)
    assert await give(city, *more) == [0, 1]
    assert await held(city, EAST) == await size_of(east)


async def test_a_gap_is_answered_with_the_size_held(city: Node, east: Node) -> None:
    """Sets that skip entries are refused, and the sender learns from where to go on."""
    await give(city, *await sets_of(east))
    size = await size_of(east)
    for _ in range(2):
        await opened(east)
        await seal(east)
    with pytest.raises(GapFound) as caught:
        await give(city, (await sets_of(east))[-1])
    assert caught.value.size_held == size


@pytest.mark.parametrize("kind", ["signature", "checkpoint", "entry", "missing", "network", "unknown"])
async def test_what_is_not_authentic_is_refused_whole(city: Node, east: Node, kind: str, tmp_path: Path) -> None:
    """A wrong signature, entry, network or author: nothing changes, and the honest set still passes."""
    await opened(east)
    (change,) = await sets_of(east)
    raw, signature = change.signed.checkpoint, change.signed.signature
    point = decode_checkpoint(raw)
    bad = {
        "signature": lambda: ChangeSet(Signed(raw, bytes(64)), change.entries),
        "checkpoint": lambda: ChangeSet(Signed(raw[:-1] + bytes([raw[-1] ^ 1]), signature), change.entries),
        "entry": lambda: ChangeSet(change.signed, [*change.entries[:-1], change.entries[0]]),
        "missing": lambda: ChangeSet(change.signed, change.entries[:-1]),
        "network": lambda: ChangeSet(sign_checkpoint(point, east.ledger.identity.key, bytes(32)), change.entries),
        "unknown": lambda: ChangeSet(_signed_by(WEST, point), change.entries),
    }[kind]()
    expected = {"signature": SignatureInvalid, "network": SignatureInvalid, "unknown": UnknownSigner}.get(kind, PeerError)
    with pytest.raises(expected):
        await give(city, bad)
    assert await held(city, EAST) == 0
    assert await give(city, change) == [await size_of(east)]


def _signed_by(node: str, point: Checkpoint) -> Signed:
    values = {name: getattr(point, name) for name in point.__struct_fields__}
    return sign_checkpoint(Checkpoint(**{**values, "node": node}), keys.SigningKey(bytes(32)), bytes(32))


async def test_a_set_must_lead_on_from_what_is_held(city: Node, east: Node) -> None:
    """A signed root that is not that of the entries before it and in it is refused."""
    await give(city, *await sets_of(east))
    await opened(east)
    change = (await sets_of(east))[-1]
    point = decode_checkpoint(change.signed.checkpoint)
    values = {name: getattr(point, name) for name in point.__struct_fields__}
    lying = Checkpoint(**{**values, "root": merkle.hash_leaf(b"elsewhere")})
    signed = sign_checkpoint(lying, east.ledger.identity.key, city.ledger.identity.network)
    before = await held(city, EAST)
    with pytest.raises(ProofInvalid):
        await give(city, ChangeSet(signed, change.entries))
    assert await held(city, EAST) == before


async def test_a_second_history_is_kept_as_evidence(city: Node, east: Node, tmp_path: Path) -> None:
    """Two signed entries under one index: both checkpoints are kept, the second branch is a log of its own."""
    clone_folder = tmp_path / "clone"
    clone_folder.mkdir()
    await seal(east)
    clone = await _cloned(east, tmp_path / "east", clone_folder)
    await opened(east, "王伟")
    await give(city, *await sets_of(east))
    await opened(clone, "李娜")
    await give(city, *await sets_of(clone))

    def read(conn: Connection) -> tuple[int, list[tuple[bool, int]]]:
        evidence = conn.execute("SELECT count(*) FROM evidence").fetchone()[0]
        return evidence, [(bool(row.branch), row.size) for row in logs.load_logs(conn) if row.log.node == EAST]

    size = await size_of(east)
    assert await city.read(read) == (1, [(False, size), (True, size)])
    assert len(await ask(city, "list")) == 2
    kinds = {problem["kind"] for problem in (await ask(city, "verify"))["problems"]}
    assert kinds == {"fork"}


async def _cloned(node: Node, source: Path, target: Path) -> Node:
    """Copy a node's folder, as an administrator does who does not know better."""
    copy = target / "tongban.sqlite3"
    await node.store.own(lambda conn: conn.execute("VACUUM INTO ?", (str(copy),)))
    assert (source / "tongban.sqlite3").exists()
    return await setup.node_of(InlineDatabase(copy), node.ledger.identity.key, VirtualClock(START_MS + 1), SeededEntropy(9))


async def test_entries_in_bundles_are_kept_with_their_paths(city: Node, east: Node) -> None:
    """Downwards single entries come with their proof; twice is once, and they can be relayed as they came."""
    case = await opened(city)
    await ask(city, "case.offer", case=case, to=EAST)
    await carry(city, east)

    def count(conn: Connection) -> tuple[int, int]:
        sparse = "SELECT count(*) FROM entries e JOIN logs l ON l.id = e.log WHERE l.node = ?"
        return conn.execute(sparse, (CITY,)).fetchone()[0], conn.execute("SELECT count(*) FROM paths").fetchone()[0]

    first = await east.read(count)
    assert first[0] == first[1] > 2
    await carry(city, east)
    assert await east.read(count) == first

    def relay(conn: Connection) -> int:
        rows = conn.execute("SELECT e.id, e.log, e.idx FROM entries e JOIN paths p ON p.entry = e.id").fetchall()
        return sum(len(bundle.entries) for bundle in east.ledger.bundles(conn, rows))

    assert await east.store.own(relay) == first[0]
