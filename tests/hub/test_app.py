"""The hub's answers to whatever comes: refused with a code and a reason, state unchanged, others served, one line in the log."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.app import Hub
from node.store.database import Connection
from protocol import codec, keys, limits, messages
from protocol.log import ChangeSet, Signed, decode_checkpoint, encode_checkpoint, sign_checkpoint
from tests.hub.calling import Caller, city_and_child, count, dump
from tests.node.building import EAST, EAST_VILLAGE, WEST, ask, enrol, hire, opened


@pytest.fixture
async def child(tmp_path: Path) -> Caller:
    """A child that has logged in and has cases to push."""
    caller = await city_and_child(tmp_path)
    await hire(caller.node)
    await opened(caller.node)
    return caller


def changed(push: messages.Push, **fields: Any) -> messages.Push:
    """Return a push whose first set is another one."""
    first = msgspec.structs.replace(push.sets[0], **fields)
    return msgspec.structs.replace(push, sets=(first, *push.sets[1:]), head=None)


def resigned(push: messages.Push, key: keys.SigningKey, network: bytes, **fields: Any) -> messages.Push:
    """Return a push whose first checkpoint says something else, signed anew."""
    checkpoint = msgspec.structs.replace(decode_checkpoint(push.sets[0].signed.checkpoint), **fields)
    return changed(push, signed=sign_checkpoint(checkpoint, key, network))


# --- what cannot be read


@pytest.mark.parametrize("name", ["greet", "login", "ask", "join", "hello", "push", "pull", "wait", "fetch"])
async def test_bytes_that_are_no_message_are_refused(child: Caller, name: str) -> None:
    """Random, cut off, foreign, or deeply nested bytes: one refusal, nothing else happens."""
    whole = messages.encode(messages.Hello(bytes(32)))
    deep = codec.compress(b"\x91" * 100_000 + b"\x00")
    wide = codec.compress(b"\xdd\xff\xff\xff\xff")
    for body in (b"", b"\x00", random.Random(1).randbytes(500), whole[:-1], whole + b"\x00", whole + whole, deep, wide):
        await child.refused(name, body, "decode")


async def test_a_message_that_unpacks_over_its_bound_is_refused(child: Caller) -> None:
    """A small frame that becomes a gibibyte is not unpacked."""
    bomb = codec.compress(bytes(limits.MESSAGE_BYTES_MAX + 1))
    assert len(bomb) < 1_000
    await child.refused("push", bomb, "limit")


async def test_each_refusal_is_one_bounded_line_without_what_was_sent(child: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """The log names code and command, and repeats nothing that came from outside."""
    with caplog.at_level(logging.DEBUG, "tongban"):
        await child.refused("push", b"\xc1 secret words " * 50, "decode")
        await child.refused("王伟" * 100, b"", "not_permitted")
    lines = [record for record in caplog.records if record.message == "sync.refused"]
    assert len(lines) == 2
    said = str([vars(record).get("tongban_fields") for record in lines])
    assert "secret" not in said
    assert "王" not in said
    assert len(said) < 1_000


# --- pushes that are not authentic


async def test_a_push_with_nothing_in_it_is_refused(child: Caller) -> None:
    """An empty push asks for nothing."""
    await child.refused("push", messages.Push(()), "decode")


async def test_a_wrong_or_foreign_signature_is_refused(child: Caller) -> None:
    """A signature that is missing, of another kind, another network, another key, or over other bytes."""
    push = await child.next_push()
    identity, other = child.node.ledger.identity, child.hub.node.ledger.identity
    raw = push.sets[0].signed.checkpoint
    for signature in (
        bytes(64),
        identity.key.sign(keys.SignedKind.HELLO, identity.network, raw),
        identity.key.sign(keys.SignedKind.CHECKPOINT, bytes(32), raw),
        other.key.sign(keys.SignedKind.CHECKPOINT, identity.network, raw),
        identity.key.sign(keys.SignedKind.CHECKPOINT, identity.network, raw + b"\x00"),
    ):
        await child.refused("push", changed(push, signed=Signed(raw, signature)), "signature")


async def test_a_right_signature_under_anothers_name_is_refused(child: Caller) -> None:
    """Nobody writes into another node's log, nor into that of a node nobody knows."""
    push, identity = await child.next_push(), child.node.ledger.identity
    hub = child.hub.node.id
    await child.refused("push", resigned(push, identity.key, identity.network, node=hub), "unknown_signer")
    await child.refused("push", resigned(push, identity.key, identity.network, node=WEST), "unknown_signer")


async def test_changed_entries_are_refused(child: Caller) -> None:
    """What is not what the author signed: entries left out, added, changed, or in another order."""
    push = await child.next_push()
    entries = push.sets[0].entries
    await child.refused("push", changed(push, entries=entries[:-1]), "decode")
    await child.refused("push", changed(push, entries=[*entries, entries[-1]]), "decode")
    twisted = [*entries[:-1], msgspec.structs.replace(entries[-1], type="note")]  # type: ignore[type-var]
    await child.refused("push", changed(push, entries=twisted), "proof")


async def test_a_checkpoint_that_lies_about_the_log_is_refused(child: Caller) -> None:
    """A root that the entries do not give, a run that is not theirs, a size that is another."""
    push, identity = await child.next_push(), child.node.ledger.identity
    for fields, code in (({"root": bytes(32)}, "proof"), ({"run": bytes(32)}, "proof"), ({"size": 1_000}, "decode")):
        await child.refused("push", resigned(push, identity.key, identity.network, **fields), code)


async def test_a_checkpoint_that_is_not_canonical_is_refused(child: Caller) -> None:
    """Signed bytes have one form."""
    push, identity = await child.next_push(), child.node.ledger.identity
    raw = encode_checkpoint(decode_checkpoint(push.sets[0].signed.checkpoint))
    longer = raw.replace(b"\x99\x01\x01", b"\x99\xcc\x01\x01", 1)
    signature = identity.key.sign(keys.SignedKind.CHECKPOINT, identity.network, longer)
    await child.refused("push", changed(push, signed=Signed(longer, signature)), "decode")


async def test_a_set_too_large_to_pass_on_is_refused(child: Caller) -> None:
    """What would not fit a message to the next hub is not taken: it would stand there for ever."""
    for number in range(12):
        await ask(child.node, "case.open", item="permit", applicant=f"甲{number}", id_number="11010519491231002X",
                  field={f"f{n}": "字" * 3_990 for n in range(4)})  # fmt: skip
    child.node.ledger.forget_end()
    from node import ledger

    ledger.SET_BYTES, before = 1 << 30, ledger.SET_BYTES
    try:
        push = await child.next_push()
    finally:
        ledger.SET_BYTES = before
    await child.refused("push", push, "limit")


# --- gaps, repeats, forks


async def test_a_gap_is_answered_with_the_size_held(child: Caller) -> None:
    """A child that thinks the hub holds more learns from where to send."""
    first = await child.next_push()
    identity = child.node.ledger.identity
    refusal = await child.refused("push", resigned(first, identity.key, identity.network, start=5, size=5 + len(first.sets[0].entries)), "gap")
    assert [(held.log, held.size) for held in refusal.held] == [(identity.log, 0)]


async def test_a_repeat_is_acknowledged_again_and_stored_once(child: Caller) -> None:
    """A push whose answer was lost is acknowledged by a new receipt; the entries stand once."""
    push = await child.next_push()
    one, two = await child.push(push), await child.push(push)
    assert one.held == two.held
    assert one.receipt != two.receipt
    assert await count(child.hub.node, "entries", f"raw IN (SELECT raw FROM entries GROUP BY raw HAVING count(*) > 1) AND {1}") == 0


async def test_a_second_history_is_kept_as_evidence_and_as_a_branch(child: Caller, tmp_path: Path) -> None:
    """Both checkpoints stay as proof; the other entries are a log of their own, receipted as such; the first stay in force."""
    hub = child.hub.node
    copy = await twin(child, tmp_path)
    await opened(child.node, "甲")
    await opened(copy.node, "乙")
    await child.push()
    before = await dump(hub, "logs", "entries", "checkpoints", "cases", "evidence", "paths", "receipts", "feed", "feed_runs", "names_data")
    await copy.push()
    await copy.refused("hello", messages.Hello(bytes(32)), "session")  # it is to compare anew; this one does not
    await copy.login()
    await copy.push()  # again: nothing new
    await copy.login()
    assert await count(hub, "evidence") == 1
    branches = await hub.read(lambda conn: conn.execute("SELECT id, size, start FROM logs WHERE branch <> x''").fetchall())
    assert len(branches) == 1
    assert branches[0][1] - branches[0][2] >= 1
    assert (await dump(hub, *(set(await dump(hub)) - set(before)))).keys() <= before.keys()
    await opened(copy.node, "丙")  # the branch goes on
    await copy.push()
    grown = await hub.read(lambda conn: conn.execute("SELECT size FROM logs WHERE branch <> x''").fetchall())
    assert grown == [(branches[0][1] + 1,)]
    assert (await ask(hub, "verify"))["problems"] == [one for one in (await ask(hub, "verify"))["problems"] if one["kind"] == "fork"]


async def twin(child: Caller, folder: Path) -> Caller:
    """Return a second machine with the same disk and keys: a clone."""
    from node import setup
    from node.store.database import InlineDatabase

    await child.node.write(lambda conn, _: child.node.ledger.save_seals(conn))
    source = folder / EAST / "tongban.sqlite3"
    await child.node.store.own(lambda conn: conn.execute("VACUUM INTO ?", (str(folder / "twin.sqlite3"),)))
    assert source.exists()
    store = InlineDatabase(folder / "twin.sqlite3")
    node = await setup.node_of(store, child.node.ledger.identity.key, child.node.clock, child.node.entropy)
    caller = Caller(node, child.hub)
    await caller.login()
    return caller


async def test_an_entry_without_right_is_stored_and_shown_without_effect(child: Caller) -> None:
    """Authentic logs flow: what its author had no right to is kept, void, with the reason."""
    case = await opened(child.node)
    await child.push()
    from node.ledger import Draft

    row = await child.node.read(lambda conn: conn.execute("SELECT key FROM cases WHERE number = ?", (case,)).fetchone())

    def state(conn: Connection, changes: Any) -> None:
        draft = Draft("decide", child.node.clock.wall_ms(), {"result": "grant"}, case=row[0], epoch=0, prev=row[0])
        child.node.ledger.append(conn, [draft], changes)

    await child.node.write(state)
    await child.push()
    shown = await ask(child.hub.node, "show", case=case)
    assert [(one["type"], one["effect"]) for one in shown["timeline"]] == [("open", "applied"), ("decide", "void")]


# --- anything else that may come


@st.composite
def damage(draw: st.DrawFn) -> Any:
    """Draw some edits of a byte string: (place, what is taken away, what is put there)."""
    return draw(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4))


def damaged(raw: bytes, edits: Any) -> bytes:
    for place, gone, new in edits:
        at = place % (len(raw) + 1)
        raw = raw[:at] + new + raw[at + gone :]
    return raw


def test_any_damage_to_any_message_is_answered(tmp_path: Path) -> None:
    """Valid messages with bytes changed, inside and outside their frame: never a failure, and a refusal changes nothing."""
    loop = asyncio.new_event_loop()
    caller = loop.run_until_complete(prepared(tmp_path))
    greeting = loop.run_until_complete(caller.ask("greet", caller.greet(), messages.Greeting))
    said: dict[str, messages.Message] = {
        "push": loop.run_until_complete(caller.next_push()),
        "pull": messages.Pull(messages.Cursors(0, 0, b"", 0)),
        "wait": messages.Wait(messages.Cursors(0, 0, b"", 0), 1),
        "hello": messages.Hello(bytes(32)),
        "fetch": messages.Fetch("log", caller.node.ledger.identity.log, 0),
        "greet": caller.greet(),
        "login": caller.login_to(greeting),
        "ask": messages.JoinAsk(caller.node.ledger.identity.network, EAST_VILLAGE, bytes(32)),
    }

    @settings(max_examples=250)
    @given(st.sampled_from(sorted(said)), st.booleans(), damage())
    def check(name: str, inside: bool, edits: Any) -> None:
        raw = msgspec.msgpack.encode(said[name])
        body = codec.compress(damaged(raw, edits) or b"\0") if inside else damaged(codec.compress(raw), edits)
        before = loop.run_until_complete(dump(caller.hub.node))
        answer = loop.run_until_complete(caller.send(name, body))
        assert answer.status != 500
        if answer.status != 200:
            messages.decode(answer.body, messages.Refusal)
            assert loop.run_until_complete(dump(caller.hub.node)) == before

    check()
    loop.run_until_complete(caller.login())
    loop.run_until_complete(caller.push())
    loop.close()


async def prepared(folder: Path) -> Caller:
    caller = await city_and_child(folder)
    await hire(caller.node)
    await opened(caller.node)
    return caller


async def test_a_mistake_of_ours_is_told_and_hurts_nobody_else(child: Caller) -> None:
    """What we did not foresee becomes one refusal that the child retries; the hub goes on."""

    async def broken(_self: Hub, _body: bytes) -> messages.Message:
        raise ZeroDivisionError

    honest = Hub._OPEN["greet"]
    Hub._OPEN["greet"] = broken
    try:
        answer = await child.send("greet", child.greet())
    finally:
        Hub._OPEN["greet"] = honest
    assert answer.status == 500
    assert messages.decode(answer.body, messages.Refusal).code == "error"
    await child.push()


# --- news


async def test_a_wait_ends_with_news_and_without(child: Caller, tmp_path: Path) -> None:
    """A long poll answers at once when rules or cases are new, else after its span."""
    hub = child.hub.node
    reply = await child.ask("pull", messages.Pull(messages.Cursors(0, 0, b"", 0)), messages.PullReply)
    quiet = await child.ask("wait", messages.Wait(reply.cursors, 30), messages.WaitReply)
    assert not quiet.news
    await enrol(tmp_path / "west", hub, WEST, seed=5)
    loud = await child.ask("wait", messages.Wait(reply.cursors, 30), messages.WaitReply)
    assert loud.news


async def test_a_closing_hub_answers_all_who_wait(child: Caller) -> None:
    """The program ends without anybody hanging on the line."""
    reply = await child.ask("pull", messages.Pull(messages.Cursors(0, 0, b"", 0)), messages.PullReply)
    child.hub.close()
    before = child.hub.node.clock.monotonic_s()
    await child.ask("wait", messages.Wait(reply.cursors, 100), messages.WaitReply)
    assert child.hub.node.clock.monotonic_s() == before


async def test_change_sets_are_what_is_relayed(child: Caller) -> None:
    """A hub gives a log back as it came: the same signatures, the same entries."""
    push = await child.next_push()
    await child.push(push)
    reply = await child.ask("fetch", messages.Fetch("log", child.node.ledger.identity.log, 0), messages.FetchReply)
    assert [one.signed for one in reply.sets] == [one.signed for one in push.sets]
    assert all(isinstance(one, ChangeSet) for one in reply.sets)
