"""A station's side of files carried by hand: what it writes, what it believes, and that no order or repetition matters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hub.carrying import take_piece
from hub.serving import pull
from node import carrying
from node.carrying import Cargo, _merged
from node.node import Node
from node.store import logs
from node.store.database import Connection
from protocol import carry, keys, messages
from protocol.errors import (
    GapFound,
    InputError,
    NotPermitted,
    PeerError,
    SignatureInvalid,
    StoreError,
    UnknownSigner,
    WrongNetwork,
)
from protocol.messages import Cursors
from tests import sticks
from tests.node.building import CITY, EAST, MINUTE_MS, ask, brought_to, enrol, found, furnish, hire, opened, seal, show
from tests.sticks import added_up, take, write

RUN, OTHER = b"r" * 16, b"s" * 16


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


async def size_acked(node: Node) -> int:
    def read(conn: Connection) -> int:
        return logs.acks(conn).get(node.ledger.own_row(conn).id, 0)

    return await node.read(read)


async def forged(node: Node, head: carry.Head, key: keys.SigningKey, cargo: Cargo, target: bytes) -> bytes:
    """Return a file as somebody else would write it."""
    made = carry.Writer(head, key, target)
    end = made.piece(1, carry.Kind.END, messages.encode(carry.End()), node.entropy.bytes(32))
    return made.opening + made.piece(0, cargo.kind, cargo.packed, node.entropy.bytes(32)) + end


async def refused(node: Node, file: bytes, kind: type[Exception], match: str | None = None) -> None:
    """Take in a file that must be refused and leave everything as it was."""
    before = await node.read(sticks.held)
    with pytest.raises(kind, match=match):
        await take(node, file)
    assert await node.read(sticks.held) == before


async def test_only_a_receipt_moves_the_acknowledgement(city: Node, east: Node) -> None:
    """Writing a file, and the parent's taking it, acknowledge nothing; the receipt that comes back does, to just what it names."""
    await opened(east)
    file = await write(east)
    assert await size_acked(east) == 0
    await take(city, file)
    assert await size_acked(east) == 0
    await opened(east, "李梅")  # after the file was written
    back = await take(east, await write(city, EAST))
    assert added_up(back)["acked"] == await size_acked(east) == 3
    assert [one.receipts for one in back if one.receipts] == [((CITY, city.clock.wall_ms()),)]
    assert added_up(await take(city, await write(east)))["entries"] == 1


async def test_what_is_acknowledged_is_not_written_again_unless_all_is_asked_for(city: Node, east: Node) -> None:
    """A file brings what the parent lacks; `--all` brings everything, for a parent put back from an old copy."""
    await opened(east)
    await take(city, await write(east))
    await take(east, await write(city, EAST))
    assert added_up(await take(city, await write(east))) == {}
    assert added_up(await take(city, await write(east, whole=True))) == {"known": 3}


async def test_a_long_backlog_is_many_pieces_of_bounded_size(city: Node, east: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds one piece: a backlog is cut into pushes, each taken in as a unit of its own."""
    monkeypatch.setattr(carrying, "PIECE_BYTES", 3_000)
    monkeypatch.setattr("node.ledger.SET_BYTES", 1_500)
    for number in range(12):
        await opened(east, f"王{number}")
    file = await write(east)
    _, pieces = sticks.split(file)
    assert len(pieces) > 4
    assert added_up(await take(city, file)) == {"entries": 14, "stated": len(pieces) - 2}


async def test_who_writes_on_does_not_keep_a_file_from_ending(city: Node, east: Node) -> None:
    """A file holds what stood there when it was begun, also while a counter goes on saving."""
    await opened(east)
    file = b""
    async for part in carrying.write_file(east, CITY, carrying.upward(east)):
        await opened(east, "李梅")
        file += part.data
    assert added_up(await take(city, file))["entries"] == 5  # with the two that were saved before the push was planned
    assert added_up(await take(city, await write(east)))["entries"] == 2


async def test_a_page_again_or_an_old_one_changes_nothing(city: Node, east: Node) -> None:
    """The parent's files may come in any order and any number of times."""
    case = await opened(east)
    await ask(east, "case.offer", case=case, to=CITY)
    await take(city, await write(east))
    old = await write(city, EAST)
    await brought_to(city, case, "take", "accept")
    new = await write(city, EAST)
    assert added_up(await take(east, new))["entries"] >= 2
    assert (await show(east, case))["state"] == "accepted"
    before = await east.read(sticks.held)
    for file in (new, old, old, new):
        assert {"entries", "acked", "registers", "receipts"} & added_up(await take(east, file)).keys() == set()
    assert await east.read(sticks.held) == before


@pytest.mark.parametrize(
    ("mine", "after", "to", "expected"),
    [
        ((RUN, 5), (RUN, 5), (RUN, 9), (RUN, 9)),  # it goes on from here
        ((RUN, 7), (RUN, 5), (RUN, 9), (RUN, 9)),  # it begins before
        ((RUN, 9), (RUN, 5), (RUN, 7), (RUN, 9)),  # an old one
        ((RUN, 4), (RUN, 5), (RUN, 9), (RUN, 4)),  # one between is missing
        ((b"", 0), (b"", 0), (RUN, 9), (RUN, 9)),  # the first
        ((RUN, 5), (b"", 0), (RUN, 9), (RUN, 9)),  # from the beginning
        ((RUN, 5), (RUN, 5), (OTHER, 2), (OTHER, 2)),  # the hub counts anew
        ((OTHER, 5), (RUN, 5), (RUN, 9), (OTHER, 5)),  # of positions that no longer count
        ((OTHER, 5), (RUN, 3), (OTHER, 9), (OTHER, 5)),  # nobody can tell: pull it again
    ],
)
def test_no_cursor_passes_over_what_did_not_come(
    mine: tuple[bytes, int], after: tuple[bytes, int], to: tuple[bytes, int], expected: tuple[bytes, int]
) -> None:
    """A cursor moves only where the page begins at or before it, and never back."""
    made = _merged(Cursors(1, 1, *mine), Cursors(1, 1, *after), Cursors(1, 1, *to))
    assert (made.incarnation, made.cases) == expected


def test_no_texts_are_passed_over() -> None:
    """The same for the texts of items."""
    assert _merged(Cursors(5, 2, b"", 0), Cursors(3, 3, b"", 0), Cursors(5, 5, b"", 0)).catalogue == 2
    assert _merged(Cursors(5, 4, b"", 0), Cursors(3, 3, b"", 0), Cursors(5, 5, b"", 0)).catalogue == 5
    assert _merged(Cursors(5, 9, b"", 0), Cursors(3, 3, b"", 0), Cursors(5, 5, b"", 0)).catalogue == 9


async def test_files_that_are_not_for_us_change_nothing(city: Node, east: Node, tmp_path: Path) -> None:
    """Of another network, for another node, from a stranger, from somebody who is not the parent: refused, and said why."""
    await opened(east)
    up = await write(east)
    await refused(east, up, NotPermitted, "sealed for 650100000000")
    abroad = await enrol(tmp_path / "abroad", await found(tmp_path / "other", seed=9), EAST, seed=8)
    await refused(city, await write(abroad), WrongNetwork)
    identity, page = city.ledger.identity, carry.Page(Cursors(0, 0, b"", 0), messages.PullReply(Cursors(0, 0, b"", 0)))
    record = city.rules.record(EAST)
    assert record is not None
    cargo = Cargo(carry.Kind.PAGE, messages.encode(page))
    honest = carry.Head(identity.network, CITY, EAST, 0, bytes(16), identity.key.id, keys.key_id(record.seal_key))
    thief = keys.SigningKey(bytes([7]) * 32)
    await refused(east, await forged(city, honest, thief, cargo, record.seal_key), SignatureInvalid)
    stranger = msgspec.structs.replace(honest, sender=EAST + "-x", key=thief.id)
    await refused(east, await forged(city, stranger, thief, cargo, record.seal_key), UnknownSigner)
    own = msgspec.structs.replace(honest, sender=EAST, key=east.ledger.identity.key.id)
    await refused(east, await forged(city, own, east.ledger.identity.key, cargo, record.seal_key), NotPermitted, "not this node's parent")


async def test_a_page_behind_a_gap_of_rules_is_refused(city: Node, east: Node) -> None:
    """Rules that go on from rules which are not here are refused whole, with what to do."""
    number = east.rules.number
    await ask(city, "case.open", item="permit", applicant="王伟", id_number="11010519491231002X")
    page = await city.store.own(lambda conn: _far_page(city, conn, number))
    identity, record = city.ledger.identity, city.rules.record(EAST)
    assert record is not None
    head = carry.Head(identity.network, CITY, EAST, 0, bytes(16), identity.key.id, keys.key_id(record.seal_key))
    file = await forged(city, head, identity.key, Cargo(carry.Kind.PAGE, messages.encode(page)), record.seal_key)
    await refused(east, file, GapFound, "goes on from register")


def _far_page(city: Node, conn: Connection, number: int) -> carry.Page:
    whole = pull(city.ledger, conn, EAST, messages.Pull(Cursors(0, 0, b"", 0)))
    far = tuple(msgspec.structs.replace(news, number=number + 2) for news in whole.registers[-1:])
    return carry.Page(Cursors(number + 1, 0, b"", 0), msgspec.structs.replace(whole, registers=far))


async def test_each_piece_stands_for_itself(city: Node, east: Node) -> None:
    """Of a file that is damaged in its third piece the first two stay, and the whole one may be brought afterwards."""
    await opened(east)
    await take(city, await write(east))
    file = await write(city, EAST)
    opening, pieces = sticks.split(file)
    assert len(pieces) == 3
    await take_piece(east, opening, 0, pieces[0])
    broken = bytes([pieces[1][0] ^ 1]) + pieces[1][1:]
    with pytest.raises(PeerError):
        await take_piece(east, opening, 1, broken)
    assert await size_acked(east) == 0
    assert added_up(await take(east, file))["acked"] == 3


async def test_without_a_sealing_key_nothing_is_opened(city: Node, east: Node) -> None:
    """A folder that lost its sealing key says so, and works on otherwise."""
    await opened(east)
    file = await write(east)
    city.sealing = None
    await refused(city, file, StoreError, "no sealing key")


async def test_files_are_written_for_known_nodes_only(east: Node) -> None:
    """Whom nobody enrolled has no key to seal to."""
    with pytest.raises(InputError, match="not known"):
        await anext(aiter(carrying.write_file(east, "650109000000", carrying.upward(east))))


async def test_news_of_a_case_wait_for_nothing_that_the_file_brings_itself(city: Node, east: Node) -> None:
    """A case that comes back by hand is whole, and its page the same at both ends."""
    case = await opened(east)
    await ask(east, "case.offer", case=case, to=CITY)
    await take(city, await write(east))
    city.clock.pass_ms(MINUTE_MS)  # type: ignore[attr-defined]
    await brought_to(city, case, "take", "accept", "dispatch", "task:社保核验", "task:民政核验", "decide", "finish")
    await seal(city)
    await take(east, await write(city, EAST))
    assert (await show(east, case))["digest"] == (await show(city, case))["digest"]
