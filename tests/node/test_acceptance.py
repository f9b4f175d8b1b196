"""What others signed: taken once, with its proof, whatever the order; what is false changes nothing, what differs is evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.intake import Pushed, take_pushes
from node import acceptance
from node.acceptance import Accepted, Sparse, accept_bundles, accept_set, heard_before, note_head
from node.ledger import Changes, change_set
from node.node import Node
from node.projection import Batch
from node.store import cases, logs
from node.store.database import Connection
from node.store.logs import LogRow
from protocol import codec, keys, limits, merkle, messages
from protocol.errors import (
    DecodeError,
    ForkDetected,
    GapFound,
    LimitExceeded,
    PeerError,
    ProofInvalid,
    SignatureInvalid,
    UnknownSigner,
)
from protocol.log import (
    Bundle,
    ChangeSet,
    Checkpoint,
    Signed,
    decode_body,
    decode_checkpoint,
    encode_body,
    rebuild,
    sign_checkpoint,
    verify_bundle,
)
from tests.node.building import CITY, EAST, MINUTE_MS, START_MS, WEST, ask, enrol, found, furnish, show
from tests.protocol.network import Log, Stated

SALT = bytes(range(16))


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A root with an officer, a catalogue and a calendar."""
    return await furnish(await found(tmp_path / "city"))


@pytest.fixture
async def east(tmp_path: Path, city: Node) -> Node:
    """A district below it, whose logs these tests write by hand."""
    return await enrol(tmp_path / "east", city, EAST)


@pytest.fixture
async def west(tmp_path: Path, city: Node, east: Node) -> Node:
    """Another district, which knows the first."""
    return await enrol(tmp_path / "west", city, WEST, seed=3)


def log_of(node: Node) -> Log:
    """Begin a log of a node, to be written by hand, with its true key."""
    identity = node.ledger.identity
    return Log(node.id, identity.key, identity.network, keys.sha256(node.id.encode())[:16], now=START_MS)


def twin_of(log: Log, size: int | None = None) -> Log:
    """Copy a log as a cloned disk does: the same beginning, and another end to come."""
    taken = log.entries[:size]
    now = taken[-1].header.claimed_at if taken else START_MS
    return Log(log.node, log.key, log.network, log.incarnation, taken, now)


def words(log: Log, *texts: str) -> Log:
    """State entries of no meaning."""
    for text in texts:
        log.state("note.test", {"text": text})
    return log


def opening(log: Log, node: Node, applicant: str = "王伟", salt: bytes = SALT) -> Stated:
    """State the opening of a case."""
    fields = {
        "item": "permit",
        "version": 1,
        "number": f"N-{len(log.entries)}",
        "handler": CITY,
        "region": CITY,
        "table": 1,
        "limits": [5, 20],
    }
    body = {"applicant": applicant, "id_number": "1", "form": {}}
    return log.state("open", fields, body, salt=salt, epoch=0, basis=node.rules.basis)


def noted(log: Log, node: Node, case: Stated, text: str = "已电话通知", kind: str = "note") -> Stated:
    """State a side entry on a case."""
    body = {"text": text} if kind == "note" else {"old": {"applicant": "王伟"}, "new": {"applicant": text}}
    fields = {} if kind == "note" else {"names": ["applicant"]}
    return log.state(
        kind, fields, body, salt=case.salt, case=case.link, epoch=0, prev=case.link, basis=node.rules.basis
    )


def accept(log: Log, node: Node, case: Stated) -> Stated:
    """State that a case is accepted."""
    return log.state("accept", case=case.link, epoch=0, prev=case.link, basis=node.rules.basis)


# --- giving, and looking at what came of it


async def give(node: Node, *sets: ChangeSet) -> list[Accepted]:
    """Hand change sets to a node in one unit."""

    def unit(conn: Connection, changes: Changes) -> list[Accepted]:
        batch = Batch(conn, node.rules, node.ledger.judge)
        accepted = [accept_set(node.ledger, conn, batch, one) for one in sets]
        node.ledger.finish(conn, batch, changes)
        return accepted

    return await node.write(unit)


async def bring(node: Node, *bundles: Bundle) -> list[Sparse]:
    """Hand bundles to a node in one unit."""

    def unit(conn: Connection, changes: Changes) -> list[Sparse]:
        batch = Batch(conn, node.rules, node.ledger.judge)
        taken = accept_bundles(node.ledger, conn, batch, bundles)
        node.ledger.finish(conn, batch, changes)
        return taken

    return await node.write(unit)


async def show_head(node: Node, signed: Signed, at_ms: int) -> None:
    """Show an author's signed head to its hub."""
    await node.write(lambda conn, _: note_head(node.ledger, conn, signed, at_ms))


async def row_of(node: Node, log: Log, branch: bytes = b"") -> LogRow:
    """Return a log's row."""
    found = await node.read(lambda conn: logs.find_log(conn, log.id, branch))
    assert found is not None
    return found


async def branches_of(node: Node, log: Log) -> list[LogRow]:
    return await node.read(lambda conn: logs.branches(conn, log.id))


async def held(node: Node, log: Log, branch: bytes = b"") -> list[tuple[int, bytes, bytes | None]]:
    """Return (index, header bytes, body) of all that is held of a log."""
    row = await row_of(node, log, branch)
    return await node.read(
        lambda conn: [(one.index, one.raw, one.body) for one in logs.entries_between(conn, row.id, 0, 1_000)]
    )


async def relayed_of(node: Node, log: Log) -> list[Bundle]:
    """Return all that is held of a log and its branches, as it is passed on."""

    def relay(conn: Connection) -> list[Bundle]:
        rows = conn.execute("SELECT e.id, e.log, e.idx FROM entries e JOIN logs l ON l.id = e.log WHERE l.incarnation = ?", (log.incarnation,))
        return node.ledger.bundles(conn, rows.fetchall())

    return await node.store.own(relay)


async def evidence(node: Node) -> list[tuple[int, Checkpoint, Checkpoint]]:
    """Return (index, first checkpoint, second checkpoint) of what disagrees."""

    def signed(packed: bytes) -> Checkpoint:
        raw, _signature = codec.decode(packed)  # type: ignore[misc]
        return decode_checkpoint(raw)  # type: ignore[arg-type]

    rows = await node.read(lambda conn: conn.execute("SELECT idx, first, second FROM evidence ORDER BY id").fetchall())
    return [(index, signed(first), signed(second)) for index, first, second in rows]


async def dump(node: Node) -> dict[str, list[Any]]:
    """Return everything in a store that came from others."""
    tables = ("logs", "entries", "checkpoints", "paths", "evidence", "facts", "cases", "sources")

    def read(conn: Connection) -> dict[str, list[Any]]:
        return {table: conn.execute(f"SELECT * FROM {table}").fetchall() for table in tables}

    return await node.read(read)


async def count(node: Node, table: str) -> int:
    return len((await dump(node))[table]) if table != "names" else await node.read(_names)


def _names(conn: Connection) -> int:
    return int(conn.execute("SELECT count(*) FROM names").fetchone()[0])


def entries(log: Log) -> list[tuple[int, bytes, bytes | None]]:
    return [(stated.index, stated.entry.raw, stated.entry.body) for stated in log.entries]


def resigned(log: Log, change: ChangeSet, signer: keys.SigningKey | None = None, /, **values: Any) -> ChangeSet:
    """Sign a set's checkpoint again, with other values: what a lying author can do."""
    stated = msgspec.structs.replace(decode_checkpoint(change.signed.checkpoint), **values)
    return ChangeSet(sign_checkpoint(stated, signer or log.key, log.network), change.entries)


# --- change sets that lead on


async def test_a_log_grows_by_what_is_new_in_a_set(city: Node, east: Node) -> None:
    """A set is appended, again it adds nothing, one that overlaps adds its end; size, root and entries are the author's."""
    log = words(log_of(east), *"abcdef")
    added = [(await give(city, change))[0].added for change in (log.change_set(0, 4), log.change_set(0, 4))]
    (third,) = await give(city, log.change_set(2))
    assert (added, third.added, third.row.size, third.fork_at) == ([4, 0], 2, 4, -1)
    assert [one.leaf for one in third.entries] == log.leaves[4:]
    row = await row_of(city, log)
    assert (row.size, row.root, row.range.root()) == (6, merkle.root(log.leaves), merkle.root(log.leaves))
    assert (row.key, row.branch, row.start) == (log.key.public, b"", 0)
    assert await held(city, log) == entries(log)
    assert await count(city, "evidence") == 0


async def test_sets_of_one_unit_lead_on_from_each_other(city: Node, east: Node) -> None:
    """A push brings many sets; later ones count back to entries that are not on the disk yet, and a case is folded once."""
    log = log_of(east)
    case = opening(log, city)
    accept(log, city, case)
    noted(log, city, case)
    done = await give(city, log.change_set(0, 1), log.change_set(1, 2), log.change_set(2, 3))
    assert [one.added for one in done] == [1, 1, 1]
    assert await held(city, log) == entries(log)
    assert (await show(city, case.link.hex()))["state"] == "accepted"


async def test_a_gap_names_the_size_held(city: Node, east: Node) -> None:
    """What begins above what is held is refused with the log and the size from which to send; nothing is begun."""
    log = words(log_of(east), *"abc")
    before = await dump(city)
    with pytest.raises(GapFound) as caught:
        await give(city, log.change_set(1))
    assert (caught.value.size_held, caught.value.log) == (0, log.id)
    assert await dump(city) == before
    await give(city, log.change_set(0, 1))
    with pytest.raises(GapFound) as caught:
        await give(city, log.change_set(2))
    assert caught.value.size_held == 1


def _whole(*pairs: tuple[bytes, bytes | None]) -> list[Any]:
    return [msgspec.msgpack.encode(pair) for pair in pairs]


FALSE_SETS: dict[str, tuple[type[PeerError], Callable[[Log, ChangeSet], ChangeSet]]] = {
    "run": (ProofInvalid, lambda log, good: resigned(log, good, run=keys.sha256(b"other entries"))),
    "root": (ProofInvalid, lambda log, good: resigned(log, good, root=keys.sha256(b"another beginning"))),
    "swapped": (ProofInvalid, lambda _log, good: ChangeSet(good.signed, good.entries[::-1])),
    "short": (DecodeError, lambda _log, good: ChangeSet(good.signed, good.entries[:-1])),
    "long": (DecodeError, lambda _log, good: ChangeSet(good.signed, [*good.entries, good.entries[0]])),
    "signature": (SignatureInvalid, lambda _log, good: ChangeSet(Signed(good.signed.checkpoint, bytes(64)), good.entries)),
    "key": (SignatureInvalid, lambda log, good: resigned(log, good, keys.SigningKey(bytes(32)))),
    "key_id": (UnknownSigner, lambda log, good: resigned(log, good, key=bytes(8))),
    "author": (UnknownSigner, lambda log, good: resigned(log, good, node=WEST)),
    "unknown": (UnknownSigner, lambda log, good: resigned(log, good, node="650104000000")),
    "network": (SignatureInvalid, lambda log, _good: _elsewhere(log).change_set(2)),
    "continuation": (ProofInvalid, lambda log, _good: _other(log).change_set(2)),
}


def _elsewhere(log: Log) -> Log:
    return Log(log.node, log.key, bytes(32), log.incarnation, log.entries)


def _other(log: Log) -> Log:
    """Return a history of the same size that differs before the part that will be shown of it."""
    return words(twin_of(log, 0), *"xyzv")


@pytest.mark.parametrize("kind", FALSE_SETS)
async def test_a_false_set_changes_nothing(city: Node, east: Node, west: Node, kind: str) -> None:
    """Another run, root, number of entries, signature, key, author, network or history: refused whole, and the true one passes."""
    expected, make = FALSE_SETS[kind]
    log = words(log_of(east), *"abcd")
    await give(city, log.change_set(0, 2))
    before = await dump(city)
    with pytest.raises(expected) as caught:
        await give(city, make(log, log.change_set(2)))
    assert type(caught.value) is expected
    if isinstance(caught.value, UnknownSigner):
        assert caught.value.node == {"key_id": EAST, "author": WEST}.get(kind, "650104000000")
    assert await dump(city) == before
    assert (await give(city, log.change_set(2)))[0].added == 2


async def test_a_false_set_takes_the_whole_unit_with_it(city: Node, east: Node, west: Node) -> None:
    """One push is one unit: what came before the false set in it is not kept either."""
    log, other = words(log_of(east), *"ab"), words(log_of(west), *"cd")
    before = await dump(city)
    with pytest.raises(ProofInvalid):
        await give(city, log.change_set(), resigned(other, other.change_set(), run=bytes(32)))
    assert await dump(city) == before


async def test_a_set_that_nobody_could_pass_on_is_refused(city: Node, east: Node) -> None:
    """Headers and bodies of one set stay within the bound of a message, so that every hub above can have them."""
    log = log_of(east)
    size = limits.SET_BYTES_MAX // 10
    for number in range(10):
        log.state("note.test", None, {"text": str(number) * size})
    with pytest.raises(LimitExceeded):
        await give(city, log.change_set())
    assert [one.added for one in await give(city, log.change_set(0, 9), log.change_set(9))] == [9, 1]


async def test_a_repeated_set_with_another_root_is_refused(city: Node, east: Node) -> None:
    """A receipt states the root of the set: it must be the one held, also when nothing is new, in a log and in a branch."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), *"xyz")
    words(log, *"bcd")
    await give(city, log.change_set(), clone.change_set())
    before = await dump(city)
    for one in (log, clone):
        with pytest.raises(ProofInvalid):
            await give(city, resigned(one, one.change_set(1, 3), root=keys.sha256(b"another history")))
        assert [done.added for done in await give(city, one.change_set(1, 3), one.change_set(0, 2))] == [0, 0]
    assert await dump(city) == before


async def test_a_root_that_is_not_held_is_not_receipted(city: Node, east: Node) -> None:
    """The hub refuses a push whose set it holds under another root, and states nothing."""
    log = words(log_of(east), *"abcd")
    await give(city, log.change_set())
    false = resigned(log, log.change_set(1, 3), root=keys.sha256(b"another history"))
    before = await dump(city)
    with pytest.raises(ProofInvalid):
        await city.write(
            lambda conn, changes: take_pushes(city.ledger, conn, changes, [Pushed(EAST, messages.Push((false,)))], START_MS)
        )
    assert await dump(city) == before


async def test_a_body_that_a_relay_spoiled_comes_with_the_set_again(city: Node, east: Node) -> None:
    """A false opening body in a set gives no salt: what needs it is refused until the true set came again."""
    log = log_of(east)
    case = opening(log, city)
    noted(log, city, case)
    first = log.change_set(0, 1)
    (short,) = first.entries
    assert not isinstance(short, bytes)
    lie = encode_body({**decode_body(case.entry.body or b""), "salt": bytes(16)})
    await give(city, ChangeSet(first.signed, [msgspec.structs.replace(short, body=lie, body_ref=case.header.body)]))
    assert await bodies(city, log) == {0: None}
    with pytest.raises(DecodeError):
        await give(city, log.change_set(1))
    assert [one.added for one in await give(city, first, log.change_set(1))] == [0, 1]
    assert await held(city, log) == entries(log)
    assert [row["key"] for row in await ask(city, "list", find="王伟")] == [case.link.hex()]


async def test_nobody_states_an_entry_for_another_node(city: Node, east: Node, west: Node) -> None:
    """In a log's set another's entry is kept as opaque bytes without effect; in a bundle it is refused."""
    log = log_of(east)
    case = opening(log, city)
    forged = log.state("accept", case=case.link, epoch=0, prev=case.link, basis=city.rules.basis, node=WEST)
    await give(city, log.change_set())
    assert [one[1] for one in await held(city, log)] == [case.entry.raw, forged.entry.raw]
    assert (await show(city, case.link.hex()))["state"] == "received"
    assert len((await show(city, case.link.hex()))["timeline"]) == 1
    before = await dump(west)
    with pytest.raises(ProofInvalid):
        await bring(west, log.bundle([0, 1]))
    assert await dump(west) == before


# --- a second history


async def test_a_second_history_is_evidence_and_a_log_of_its_own(city: Node, east: Node) -> None:
    """Another entry under a known index: both checkpoints are kept, the branch is named by it, the first log is untouched."""
    log = words(log_of(east), "a", "b")
    clone = twin_of(log)
    case = opening(log, city, "王伟")
    other = opening(clone, city, "李娜", salt=bytes(16))
    words(clone, "c")
    await give(city, log.change_set())
    before, entries_before = await row_of(city, log), await held(city, log)
    (accepted,) = await give(city, clone.change_set())
    assert (accepted.fork_at, accepted.added, accepted.row.branch) == (2, 2, other.link)
    assert await row_of(city, log) == before
    assert await held(city, log) == entries_before == entries(log)
    ((index, first, second),) = await evidence(city)
    assert (index, first, second) == (2, log.checkpoint(), clone.checkpoint())
    (branch,) = await branches_of(city, log)
    assert (branch.start, branch.size, branch.root) == (2, 4, merkle.root(clone.leaves))
    assert await held(city, log, other.link) == entries(clone)[2:]
    assert {row["key"] for row in await ask(city, "list")} == {case.link.hex(), other.link.hex()}
    assert {problem["kind"] for problem in (await ask(city, "verify"))["problems"]} == {"fork"}


async def test_a_branch_given_again_adds_nothing(city: Node, east: Node) -> None:
    """The same second history twice is the same evidence and the same branch."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), "x", "y")
    words(log, "b")
    await give(city, log.change_set(), clone.change_set())
    before = await dump(city)
    (again,) = await give(city, clone.change_set())
    assert (again.added, again.fork_at) == (0, 1)
    assert await dump(city) == before


async def test_a_branch_leads_on(city: Node, east: Node) -> None:
    """Further sets of the second history are appended to the branch, repeats add nothing; a false one is refused."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), "x", "y")
    words(log, "b")
    await give(city, log.change_set(), clone.change_set())
    first = await row_of(city, log)
    case = opening(clone, city)
    accept(clone, city, case)
    (more,) = await give(city, clone.change_set(3))
    assert (more.added, more.fork_at, more.row.branch) == (2, 1, clone.entries[1].link)
    assert [one.added for one in await give(city, clone.change_set(3), clone.change_set(2))] == [0, 0]
    assert (await show(city, case.link.hex()))["state"] == "accepted"
    words(clone, "z")
    with pytest.raises(GapFound):
        await give(city, resigned(clone, clone.change_set(5), root=bytes(32)))
    assert (await give(city, clone.change_set(4)))[0].added == 1
    (branch,) = await branches_of(city, log)
    assert (branch.size, branch.root) == (6, merkle.root(clone.leaves))
    assert await held(city, log, branch.branch) == entries(clone)[1:]
    assert await row_of(city, log) == first
    assert len(await evidence(city)) == 1


async def test_a_branch_leads_on_where_the_first_log_is_longer(city: Node, east: Node) -> None:
    """A later set of the branch does not make a second, empty branch, nor evidence at a wrong index."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), "x")
    words(log, *"bcde")
    await give(city, log.change_set(), clone.change_set())
    words(clone, "y")
    await give(city, clone.change_set(2))
    assert [(row.branch, row.start, row.size) for row in await branches_of(city, log)] == [(clone.entries[1].link, 1, 3)]
    assert {index for index, _, _ in await evidence(city)} == {1}


async def test_a_second_history_without_its_beginning_leaves_nothing(city: Node, east: Node) -> None:
    """What parted before the set that shows it cannot be kept yet: refused, without branch or evidence."""
    log = words(log_of(east), *"abcd")
    clone = words(twin_of(log, 1), *"xyz")
    await give(city, log.change_set())
    before = await dump(city)
    with pytest.raises(ProofInvalid):
        await give(city, clone.change_set(2))
    assert await dump(city) == before
    assert (await give(city, clone.change_set()))[0].fork_at == 1


async def test_a_branch_counts_back_before_the_fork(city: Node, east: Node) -> None:
    """A restored station goes on with an old case: its later sets count back to what both histories share."""
    log = log_of(east)
    case = opening(log, city)
    clone = words(twin_of(log), "x")
    words(log, "a")
    await give(city, log.change_set(), clone.change_set())
    accept(clone, city, case)
    assert [one.added for one in await give(city, clone.change_set(2))] == [1]
    noted(clone, city, case)
    assert [one.added for one in await give(city, clone.change_set(3))] == [1]
    assert await held(city, log, clone.entries[1].link) == entries(clone)[1:]
    for bundle in await relayed_of(city, log):
        verify_bundle(bundle, log.key.public, log.network)


async def test_a_third_history_that_shares_the_second(city: Node, east: Node) -> None:
    """A clone of a clone is a branch of its own, named by where it leaves the first branch; each leads on."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), "x")
    third = words(twin_of(clone), "z")
    words(clone, "y")
    words(log, "b")
    await give(city, log.change_set(), clone.change_set(), third.change_set())
    words(clone, "v")
    words(third, "w")
    await give(city, third.change_set(3), clone.change_set(3))
    assert [(row.branch, row.start, row.root) for row in await branches_of(city, log)] == [
        (clone.entries[1].link, 1, merkle.root(clone.leaves)),
        (third.entries[2].link, 1, merkle.root(third.leaves)),
    ]
    assert await held(city, log, third.entries[2].link) == entries(third)[1:]
    assert {problem["kind"] for problem in (await ask(city, "verify"))["problems"]} == {"fork"}
    for bundle in await relayed_of(city, log):
        verify_bundle(bundle, log.key.public, log.network)


async def test_a_branch_of_which_a_piece_came_is_adopted_whole(city: Node, east: Node) -> None:
    """The rival entry that a bundle brought keeps its row and becomes the beginning of its branch."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), "x", "y")
    words(log, "b")
    await give(city, log.change_set())
    (piece,) = await bring(city, clone.bundle([1], 0, 2))
    (accepted,) = await give(city, clone.change_set())
    assert (accepted.row.id, accepted.fork_at, accepted.added) == (piece.row.id, 1, 2)
    (branch,) = await branches_of(city, log)
    assert (branch.start, branch.size, branch.root) == (1, 3, merkle.root(clone.leaves))
    assert await held(city, log, branch.branch) == entries(clone)[1:]
    assert (await city.read(lambda conn: logs.entry_by_id(conn, piece.id))).raw == piece.entry.raw
    for bundle in await relayed_of(city, log):
        verify_bundle(bundle, log.key.public, log.network)
    assert {problem["kind"] for problem in (await ask(city, "verify"))["problems"]} == {"fork"}


async def test_rules_on_a_branch_are_noted(city: Node, east: Node) -> None:
    """A rule that stands in the first set of a branch waits for a register as one in a later set does."""
    log = words(log_of(east), "a")
    clone = twin_of(log)
    words(log, "b")
    facts = await count(city, "facts")
    for number in (1, 2):
        clone.state("node.address", {"addresses": [f"h{number}:1"]})
    await give(city, log.change_set())
    for first, change in enumerate((clone.change_set(0, 2), clone.change_set(2)), 1):
        await give(city, change)
        assert await count(city, "facts") == facts + first


async def test_what_is_not_the_branch_is_not_taken_for_it(city: Node, east: Node) -> None:
    """A set of a third history inside the branch's range is no repeat of the branch: it is asked for from the beginning."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), "x", "y", "z")
    third = words(twin_of(clone, 3), "w")
    await give(city, words(log, "b").change_set(), clone.change_set())
    with pytest.raises(GapFound) as caught:
        await give(city, third.change_set(3))
    assert caught.value.size_held == 2


async def test_the_first_log_goes_on_beside_its_branch(city: Node, east: Node) -> None:
    """A fork stops neither history: each is led on by its own sets, also where they differ in length."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), "x", "y", "z")
    words(log, "b")
    await give(city, log.change_set(), clone.change_set())
    words(log, "c")
    (more,) = await give(city, log.change_set(2))
    assert (more.added, more.fork_at) == (1, -1)
    assert await held(city, log) == entries(log)
    assert [row.size for row in await branches_of(city, log)] == [4]


async def test_each_second_history_has_its_own_branch(city: Node, east: Node) -> None:
    """One disk image on three machines: two branches, each named by its own first entry."""
    log = words(log_of(east), "a")
    clones = [words(twin_of(log), text) for text in ("x", "y")]
    words(log, "b")
    await give(city, log.change_set(), *(clone.change_set() for clone in clones))
    found = await branches_of(city, log)
    assert [(row.branch, row.root) for row in found] == [(one.entries[1].link, merkle.root(one.leaves)) for one in clones]
    assert len(await evidence(city)) == 2


# --- a log of which single entries came before


async def test_a_log_that_came_in_pieces_is_adopted_whole(west: Node, east: Node) -> None:
    """Entries held from bundles keep their rows, lose their paths, and gain bodies that were missing."""
    log = log_of(east)
    case = opening(log, west)
    words(log, "a")
    accept(log, west, case)
    noted(log, west, case)
    bundle = log.bundle([0, 3])
    bare = Bundle(bundle.signed, tuple(msgspec.structs.replace(one, body=None) for one in bundle.entries))
    rows = {one.index: one.id for one in await bring(west, bare)}
    paths = await count(west, "paths")
    assert (await row_of(west, log)).size == 0
    assert await ask(west, "list", find="王伟") == []
    (accepted,) = await give(west, log.change_set())
    assert accepted.added == 4
    assert await held(west, log) == entries(log)
    found = await row_of(west, log)
    assert (found.size, found.root) == (4, merkle.root(log.leaves))
    kept = await west.read(lambda conn: {one.index: one.id for one in logs.entries_between(conn, found.id, 0, 4)})
    assert {index: kept[index] for index in rows} == rows
    assert await count(west, "paths") == paths - 2
    assert [row["key"] for row in await ask(west, "list", find="王伟")] == [case.link.hex()]
    page = await show(west, case.link.hex())
    assert (page["state"], len(page["timeline"])) == ("accepted", 3)


async def test_what_came_in_pieces_and_is_now_whole_can_be_passed_on(west: Node, east: Node, city: Node) -> None:
    """After the adoption the log leaves this node as sets and as bundles that verify elsewhere."""
    log = log_of(east)
    case = opening(log, west)
    noted(log, west, case)
    words(log, "a", "b")
    await bring(west, log.bundle([1], 1, 2))
    await give(west, log.change_set(0, 3), log.change_set(3))

    def pass_on(conn: Connection) -> tuple[list[ChangeSet], list[Bundle]]:
        row = logs.find_log(conn, log.id)
        assert row is not None
        points = west.ledger.checkpoints_from(conn, row, 0)
        rows = [(one.id, one.log, one.index) for one in logs.entries_between(conn, row.id, 0, 4)]
        sets = [change_set(conn, row, one, decode_checkpoint(one.checkpoint)) for one in points]
        return sets, west.ledger.bundles(conn, rows)

    sets, bundles = await west.store.own(pass_on)
    await give(city, *sets)
    assert await held(city, log) == entries(log)
    for bundle in bundles:
        verify_bundle(bundle, log.key.public, log.network)
    assert sorted(one.index for bundle in bundles for one in bundle.entries) == [0, 1, 2, 3]


async def test_pieces_of_another_history_do_not_bar_the_log(west: Node, east: Node) -> None:
    """What a whole log differs from goes on a branch with its path, as evidence, and the case is folded again; the log stands."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), "x")
    case = opening(clone, west)
    accept(clone, west, case)
    words(log, "b", "c")
    await bring(west, clone.bundle([2], 1, 3), clone.bundle([3], 3, 4))
    (accepted,) = await give(west, log.change_set())
    assert (accepted.added, (await row_of(west, log)).size) == (3, 3)
    assert (await held(west, log))[:3] == entries(log)
    assert await held(west, log, case.link) == entries(clone)[2:3]
    assert await evidence(west) == [(2, clone.checkpoint(1, 3), log.checkpoint())]
    assert (await show(west, case.link.hex()))["state"] == "accepted"
    for bundle in await relayed_of(west, log):
        verify_bundle(bundle, log.key.public, log.network)
    assert {problem["kind"] for problem in (await ask(west, "verify"))["problems"]} == {"fork"}
    assert (await give(west, clone.change_set()))[0].fork_at == 1
    assert [(row.start, row.size) for row in await branches_of(west, log)] == [(0, 0), (1, 4)]


async def test_two_checkpoints_of_one_span_are_two(west: Node, east: Node) -> None:
    """Two histories seal the same span: a bundle of each is relayed with its own checkpoint."""
    log = words(log_of(east), "a")
    clone = words(twin_of(log), "x", "y")
    words(log, "b", "c")
    given = [log.bundle([1], 1, 3), clone.bundle([2], 1, 3)]
    await bring(west, *given)
    assert sorted(await relayed_of(west, log), key=str) == sorted(given, key=str)


async def test_what_is_passed_on_ends_where_the_log_is_whole(west: Node, east: Node) -> None:
    """A checkpoint that came with a bundle from further on is not led on to, nor is its root taken for the log's."""
    log = words(log_of(east), *"abcdef")
    clone = words(twin_of(log, 1), *"xyz")
    await bring(west, log.bundle([4], 3, 6), clone.bundle([0], 0, 2))
    await give(west, log.change_set(0, 3))

    def points(conn: Connection) -> tuple[list[int], bytes]:
        row = logs.find_log(conn, log.id)
        assert row is not None
        sizes = [decode_checkpoint(one.checkpoint).size for one in west.ledger.checkpoints_from(conn, row, 0)]
        return sizes, logs.root_at(conn, row, 2)

    assert await west.store.own(points) == ([3], merkle.root(log.leaves[:2]))
    await give(west, log.change_set(3))
    assert (await west.store.own(points))[0] == [3, 6]


# --- heads


async def dated(node: Node, log: Log, size: int) -> tuple[int, int, int]:
    """Return to which size the author is committed, when it was heard, and from when on claims below a size count."""
    row = await row_of(node, log)
    since = await node.read(lambda conn: heard_before(conn, row, size))
    return row.committed, row.receipted, since


async def test_a_head_dates_what_it_commits_to(city: Node, east: Node) -> None:
    """Claims below a head count from when its author was heard before it; one that is not newer only says that it lives."""
    log = words(log_of(east), *"abcd")
    at = START_MS
    await show_head(city, log.seal(0, 2), at)
    assert await dated(city, log, 2) == (2, at, 0)
    await give(city, log.change_set(0, 2))
    await show_head(city, log.seal(2, 4), at + 5 * MINUTE_MS)
    assert await dated(city, log, 3) == await dated(city, log, 4) == (4, at + 5 * MINUTE_MS, at)
    for older in (log.seal(0, 2), log.seal(2, 4)):
        await show_head(city, older, at + 9 * MINUTE_MS)
        assert await dated(city, log, 4) == (4, at + 9 * MINUTE_MS, at)
    await show_head(city, log.seal(2, 4), at + MINUTE_MS)  # the hub's clock was put back
    assert await dated(city, log, 4) == (4, at + 9 * MINUTE_MS, at)
    await give(city, log.change_set(2, 3))
    assert await dated(city, log, 4) == (4, at + 9 * MINUTE_MS, at)
    words(log, "e")
    assert (await dated(city, log, 5))[2] == at + 9 * MINUTE_MS  # no head holds it


async def test_a_backlog_keeps_its_times_while_more_is_written(city: Node, east: Node) -> None:
    """A longer head that is shown before the log has reached the first one dates only what is beyond that."""
    log = words(log_of(east), *"abcd")
    at = START_MS
    await show_head(city, log.seal(0, 4), at)
    await give(city, log.change_set(0, 2))
    words(log, "e")
    await show_head(city, log.seal(4, 5), at + 30 * MINUTE_MS)
    assert [(await dated(city, log, size))[2] for size in (3, 4, 5)] == [0, 0, at]
    await give(city, log.change_set(2, 4))
    assert await dated(city, log, 5) == (5, at + 30 * MINUTE_MS, at)


async def test_a_long_drain_shows_more_heads_than_are_kept(city: Node, east: Node) -> None:
    """However many heads are shown, each entry is dated by one that holds it, and never further back than by its own."""
    log = words(log_of(east), *"ab")
    await show_head(city, log.seal(0, 2), START_MS)  # after a long time offline
    shown = [(2, 0)]
    gaps = [30, 20, 1, 25, 20, 2, 30, 20, 25, 20, 30]
    at = START_MS
    for gap in gaps:
        words(log, "c")
        shown.append((len(log.entries), at))
        at += gap * MINUTE_MS
        await show_head(city, log.seal(shown[-2][0]), at)
    kept = (await row_of(city, log)).committed, await city.read(lambda conn: acceptance._pending_heads(conn, logs.find_log(conn, log.id)))
    assert kept[0] == len(log.entries)
    assert len(kept[1]) == acceptance.HEADS_MAX
    since = [(await dated(city, log, size))[2] for size, _ in shown]
    assert since[0] == 0
    assert since[-1] == shown[-1][1]
    assert all(found >= own for found, (_, own) in zip(since, shown, strict=True))
    assert max(found - own for found, (_, own) in zip(since, shown, strict=True)) <= 45 * MINUTE_MS
    await give(city, log.change_set())


@pytest.mark.parametrize("kind", ["signature", "network", "unknown"])
async def test_a_false_head_dates_nothing(city: Node, east: Node, kind: str) -> None:
    """Only the author's own signature for this network commits it to anything."""
    log = words(log_of(east), "a")
    point = log.checkpoint()
    false = {
        "signature": lambda: Signed(log.seal().checkpoint, bytes(64)),
        "network": lambda: sign_checkpoint(point, log.key, bytes(32)),
        "unknown": lambda: sign_checkpoint(msgspec.structs.replace(point, node="650104000000"), log.key, log.network),
    }[kind]()
    before = await dump(city)
    with pytest.raises(UnknownSigner if kind == "unknown" else SignatureInvalid):
        await show_head(city, false, START_MS)
    assert await dump(city) == before


async def test_a_log_must_pass_through_the_head_that_was_shown(city: Node, east: Node) -> None:
    """Nothing is slipped in behind a head: the log that comes with another root at its size is a fork."""
    log = words(log_of(east), *"abcd")
    other = words(twin_of(log, 2), *"xdef")
    await give(city, log.change_set(0, 2))
    await show_head(city, log.seal(2, 4), START_MS)
    before = await dump(city)
    for change in (other.change_set(2, 4), other.change_set(2), other.change_set(0, 5)):
        with pytest.raises(ForkDetected):
            await give(city, change)
    assert await dump(city) == before
    assert [one.added for one in await give(city, log.change_set(2, 3), log.change_set(3, 4))] == [1, 1]


async def test_a_longer_head_does_not_hide_a_shorter_one(city: Node, east: Node) -> None:
    """Another history that shows a longer head first is found out at the head shown before it."""
    log = words(log_of(east), *"abcd")
    other = words(twin_of(log, 2), *"xdef")
    await show_head(city, log.seal(0, 4), START_MS)
    await show_head(city, other.seal(), START_MS + MINUTE_MS)
    with pytest.raises(ForkDetected):
        await give(city, other.change_set())
    assert (await give(city, log.change_set()))[0].added == 4


async def test_a_log_passes_through_its_head_inside_a_set(city: Node, east: Node) -> None:
    """A set may go beyond the head: the root is compared at the head's own size."""
    log = words(log_of(east), *"abcde")
    await show_head(city, log.seal(0, 3), START_MS)
    assert (await give(city, log.change_set()))[0].added == 5


# --- bundles


async def test_entries_of_bundles_are_kept_with_their_paths(west: Node, east: Node) -> None:
    """New entries are stored with path and checkpoint, the log stays empty; the same bundle again is no change."""
    log = words(log_of(east), *"abcde")
    paths = await count(west, "paths")
    taken = await bring(west, log.bundle([1, 3], 1, 5))
    assert [(one.index, one.entry.raw) for one in taken] == [(one[0], one[1]) for one in entries(log)[1:4:2]]
    assert await held(west, log) == entries(log)[1:4:2]
    assert (await row_of(west, log)).size == 0
    assert await count(west, "paths") == paths + 2
    before = await dump(west)
    again = await bring(west, log.bundle([1, 3], 1, 5))
    assert [(one.id, one.index) for one in again] == [(one.id, one.index) for one in taken]
    assert await dump(west) == before


async def test_another_bundle_of_the_same_run_adds_what_is_new(west: Node, east: Node) -> None:
    """Bundles of one run share its checkpoint; of a second one only entries not held yet are added."""
    log = words(log_of(east), *"abcde")
    points = await count(west, "checkpoints")
    await bring(west, log.bundle([1]))
    taken = await bring(west, log.bundle([1, 2]), log.bundle([2, 4], 2))
    assert sorted({one.index for one in taken}) == [1, 2, 4]
    assert await held(west, log) == [entries(log)[index] for index in (1, 2, 4)]
    assert await count(west, "checkpoints") == points + 2


async def test_relayed_bundles_verify_elsewhere(west: Node, east: Node, city: Node) -> None:
    """What came in bundles leaves as it came: paths and checkpoints prove it to the next node, and to the one after it."""
    log = log_of(east)
    case = opening(log, west)
    words(log, "a")
    noted(log, west, case)
    await bring(west, log.bundle([0, 2]), log.bundle([1], 1, 2))

    def relay(node: Node) -> Callable[[Connection], list[Bundle]]:
        def read(conn: Connection) -> list[Bundle]:
            row = logs.find_log(conn, log.id)
            assert row is not None
            rows = logs.entries_between(conn, row.id, 0, 9)
            return node.ledger.bundles(conn, [(one.id, one.log, one.index) for one in rows])

        return read

    relayed = await west.store.own(relay(west))
    assert sorted(relayed, key=lambda one: one.entries[0].index) == [log.bundle([0, 2]), log.bundle([1], 1, 2)]
    await bring(city, *relayed)
    assert await held(city, log) == entries(log)
    assert sorted(await city.store.own(relay(city)), key=str) == sorted(relayed, key=str)


async def test_bodies_are_withheld_on_request(west: Node, east: Node) -> None:
    """Without bodies the entries and their proofs are the same: relayed ones and those of a whole log."""
    log = log_of(east)
    opening(log, west)
    await bring(west, log.bundle([0]))
    for _ in range(2):
        row = await row_of(west, log)
        (one,) = await west.read(lambda conn, log_id=row.id: logs.entries_between(conn, log_id, 0, 1))  # type: ignore[misc]
        place = (one.id, one.log, one.index)
        found = await west.store.own(lambda conn, at=place: west.ledger.bundles(conn, [at], with_bodies=False))  # type: ignore[misc]
        assert found == [bare(log.bundle([0]))]
        await give(west, log.change_set())


FALSE_BUNDLES: dict[str, tuple[type[PeerError], Callable[[Log, Bundle], Bundle]]] = {
    "signature": (SignatureInvalid, lambda _log, good: Bundle(Signed(good.signed.checkpoint, bytes(64)), good.entries)),
    "network": (SignatureInvalid, lambda log, _good: _elsewhere(log).bundle([1, 3])),
    "author": (UnknownSigner, lambda log, good: Bundle(_signed_for(log, WEST), good.entries)),
    "unknown": (UnknownSigner, lambda log, good: Bundle(_signed_for(log, "650104000000"), good.entries)),
    "path": (ProofInvalid, lambda _log, good: _with(good, path=good.entries[1].path[::-1])),
    "index": (ProofInvalid, lambda _log, good: _with(good, index=2)),
    "entry": (ProofInvalid, lambda log, good: _with(good, raw=log.entries[0].entry.raw)),
    "outside": (ProofInvalid, lambda _log, good: _with(good, index=9)),
    "twice": (ProofInvalid, lambda _log, good: Bundle(good.signed, (good.entries[0], *good.entries))),
}


def _signed_for(log: Log, node: str) -> Signed:
    return sign_checkpoint(msgspec.structs.replace(log.checkpoint(), node=node), log.key, log.network)


def _with(bundle: Bundle, **values: Any) -> Bundle:
    """Change a bundle's last entry."""
    *rest, last = bundle.entries
    return Bundle(bundle.signed, (*rest, msgspec.structs.replace(last, **values)))


@pytest.mark.parametrize("kind", FALSE_BUNDLES)
async def test_a_false_bundle_takes_its_unit_with_it(west: Node, east: Node, kind: str) -> None:
    """Another signature, network, author, path, place or entry: nothing of the whole answer is kept, and the true one passes."""
    expected, make = FALSE_BUNDLES[kind]
    log = words(log_of(east), *"abcd")
    before = await dump(west)
    with pytest.raises(expected):
        await bring(west, log.bundle([0]), make(log, log.bundle([1, 3])))
    assert await dump(west) == before
    await bring(west, log.bundle([1, 3]))
    assert [one[0] for one in await held(west, log)] == [1, 3]


async def test_another_entry_in_a_bundle_is_evidence(west: Node, east: Node) -> None:
    """Two signed entries under one index: both checkpoints are kept, the first stands, the other is kept on a branch."""
    log = words(log_of(east), "a", "b")
    other = words(twin_of(log, 1), "x")
    await bring(west, log.bundle([1]))
    for _ in range(2):
        (taken,) = await bring(west, other.bundle([1]))
        assert (taken.index, taken.row.branch, taken.entry.raw) == (1, other.entries[1].link, other.entries[1].entry.raw)
        assert await evidence(west) == [(1, log.checkpoint(), other.checkpoint())]
        assert await held(west, log) == entries(log)[1:]
        assert await held(west, log, taken.row.branch) == entries(other)[1:]

    assert sorted(await relayed_of(west, log), key=str) == sorted([log.bundle([1]), other.bundle([1])], key=str)


async def test_an_entry_of_a_whole_log_in_a_bundle_is_held_already(city: Node, east: Node) -> None:
    """A bundle about a log of our subtree adds nothing, and what differs in it is evidence."""
    log = words(log_of(east), "a", "b")
    other = words(twin_of(log, 1), "x")
    await give(city, log.change_set())
    before = await dump(city)
    assert [one.index for one in await bring(city, log.bundle([0, 1]))] == [0, 1]
    assert await dump(city) == before
    await bring(city, other.bundle([1]))
    assert await evidence(city) == [(1, log.checkpoint(), other.checkpoint())]
    assert await held(city, log) == entries(log)


# --- bodies


def bare(bundle: Bundle, *indexes: int) -> Bundle:
    """Withhold the bodies of some entries, or of all."""
    return Bundle(
        bundle.signed,
        tuple(
            msgspec.structs.replace(one, body=None) if one.index in indexes or not indexes else one
            for one in bundle.entries
        ),
    )


async def bodies(node: Node, log: Log) -> dict[int, bytes | None]:
    return {index: body for index, _, body in await held(node, log)}


async def test_a_body_may_come_later(west: Node, east: Node) -> None:
    """An entry held without its body gains it from a later bundle, and the case is then found by the name in it."""
    log = log_of(east)
    case = opening(log, west)
    words(log, "a")
    plain = log.state("note.test", None, {"text": "outside cases"})
    await bring(west, bare(log.bundle([0, 2])))
    assert await bodies(west, log) == {0: None, 2: None}
    assert await ask(west, "list", find="王伟") == []
    await bring(west, log.bundle([0, 2]))
    assert await bodies(west, log) == {0: case.entry.body, 2: plain.entry.body}
    assert [row["applicant"] for row in await ask(west, "list", find="王伟")] == ["王伟"]


async def test_a_body_is_kept_only_once_its_salt_proves_it(west: Node, east: Node) -> None:
    """While the opening's body is not here, nothing proves a body of the case: it is left out, and taken when it comes again."""
    log = log_of(east)
    case = opening(log, west)
    note = noted(log, west, case)
    false = noted(twin_of(log, 0), west, case, "已当面通知")
    assert len(false.entry.body or b"") == len(note.entry.body or b"")  # without the salt only the length is compared
    for given in (note.entry.body, false.entry.body):
        await bring(west, bare(_with(log.bundle([0, 1]), body=given), 0))
        assert await bodies(west, log) == {0: None, 1: None}
    await bring(west, log.bundle([0]))
    await bring(west, _with(log.bundle([0, 1]), body=false.entry.body))
    assert await bodies(west, log) == {0: case.entry.body, 1: None}
    await bring(west, log.bundle([1]))
    assert await bodies(west, log) == {0: case.entry.body, 1: note.entry.body}


async def test_a_false_opening_body_gives_no_salt(west: Node, east: Node) -> None:
    """A salt counts only once the opening's header proves the body that holds it: a lie shuts the truth out nowhere."""
    log = log_of(east)
    case = opening(log, west)
    note = noted(log, west, case)
    lie = encode_body({**decode_body(case.entry.body or b""), "salt": bytes(16)})
    good = log.bundle([0, 1])
    await bring(west, Bundle(good.signed, (msgspec.structs.replace(good.entries[0], body=lie), good.entries[1])))
    assert await bodies(west, log) == {0: None, 1: None}
    await bring(west, log.bundle([0]))
    await bring(west, good)
    assert await bodies(west, log) == {0: case.entry.body, 1: note.entry.body}


async def test_opening_and_other_bodies_come_late_together(west: Node, east: Node) -> None:
    """An answer that brings the opening's body proves the other bodies in it."""
    log = log_of(east)
    case = opening(log, west)
    note = noted(log, west, case)
    await bring(west, bare(log.bundle([0, 1])))
    await bring(west, log.bundle([0, 1]))
    assert await bodies(west, log) == {0: case.entry.body, 1: note.entry.body}


async def test_a_false_body_is_left_out_of_a_true_entry(west: Node, east: Node) -> None:
    """Bodies are outside the proof: a false one does not stop its entry, and the true one is taken later."""
    log = log_of(east)
    case = opening(log, west)
    noted(log, west, case)
    words(log, "a")
    log.state("note.test", None, {"text": "outside cases"})
    true = {index: log.entries[index].entry.body or b"" for index in (0, 1, 3)}
    lies = {0: true[0].replace("王伟".encode(), "李伟".encode()), 1: true[1][:-1] + b"?", 3: true[3][:-1] + b"?"}
    good = log.bundle([0, 1, 3])
    false = Bundle(good.signed, tuple(msgspec.structs.replace(one, body=lies[one.index]) for one in good.entries))
    await bring(west, false)
    assert await bodies(west, log) == {0: None, 1: None, 3: None}
    await bring(west, log.bundle([0]))
    for given in (good, false):
        await bring(west, given)
        assert await bodies(west, log) == true


async def test_an_opening_from_another_log_proves_bodies_too(west: Node, east: Node, city: Node) -> None:
    """A case goes through several hands: the salt of its opening holds for every author's bodies, in one answer or in two."""
    log, other = log_of(east), log_of(city)
    case = opening(log, west)
    first, second = noted(other, west, case, "一"), noted(other, west, case, "二")
    await bring(west, log.bundle([0]), other.bundle([0]))
    await bring(west, other.bundle([1]))
    assert await bodies(west, other) == {0: first.entry.body, 1: second.entry.body}


async def test_a_case_that_comes_again_is_found_once(west: Node, east: Node) -> None:
    """Repeated bundles leave one row of names; after a correction the case is found by both names."""
    log = log_of(east)
    case = opening(log, west)
    noted(log, west, case, "王炜", "correct")
    for _ in range(3):
        await bring(west, log.bundle([0]))
    for _ in range(3):
        await bring(west, log.bundle([0, 1]))
    assert await count(west, "names") == 1
    for name in ("王伟", "王炜", "王"):
        assert [row["key"] for row in await ask(west, "list", find=name)] == [case.link.hex()], name


async def test_a_corrected_name_is_found_when_its_body_comes_later(west: Node, east: Node) -> None:
    """Old and new name find the case, also if the correction's body came after both entries."""
    log = log_of(east)
    case = opening(log, west)
    noted(log, west, case, "赵云", "correct")
    await bring(west, bare(log.bundle([0, 1]), 1))
    assert await ask(west, "list", find="赵云") == []
    await bring(west, log.bundle([1]))
    for name in ("王伟", "赵云"):
        assert [row["key"] for row in await ask(west, "list", find=name)] == [case.link.hex()], name


async def test_entries_come_in_any_order_and_by_any_way(city: Node, west: Node, east: Node) -> None:
    """Bundles before, between and after sets, in whatever order: the case comes out the same."""
    log = log_of(east)
    case = opening(log, city)
    words(log, "a")
    noted(log, city, case)
    accept(log, city, case)
    ways: list[Sequence[Bundle | ChangeSet]] = [
        [log.change_set()],
        [log.bundle([3]), log.bundle([2]), log.bundle([0])],
        [log.bundle([2, 3]), log.change_set(0, 2), log.change_set(2)],
        [log.change_set(0, 3), log.bundle([0, 3]), log.change_set(3)],
    ]
    found = []
    for way in ways:
        await _forget(city)
        for one in way:
            await (give(city, one) if isinstance(one, ChangeSet) else bring(city, one))
        found.append(await city.read(lambda conn: _state(conn, case.link)))
    assert found[0][0] == "accepted"
    assert found == [found[0]] * len(ways)


def _state(conn: Connection, key: bytes) -> tuple[object, ...]:
    row = cases.load_by_keys(conn, [key])[key]
    return row.state, row.number, row.holder, row.context, row.salt, row.entries, row.waiting


async def _forget(node: Node) -> None:
    """Forget everything of the district's logs: a node that begins anew."""

    def unit(conn: Connection, _changes: Changes) -> None:
        mine = "(SELECT id FROM logs WHERE node = ?)"
        conn.execute(f"DELETE FROM paths WHERE entry IN (SELECT id FROM entries WHERE log IN {mine})", (EAST,))
        conn.execute(f"DELETE FROM entries WHERE log IN {mine}", (EAST,))
        conn.execute(f"DELETE FROM checkpoints WHERE log IN {mine}", (EAST,))
        conn.execute("DELETE FROM logs WHERE node = ?", (EAST,))
        cases.clear(conn)
        conn.execute("DELETE FROM cases")

    await node.write(unit)


async def test_a_set_is_rebuilt_from_what_bundles_brought(west: Node, east: Node) -> None:
    """The short form counts back to entries that came singly: their places are known as well as those of sets."""
    log = log_of(east)
    case = opening(log, west)
    noted(log, west, case)
    change = log.change_set(1)
    assert all(not isinstance(one, bytes) for one in change.entries)
    with pytest.raises(DecodeError):
        rebuild(decode_checkpoint(change.signed.checkpoint), change.entries, {})
    await bring(west, log.bundle([0], 0, 1))
    with pytest.raises(GapFound):
        await give(west, change)
    await give(west, log.change_set(0, 1), change)
    assert await held(west, log) == entries(log)
