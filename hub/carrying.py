"""The parent's side of files that are carried by hand, and the commands `carry out` and `carry in` of every node.

Up: the pushes of a child's file are taken by the very function that takes them from the line (`hub.intake.take_pushes`), each in a
unit of its own with its receipt. What is held already states nothing again. Down: what a pull from the child's last known
cursors would give, page by page, then the receipts for its subtree, this hub's own and those from further up.

What a child's file says of its cursors is kept: untrusted, of use only for where the next file for it begins; losing it costs a
longer file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from hub import feeds, serving
from hub.intake import Pushed, received_at, take_pushes
from node import carrying, faults, operations
from node import logs as lines
from node.carrying import Cargo, Part, Taken
from node.chains import chain_of
from node.ledger import Changes, Ledger
from node.node import Node
from node.office.desk import Act
from node.store import logs
from node.store.database import Connection
from node.store.feeds import last_position
from protocol import carry, codec, limits, messages
from protocol.errors import DecodeError, GapFound, InputError, NotPermitted, UnknownSigner
from protocol.log import Bundle, ChangeSet, decode_checkpoint
from protocol.problems import Fields

FIRST: Final = carry.State(messages.Cursors(0, 0, b"", 0))  # of a child that has nothing yet
PIECES_MAX: Final = 64  # in one command
STATE_NAME: Final = "carry/"  # in meta, with the child's id: canonical [made_at, registers, catalogue, run, position, [case…]]


# --- writing: down to a child


async def downward(node: Node, child: str, *, whole: bool = False) -> AsyncIterator[Cargo]:
    """Yield what a child needs from its last known cursors on, then the receipts for its subtree.

    Args:
        whole: everything from the beginning, whatever the child said.
    """
    ledger = node.ledger
    said = FIRST if whole else await node.store.own(lambda conn: _state_of(conn, child))
    state = said.cursors
    goal = await node.store.own(lambda conn: (ledger.rules.number, last_position(conn)))
    more = True
    while more:  # never further than what stood here at the start: who writes on does not keep us busy for ever
        page = await node.store.own(lambda conn, state=state: _page(ledger, conn, child, state))  # type: ignore[misc]
        yield Cargo(carry.Kind.PAGE, messages.encode(page), sum(len(bundle.entries) for bundle in page.page.cases))
        reached = page.page.cursors
        more = page.page.more and reached != state and (reached.registers < goal[0] or reached.cases < goal[1])
        state = reached
    for key in said.waiting:
        async for cargo in _whole_case(node, child, key, state):
            yield cargo
    wanted = await node.store.own(lambda conn: serving.logs_below(ledger, conn, child))
    while wanted:
        bundles, wanted = await node.store.own(lambda conn, wanted=wanted: _receipts(ledger, conn, wanted))  # type: ignore[misc]
        if bundles:
            yield Cargo(carry.Kind.RECEIPTS, messages.encode(carry.Receipts(tuple(bundles))), 0)


async def _whole_case(node: Node, child: str, key: bytes, at: messages.Cursors) -> AsyncIterator[Cargo]:
    """Yield all that is held of a case in which a child misses something, in pages that move no cursor."""
    ledger, start, more = node.ledger, 0, True
    while more:
        ask = messages.Fetch("case", key=key, start=start)
        try:
            reply = await node.store.own(lambda conn, ask=ask: serving.fetch(ledger, conn, child, ask))  # type: ignore[misc]
        except NotPermitted:
            return  # by now it has no part in that case
        count = sum(len(bundle.entries) for bundle in reply.bundles)
        if count:
            page = await node.store.own(lambda conn, reply=reply: _with_chains(ledger, conn, at, messages.PullReply(at, cases=reply.bundles)))  # type: ignore[misc]
            yield Cargo(carry.Kind.PAGE, messages.encode(page), count)
        start, more = start + count, reply.more and bool(count)


def _page(ledger: Ledger, conn: Connection, child: str, after: messages.Cursors) -> carry.Page:
    return _with_chains(ledger, conn, after, serving.pull(ledger, conn, child, messages.Pull(after, carrying.PIECE_BYTES)))


def _with_chains(ledger: Ledger, conn: Connection, after: messages.Cursors, page: messages.PullReply) -> carry.Page:
    """Return a page with the keys' chains of authors whose keys no register names: nobody can fetch them without a line."""
    authors = {decode_checkpoint(bundle.signed.checkpoint).node for bundle in page.cases}
    unknown = sorted(author for author in authors if not _is_registered(ledger, author))
    return carry.Page(after, page, tuple(bundle for author in unknown for bundle in chain_of(ledger, conn, author)))


def _is_registered(ledger: Ledger, node: str) -> bool:
    """Tell whether a register names a node with the key that it has now."""
    stated, known = ledger.rules.now.node(node), ledger.rules.record(node)
    return stated is not None and known is not None and stated.key == known.key


def _receipts(ledger: Ledger, conn: Connection, wanted: set[int]) -> tuple[list[Bundle], set[int]]:
    """Return the newest receipts for some logs, this hub's first, within a bound; and the logs for which there was no room."""
    hubs = (ledger.identity.node, *ledger.rules.now.ancestors(ledger.identity.node))
    return serving.receipts_by(ledger, conn, wanted, hubs)


# --- reading: up from a child


async def take_up(node: Node, head: carry.Head, kind: carry.Kind, packed: bytes) -> Taken:
    """Take in one piece of a file from below, or from whoever relays, as one unit of work.

    Raises:
        GapFound: entries before these are missing here.
        PeerError: not authentic; nothing of this piece was kept.
    """
    if kind is carry.Kind.STATE:
        state = messages.decode(packed, carry.State)
        await node.write(lambda conn, _: _note_state(node, conn, head, state))
        return Taken()
    push = messages.decode(packed, messages.Push)
    taken = await node.write(lambda conn, changes: _take_push(node, conn, changes, head, push))
    if taken.forks:
        lines.event("log.forked", lines.CRITICAL, child=head.sender, count=taken.forks)
    return taken


def _take_push(node: Node, conn: Connection, changes: Changes, head: carry.Head, push: messages.Push) -> Taken:
    """Apply a push. Its sender spoke when it made the file, not when somebody brought it: until now its clerks have worked on."""
    sizes = [decode_checkpoint(change.signed.checkpoint) for change in push.sets]
    entries = sum(one.size - one.start for one in sizes)
    if all(_is_held(conn, change) for change in push.sets):
        return Taken(known=entries)
    now = received_at(node, conn)
    pushed = Pushed(head.sender, push, min(head.made_at, now))
    try:
        (taken,) = take_pushes(node.ledger, conn, changes, [pushed], now)
    except GapFound as exc:
        hint = f"Have {head.sender} write its file again with `tongban carry out --all`."
        raise GapFound(exc.message, size_held=exc.size_held, log=exc.log, hint=hint) from exc
    faults.point("carry.push_taken")
    return Taken(taken.added, max(entries - taken.added, 0), stated=1, forks=taken.forks)


def _is_held(conn: Connection, change: ChangeSet) -> bool:
    """Tell whether a set brings nothing: the log, or a branch of it, is held up to there with just this root."""
    checkpoint = decode_checkpoint(change.signed.checkpoint)
    row = logs.find_log(conn, checkpoint.log)
    rows = [] if row is None else [row, *logs.branches(conn, checkpoint.log)]
    return any(one.size >= checkpoint.size and logs.root_at(conn, one, checkpoint.size) == checkpoint.root for one in rows)


# --- what a child said of itself


def _note_state(node: Node, conn: Connection, head: carry.Head, state: carry.State) -> None:
    """Remember from where a child's next file must begin: as the newest of its files says. An old file changes nothing."""
    record = node.rules.record(head.sender)
    if record is None or record.parent != node.id:
        return
    made_at = min(head.made_at, node.clock.wall_ms())  # a clock that was years ahead must not win for years
    if made_at <= _noted_at(conn, head.sender):
        return
    at = state.cursors
    packed = codec.encode([made_at, at.registers, at.catalogue, at.incarnation, at.cases, list(state.waiting)])
    logs.set_meta(conn, STATE_NAME + head.sender, packed)
    faults.point("carry.state_noted")


def _noted_at(conn: Connection, child: str) -> int:
    packed = logs.get_meta(conn, STATE_NAME + child)
    return -1 if packed is None else int(codec.decode(packed)[0])  # type: ignore[index, arg-type]


def _state_of(conn: Connection, child: str) -> carry.State:
    packed = logs.get_meta(conn, STATE_NAME + child)
    if packed is None:
        return FIRST
    _, *at, waiting = codec.decode(packed)  # type: ignore[misc]
    return carry.State(messages.Cursors(*at), waiting=tuple(waiting))  # type: ignore[arg-type]


# --- the commands


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some pieces of a file that follow one another. first: the place of the first one."""

    opening: bytes
    first: int
    pieces: tuple[bytes, ...]


async def _out(node: Node, params: Mapping[str, Any], _: Act) -> AsyncIterator[object]:
    to, whole = operations.read_params("carry.out", params, _target)
    target = to or node.parent
    if target is None:
        raise InputError("the root has no parent: say for which child", hint="Add --to NODE.")
    return _parts(carrying.write_file(node, target, _cargo(node, target, whole=whole)))


def _target(fields: Fields) -> tuple[str | None, bool]:
    return fields.optional_text("to"), fields.flag("all", default=False)


def _cargo(node: Node, target: str, *, whole: bool) -> AsyncIterator[Cargo]:
    """Return what a target needs: a node above gets what it lacks of ours, a child what it lacks of others'."""
    if target in node.rules.now.ancestors(node.id):
        return _after_keys(node, carrying.upward(node, whole=whole))
    record = node.rules.record(target)  # a child that no register names yet is one, too
    if record is not None and record.parent == node.id:
        return _after_keys(node, downward(node, target, whole=whole))
    raise InputError(f"{target} is neither above this node nor its child", hint="`tongban status` shows parent and children.")


async def _after_keys(node: Node, cargo: AsyncIterator[Cargo]) -> AsyncIterator[Cargo]:
    """Put the chain of this node's keys before a file's cargo, if it had others before: the target may know an older one."""
    if len(node.rules.records(node.id)) > 1:
        chain = await node.store.own(lambda conn: chain_of(node.ledger, conn, node.id))
        yield Cargo(carry.Kind.KEYS, messages.encode(carry.Keys(tuple(chain))))
    async for one in cargo:
        yield one


async def _parts(parts: AsyncIterator[Part]) -> AsyncIterator[object]:
    async for part in parts:
        row: dict[str, object] = {"data": base64.b64encode(part.data).decode("ascii")}
        if part.kind is None:
            told = {"from": part.head.sender, "to": part.head.target, "made_at": operations.time_text(part.head.made_at)}
            yield row | told
        else:
            yield row | {"kind": part.kind.name.lower(), "entries": part.entries}


async def _in(node: Node, params: Mapping[str, Any], _: Act) -> AsyncIterator[object]:
    batch = operations.read_params("carry.in", params, _batch)
    return _taken(node, carrying.check_target(node, batch.opening), batch)


def _batch(fields: Fields) -> _Batch:
    return _Batch(
        _bytes(fields.text("opening", chars_max=1 << 16)),
        fields.integer("first", 0, limits.LOG_SIZE_MAX, default=0),
        tuple(_bytes(text) for text in _pieces(fields)),
    )


def _pieces(fields: Fields) -> Sequence[object]:
    found = fields.raw("pieces", ())
    if isinstance(found, str) or not isinstance(found, Sequence) or len(found) > PIECES_MAX:
        fields.fault("pieces", f"must be a list of at most {PIECES_MAX}")
        return ()
    return found


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error as exc:
        raise DecodeError("a piece of the carry file is not base64") from exc


async def _taken(node: Node, head: carry.Head, batch: _Batch) -> AsyncIterator[object]:
    """Take pieces in, one unit each, and tell what became of each."""
    for index, sealed in enumerate(batch.pieces, batch.first):
        taken = await take_piece(node, batch.opening, index, sealed)
        faults.point("carry.piece_taken")
        yield {"from": head.sender, "made_at": operations.time_text(head.made_at), **_told(taken)}


def _told(taken: Taken) -> dict[str, object]:
    receipts = [{"node": hub, "at": operations.time_text(at)} for hub, at in taken.receipts]
    return {**asdict(taken), "receipts": receipts}


async def take_piece(node: Node, opening: bytes, index: int, sealed: bytes) -> Taken:
    """Open one piece of a file and take it in.

    Raises:
        PeerError: not for us, not authentic, damaged, or before its time; nothing of this piece was kept.
        StoreFull: no room on the disk.
    """
    try:
        head, kind, packed = carrying.open_piece(node, opening, index, sealed)
    except UnknownSigner:
        if index or not await carrying.learn_keys(node, opening, sealed):
            raise
        head, kind, packed = carrying.open_piece(node, opening, index, sealed)
    feeds.attach(node)
    node.admit()
    if kind is carry.Kind.END:
        messages.decode(packed, carry.End)
        return Taken(end=True)
    if kind is carry.Kind.KEYS:
        return Taken()  # who signed the piece is known: so is all that the chain leads to
    if kind in {carry.Kind.STATE, carry.Kind.PUSH}:
        return await take_up(node, head, kind, packed)
    return await carrying.take_down(node, head, kind, packed)


operations.register("carry.out", _out)
operations.register("carry.in", _in)
