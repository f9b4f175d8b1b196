"""Sync through a file that is carried by hand: writing any such file, and the child's side of what is in it.

The same steps as over the line, through the same code: what the parent has not acknowledged goes up as pushes; what the parent's
file brings is taken in page by page (`node.uplink.pulling.take_page`), and its receipts are believed as if they had come with a
reply (`keep_receipt`). Each piece is one unit of work: a crash, or a stick pulled out, leaves what was taken in, and the
same file again changes nothing more.

No order of files is asked for. A cursor moves only where a page begins at or before it, an acknowledgement only by a
receipt of the parent. `hub.carrying` adds the parent's side and the commands.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec

from node import faults
from node.ledger import Changes, Ledger, change_set
from node.node import PROGRAM, Node
from node.store import cases, logs
from node.store.database import Connection
from node.store.logs import LogRow
from node.uplink.bundles import keep_receipt, learn_chain, take_bundles
from node.uplink.pulling import CASES_CURSOR, TEXTS_CURSOR, take_page
from protocol import carry, keys, limits, messages
from protocol.errors import GapFound, InputError, NotPermitted, StoreError, UnknownSigner, WrongNetwork
from protocol.log import ChangeSet, decode_checkpoint, decode_header

PIECE_BYTES: Final = 256 << 10  # of entries in one piece, about: what a writer is busy with at once

M = TypeVar("M", bound=msgspec.Struct)


# --- writing a file


@dataclass(frozen=True, slots=True)
class Cargo:
    """What goes into one piece. entries: how many it holds."""

    kind: carry.Kind
    packed: bytes
    entries: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file, in their order. The first part is the opening, and has no kind."""

    data: bytes
    head: carry.Head
    kind: carry.Kind | None = None
    entries: int = 0


async def write_file(node: Node, target: str, cargo: AsyncIterator[Cargo]) -> AsyncIterator[Part]:
    """Yield a file for another node part by part: memory holds one piece.

    Raises:
        InputError: no such node is known here.
    """
    record = node.rules.record(target)
    if record is None:
        raise InputError(f"node {target} is not known here", hint="`tongban status` shows parent and children.")
    identity = node.ledger.identity
    made_at, mark = node.clock.wall_ms(), node.entropy.bytes(16)
    head = carry.Head(identity.network, identity.node, target, made_at, mark, identity.key.id, keys.key_id(record.seal_key))
    writer = carry.Writer(head, identity.key, record.seal_key)
    yield Part(writer.opening, head)
    index = entries = 0
    async for one in cargo:
        yield Part(writer.piece(index, one.kind, one.packed, node.entropy.bytes(32)), head, one.kind, one.entries)
        faults.point("carry.piece_written")
        index, entries = index + 1, entries + one.entries
    end = messages.encode(carry.End(entries))
    yield Part(writer.piece(index, carry.Kind.END, end, node.entropy.bytes(32)), head, carry.Kind.END)


async def upward(node: Node, *, whole: bool = False) -> AsyncIterator[Cargo]:
    """Yield what a hub above needs: our cursors, and all that the parent has not acknowledged, as pushes.

    Args:
        whole: everything from the beginning, for a hub that was put back from an old copy.
    """
    ledger = node.ledger
    state = await node.store.own(lambda conn: carry.State(cursors_of(ledger, conn), PROGRAM, _waiting(conn)))
    yield Cargo(carry.Kind.STATE, messages.encode(state))
    legs = await node.store.own(lambda conn: _plan(ledger, conn, whole=whole))
    while legs:
        packed, entries, legs = await node.store.own(lambda conn, legs=legs: _next_push(ledger, conn, legs))  # type: ignore[misc]
        if entries:
            yield Cargo(carry.Kind.PUSH, packed, entries)


def cursors_of(ledger: Ledger, conn: Connection) -> messages.Cursors:
    """Return how far this node has come with its parent's news."""
    incarnation, position = logs.get_cursor(conn, CASES_CURSOR)
    _, texts = logs.get_cursor(conn, TEXTS_CURSOR)
    return messages.Cursors(ledger.rules.number, texts, incarnation, position)


def _waiting(conn: Connection) -> tuple[bytes, ...]:
    """Return the cases in which something is missing: on a line they would be fetched."""
    return tuple(row.key for row in cases.load_by_ids(conn, cases.waiting_ids(conn, limits.LISTED_MAX)))


@dataclass(frozen=True, slots=True)
class _Leg:
    """A log of which [at, end) is still to be packed. `end` is fixed at the start: who writes on does not keep us busy for ever."""

    log: int
    at: int
    end: int


def _plan(ledger: Ledger, conn: Connection, *, whole: bool) -> tuple[_Leg, ...]:
    """Return what is to be packed: our own log first, logs that the parent has nothing of last, and of these the higher node's first."""
    ledger.seal(conn)
    acked = {} if whole else logs.acks(conn)
    own, view = ledger.own_row(conn).id, ledger.rules.now
    rows = [row for row in logs.load_logs(conn) if row.size > acked.get(row.id, 0)]

    def place(row: LogRow) -> tuple[bool, int, int]:
        return row.id != own, 0 if acked.get(row.id) else 1 + len(view.ancestors(row.log.node)), row.id

    return tuple(_Leg(row.id, max(acked.get(row.id, 0), row.start), row.size) for row in sorted(rows, key=place))


def _next_push(ledger: Ledger, conn: Connection, legs: tuple[_Leg, ...]) -> tuple[bytes, int, tuple[_Leg, ...]]:
    """Pack the next push; returns it, how many entries it brings, and what is left."""
    sets: list[ChangeSet] = []
    entries, room, bounds = 0, PIECE_BYTES, len(legs)
    while legs and bounds - len(legs) < limits.PUSH_LOGS_MAX:
        leg, at = legs[0], legs[0].at
        row = logs.load_log(conn, leg.log)
        for signed in ledger.checkpoints_from(conn, row, at):
            checkpoint = decode_checkpoint(signed.checkpoint)
            room -= logs.run_bytes(conn, row.id, checkpoint.start, checkpoint.size)
            if sets and (room < 0 or len(sets) >= limits.SETS_PER_PUSH_MAX):
                return _packed(ledger, conn, sets), entries, (replace(leg, at=at), *legs[1:])
            sets.append(change_set(conn, row, signed, checkpoint))
            entries, at = entries + checkpoint.size - at, checkpoint.size
            if at >= leg.end:
                break
        legs = legs[1:] if at in {leg.at, leg.end} else (replace(leg, at=at), *legs[1:])
    return _packed(ledger, conn, sets), entries, legs


def _packed(ledger: Ledger, conn: Connection, sets: Sequence[ChangeSet]) -> bytes:
    return messages.encode(messages.Push(tuple(sets), ledger.newest_seal(conn)))


# --- reading a file


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one piece.

    Attributes:
        entries: new ones. known: those that were here already.
        registers: rules taken in.
        receipts: new ones that came, each (hub, receive time in ms).
        acked: entries that the parent's receipts newly acknowledge.
        stated: receipts that this hub stated for what it took.
        forks: rival histories met.
        end: this was the last piece.
    """

    entries: int = 0
    known: int = 0
    registers: int = 0
    receipts: tuple[tuple[str, int], ...] = ()
    acked: int = 0
    stated: int = 0
    forks: int = 0
    end: bool = False


def check_target(node: Node, opening: bytes) -> carry.Head:
    """Check that a file is for this node.

    Raises:
        DecodeError, VersionUnsupported: no file that this program reads.
        WrongNetwork, NotPermitted: of another network, or for another node.
    """
    head = carry.decode_opening(opening)
    if head.network != node.ledger.identity.network:
        raise WrongNetwork("the carry file belongs to another network", hint="Nothing of it was taken in.")
    if head.target != node.id:
        raise NotPermitted(
            f"the carry file is sealed for {head.target}, not for this node", hint=f"Take it in at {head.target}."
        )
    return head


def open_piece(node: Node, opening: bytes, index: int, sealed: bytes) -> tuple[carry.Head, carry.Kind, bytes]:
    """Open one piece of a file: returns the file's head, the kind, and the packed message.

    Raises:
        PeerError: as `check_target` and `protocol.carry.open_piece`.
        NotPermitted: by a key that was revoked, or sealed for one that this node never had.
        UnknownSigner: the sender, or its key, is not known here (yet).
        StoreError: this folder has no sealing key.
    """
    head = check_target(node, opening)
    key = node.rules.key_of(head.sender, head.key)
    if key is None:
        raise UnknownSigner(
            f"node {head.sender}, or its key, is not known here",
            node=head.sender,
            hint="Its enrolment is still on its way: take in the file of this node's own parent first.",
        )
    if node.rules.is_distrusted(head.sender, key):
        raise NotPermitted(f"the key of node {head.sender} was revoked", hint="It must join again with a new code.")
    kind, packed = carry.open_piece(opening, index, sealed, _sealing_key(node, head), key)
    return head, kind, packed


async def learn_keys(node: Node, opening: bytes, sealed: bytes) -> bool:
    """Learn the sender's present key from a file's first piece, if it begins with a chain of keys; tells whether it does.

    Raises:
        PeerError: not for us, or the chain does not hold.
    """
    head = check_target(node, opening)
    said = carry.peek_keys(opening, sealed, _sealing_key(node, head))
    if said is None:
        return False
    await learn_chain(node, said.chain)
    return True


def _sealing_key(node: Node, head: carry.Head) -> keys.SealingKey:
    """Return the key for which a file is sealed: the present one, or an earlier one if the file was long on its way."""
    if node.sealing is None:
        raise StoreError("this node has no sealing key at hand", hint="Restore keys/sealing.seed from the key backup.")
    for record in reversed(node.rules.records(node.id)):
        if keys.key_id(record.seal_key) == head.lock:
            return node.sealing(record.seal_key)
    raise NotPermitted("the carry file is sealed for a key that this node never had", hint="Have it written again.")


async def take_down(node: Node, head: carry.Head, kind: carry.Kind, packed: bytes) -> Taken:
    """Take in one piece of the parent's file, as one unit of work.

    Raises:
        NotPermitted: it is not from our parent.
        GapFound: an earlier file of the parent is missing here.
        PeerError: not authentic; nothing of this piece was kept.
    """
    if head.sender != node.parent:
        raise NotPermitted(
            f"the carry file is from {head.sender}, which is not this node's parent",
            hint="Take in the file of the parent.",
        )
    if kind is carry.Kind.PAGE:
        page = messages.decode(packed, carry.Page)
        return await node.write(lambda conn, changes: _counted(conn, lambda: _take_page(node.ledger, conn, changes, page)))
    receipts = messages.decode(packed, carry.Receipts)
    return await node.write(lambda conn, changes: _take_receipts(node, conn, changes, receipts))


def _counted(conn: Connection, work: Callable[[], Taken]) -> Taken:
    """Run a part of a unit and count the entries that it added."""
    before = logs.next_entry_id(conn)
    taken = work()
    added = logs.next_entry_id(conn) - before
    return replace(taken, entries=added, known=max(taken.known - added, 0))


def _take_page(ledger: Ledger, conn: Connection, changes: Changes, said: carry.Page) -> Taken:
    """Apply a page of news as if it had been pulled; `known` counts all its entries."""
    number, stated = ledger.rules.number, [bundle for news in said.page.registers for bundle in (news.register, *news.facts)]
    held = sum(len(bundle.entries) for bundle in [*said.chains, *stated, *said.page.cases])
    following = next((news.number for news in said.page.registers if news.number > number), number + 1)
    if following > number + 1:
        raise GapFound(
            f"the carry file goes on from register {following - 1}, here are only {number}",
            size_held=number,
            hint="Bring the parent a fresh file of this node (`tongban carry out`): its answer begins where this node stands.",
        )
    if said.chains:
        take_bundles(ledger, conn, changes, said.chains)
        changes.rules = True
    cursors = _merged(cursors_of(ledger, conn), said.after, said.page.cursors)
    take_page(ledger, conn, changes, msgspec.structs.replace(said.page, cursors=cursors))
    faults.point("carry.page_taken")
    return Taken(known=held, registers=ledger.rules.number - number)


def _merged(mine: messages.Cursors, after: messages.Cursors, to: messages.Cursors) -> messages.Cursors:
    """Return where this node stands behind a page: no cursor goes back, and none passes over what this page did not bring."""
    texts = max(mine.catalogue, to.catalogue) if after.catalogue <= mine.catalogue else mine.catalogue
    run, position = mine.incarnation, mine.cases
    if (after.incarnation, after.cases) == (run, position):
        run, position = to.incarnation, to.cases
    elif to.incarnation == run and (after.cases == 0 or (after.incarnation == run and after.cases <= position)):
        position = max(position, to.cases)
    return messages.Cursors(mine.registers, texts, run, position)


def _take_receipts(node: Node, conn: Connection, changes: Changes, said: carry.Receipts) -> Taken:
    """Keep receipts; those of the parent move the acknowledgement, never back."""
    acked, moved, new = logs.acks(conn), 0, []
    for bundle in said.bundles:
        held = logs.next_entry_id(conn)
        receipted = keep_receipt(node.ledger, conn, changes, bundle)
        header = decode_header(bundle.entries[0].raw)
        if logs.next_entry_id(conn) > held:
            new.append((header.node, int(header.fields["at"])))
        for log_id, size in receipted.items() if header.node == node.parent else ():
            if acked.get(log_id, 0) < size <= logs.load_log(conn, log_id).size:
                moved += size - acked.get(log_id, 0)
                acked[log_id] = size
                logs.save_ack(conn, log_id, size)
    changes.receipts = True
    faults.point("carry.receipts_taken")
    return Taken(receipts=tuple(new), acked=moved)
