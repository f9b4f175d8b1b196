"""Joining at a hub: once per code, by the machine that made its keys, invited by who may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import enrolment
from hub.enrolment import invite
from node.ledger import Changes, Draft
from node.store.database import Connection
from protocol import joincode, keys, messages, register
from protocol.chain import verify_chain
from protocol.errors import CommandRefused
from tests.hub.calling import CERTIFICATE, Caller, city_and_child, clock, dump
from tests.node.building import CITY, EAST, START_MS, WEST, ask, enrol, hire, seal, size_of

HOUR_MS = 3_600_000
KEY, SEALING = keys.SigningKey(bytes([7]) * 32), keys.SealingKey(bytes([8]) * 32)


@pytest.fixture
async def child(tmp_path: Path) -> Caller:
    """A hub, with one child already."""
    return await city_and_child(tmp_path)


async def code_for(child: Caller, node: str = WEST) -> joincode.JoinCode:
    made = await invite(child.hub.node, node, "沙区", parent=None, expires_h=24, addresses=("hub:1",))
    return joincode.parse_code(made.code)


async def join_with(child: Caller, code: joincode.JoinCode, **changes: Any) -> messages.Join:
    """Return the message of an honest machine that joins, with some parts changed before the proof is made, or after it."""
    seed = keys.SigningKey(changes.pop("seed", code.seed))
    asked = messages.JoinAsk(code.network, code.node, keys.SigningKey(code.seed).public)
    said = await child.ask("ask", asked, messages.JoinChallenge)
    text = register.join_message(code.node, KEY.public, SEALING.public, said.challenge, CERTIFICATE)
    proof = seed.sign(changes.pop("kind", keys.SignedKind.JOIN), changes.pop("signed_for", code.network), text)
    made = messages.Join(code.network, code.node, asked.invite, KEY.public, SEALING.public, said.challenge, CERTIFICATE, proof)
    return msgspec.structs.replace(made, **changes)


async def test_a_machine_joins_with_its_code(child: Caller) -> None:
    """Its enrolment is in the hub's log and registered; the chain of keys leads from the genesis to it."""
    code = await code_for(child)
    reply = await child.ask("join", await join_with(child, code), messages.JoinReply)
    record = verify_chain(code.network, reply.chain).record(WEST)
    assert record is not None
    assert (record.key, record.parent, reply.parent) == (KEY.public, CITY, CITY)
    assert child.hub.node.rules.now.node(WEST) is not None


async def test_the_hub_proves_itself_to_a_machine_that_knows_only_the_network(child: Caller) -> None:
    """The chain of its key begins with the genesis, and it signs for this connection."""
    code = await code_for(child)
    invited = keys.SigningKey(code.seed).public
    said = await child.ask("ask", messages.JoinAsk(code.network, WEST, invited), messages.JoinChallenge)
    record = verify_chain(code.network, said.chain).record(said.hub)
    assert record is not None
    text = messages.greeting_text(WEST, invited, said.challenge, CERTIFICATE, said.hub)
    keys.verify(record.key, said.signature, keys.SignedKind.GREET, code.network, text)


async def test_the_same_machine_gets_the_same_enrolment_again(child: Caller) -> None:
    """An answer that was lost is given again, and nothing new is written."""
    code = await code_for(child)
    first = await child.ask("join", await join_with(child, code), messages.JoinReply)
    before = await dump(child.hub.node, "checkpoints")
    assert await child.ask("join", await join_with(child, code), messages.JoinReply) == first
    assert await dump(child.hub.node, "checkpoints") == before


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": keys.SigningKey(bytes([9]) * 32).public}, "join_refused"),  # keys put in by somebody on the way
        ({"seal_key": bytes([1]) * 32}, "join_refused"),
        ({"proof": bytes(64)}, "join_refused"),
        ({"seed": bytes([3]) * 32}, "join_refused"),
        ({"kind": keys.SignedKind.HELLO}, "join_refused"),
        ({"signed_for": bytes(32)}, "join_refused"),
        ({"node": EAST + "-abc"}, "join_refused"),
        ({"invite": bytes([5]) * 32}, "join_refused"),
        ({"invite": bytes([5]) * 32, "node": EAST + "-abc"}, "unknown_signer"),  # it may be on its way
        ({"network": bytes(32)}, "wrong_network"),
        ({"certificate": bytes(32)}, "signature"),
        ({"challenge": bytes(32)}, "session"),
    ],
)
async def test_a_forged_code_is_refused(child: Caller, changes: dict[str, Any], code: str) -> None:
    """Another seed, other keys than those signed, another place, network, connection or challenge."""
    refusal = await child.refused("join", await join_with(child, await code_for(child), **changes), code)
    assert refusal.message


async def test_small_order_keys_are_refused(child: Caller) -> None:
    """A key for which any signature verifies is never enrolled."""
    code = await code_for(child)
    weak = bytes([1]) + bytes(31)
    said = await child.ask("ask", messages.JoinAsk(code.network, WEST, keys.SigningKey(code.seed).public), messages.JoinChallenge)
    text = register.join_message(WEST, weak, SEALING.public, said.challenge, CERTIFICATE)
    proof = keys.SigningKey(code.seed).sign(keys.SignedKind.JOIN, code.network, text)
    made = messages.Join(code.network, WEST, keys.SigningKey(code.seed).public, weak, SEALING.public, said.challenge, CERTIFICATE, proof)
    await child.refused("join", made, "join_refused")


async def test_a_used_code_is_refused_to_another_machine(child: Caller) -> None:
    """The first enrolment for an invitation holds."""
    code = await code_for(child)
    await child.ask("join", await join_with(child, code), messages.JoinReply)
    said = await child.ask("ask", messages.JoinAsk(code.network, WEST, keys.SigningKey(code.seed).public), messages.JoinChallenge)
    other = keys.SigningKey(bytes([77]) * 32).public
    text = register.join_message(WEST, other, SEALING.public, said.challenge, CERTIFICATE)
    proof = keys.SigningKey(code.seed).sign(keys.SignedKind.JOIN, code.network, text)
    made = messages.Join(code.network, WEST, keys.SigningKey(code.seed).public, other, SEALING.public, said.challenge, CERTIFICATE, proof)
    refusal = await child.refused("join", made, "join_refused")
    assert "another machine" in refusal.message


async def test_an_expired_code_is_refused(child: Caller) -> None:
    """After its hours a code is worthless; before, it works to the last."""
    code = await code_for(child)
    clock(child.hub.node).pass_ms(24 * HOUR_MS + 1)
    refusal = await child.refused("join", await join_with(child, code), "join_refused")
    assert "expired" in refusal.message


async def test_an_invitation_from_who_may_not_invite_counts_for_nothing(child: Caller) -> None:
    """Any node can write an invitation into its own log; a hub enrols only for those who stand above and may."""
    seed = keys.SigningKey(bytes([42]) * 32)
    fields = {
        "node": WEST,
        "name": "冒名",
        "parent": CITY,
        "key": seed.public,
        "expires": START_MS + HOUR_MS,
        "rights": ["enrol", "publish"],
    }

    def state(conn: Connection, changes: Changes) -> None:
        child.node.ledger.append(conn, [Draft("node.invite", START_MS, fields)], changes)

    await child.node.write(state)
    await child.push()
    code = joincode.JoinCode(child.node.ledger.identity.network, WEST, ("hub:1",), bytes([42]) * 32)
    refusal = await child.refused("join", await join_with(child, code), "join_refused")
    assert "may not invite" in refusal.message


async def test_an_enrolment_that_its_author_made_up_makes_no_key_known(child: Caller) -> None:
    """A node without the right to enrol cannot bring in accomplices: their keys stay unknown, here and after a restart."""
    hub, node, seed = child.hub.node, child.node, keys.SigningKey(bytes([42]) * 32)
    village = Caller(await _village(child), child.hub)
    fake = f"{EAST}-fake"

    def state(conn: Connection, changes: Changes) -> None:
        invited = {
            "node": fake,
            "name": "假",
            "parent": village.node.id,
            "key": seed.public,
            "expires": START_MS + HOUR_MS,
            "rights": [],
        }
        (made,) = village.node.ledger.append(conn, [Draft("node.invite", START_MS, invited)], changes)
        text = register.join_message(fake, KEY.public, SEALING.public, bytes(32), bytes(32))
        enrol = {
            "node": fake,
            "invite": made.leaf[:16],
            "key": KEY.public,
            "seal_key": SEALING.public,
            "suite": 1,
            "challenge": bytes(32),
            "certificate": bytes(32),
            "proof": seed.sign(keys.SignedKind.JOIN, node.ledger.identity.network, text),
        }
        village.node.ledger.append(conn, [Draft("node.enrol", START_MS, enrol)], changes)

    await village.node.write(state)
    await village.login()
    await village.push()
    assert hub.rules.record(fake) is None
    await hub.store.own(hub.ledger.reload)
    assert hub.rules.record(fake) is None


async def _village(child: Caller) -> Any:
    file = await child.node.read(lambda conn: conn.execute("PRAGMA database_list").fetchone()[2])
    return await enrol(Path(file).parent / "v", child.hub.node, f"{CITY}-abc", seed=31, rights=())


@pytest.mark.parametrize(
    ("node", "parent", "words"),
    [("x", None, "not a node id"), (EAST, None, "enrolled already"), (WEST, "650109000000", "does not stand"), (CITY, None, "enrolled")],
)
async def test_an_invitation_that_cannot_work_is_refused(child: Caller, node: str, parent: str | None, words: str) -> None:
    """The office says at once what a register would void later."""
    before = await dump(child.hub.node)
    with pytest.raises(CommandRefused, match=words):
        await invite(child.hub.node, node, "名", parent=parent, expires_h=1, addresses=())
    assert await dump(child.hub.node) == before


async def test_a_village_enrols_nobody(child: Caller) -> None:
    """Villages and departments get no right to enrol; hubs do."""
    assert enrolment.rights_of("650102001001") == ()
    assert enrolment.rights_of("650102000000-rsj") == ()
    assert enrolment.rights_of("650102000000") == register.HUB_RIGHTS


async def test_a_chain_is_empty_for_who_is_not_here(child: Caller) -> None:
    """A hub shows chains of nodes that it knows."""
    await hire(child.hub.node)
    await seal(child.hub.node)
    ledger = child.hub.node.ledger
    assert await child.hub.node.store.own(lambda conn: enrolment.chain_of(ledger, conn, WEST)) == []


# --- again, with a new machine


async def test_a_new_machine_of_a_node_joins_again(child: Caller) -> None:
    """Its old key is cut at what is held here, in the same transaction; the same machine asking again gets the same."""
    await child.push()
    old, size = child.node.ledger.identity, await size_of(child.node)
    with pytest.raises(CommandRefused, match="enrolled already"):
        await code_for(child, EAST)
    made = await invite(child.hub.node, EAST, None, parent=None, expires_h=24, addresses=("hub:1",), again=True)
    code = joincode.parse_code(made.code)
    reply = await child.ask("join", await join_with(child, code), messages.JoinReply)
    assert await child.ask("join", await join_with(child, code), messages.JoinReply) == reply
    rules = verify_chain(code.network, reply.chain)
    assert [record.key for record in rules.records(EAST)] == [old.key.public, KEY.public]
    (revocation,) = child.hub.node.rules.revocations
    assert (revocation.key, [(one[0], one[1]) for one in revocation.cuts]) == (old.key.public, [(old.incarnation, size)])
    assert child.hub.node.rules.voids == {}


async def test_a_code_for_a_new_machine_is_used_once_and_for_its_node_only(child: Caller) -> None:
    """Another machine is refused; a node that is not here is not invited again; a cut made by hand stands."""
    with pytest.raises(CommandRefused, match="not enrolled"):
        await invite(child.hub.node, WEST, None, parent=None, expires_h=1, addresses=("hub:1",), again=True)
    await ask(child.hub.node, "revoke", node=EAST, reason="x")
    made = await invite(child.hub.node, EAST, None, parent=None, expires_h=24, addresses=("hub:1",), again=True)
    code = joincode.parse_code(made.code)
    await child.ask("join", await join_with(child, code), messages.JoinReply)
    assert len(child.hub.node.rules.revocations) == 1
    said = await child.ask("ask", messages.JoinAsk(code.network, EAST, keys.SigningKey(code.seed).public), messages.JoinChallenge)
    other = keys.SigningKey(bytes([77]) * 32).public
    text = register.join_message(EAST, other, SEALING.public, said.challenge, CERTIFICATE)
    proof = keys.SigningKey(code.seed).sign(keys.SignedKind.JOIN, code.network, text)
    asked = messages.Join(code.network, EAST, keys.SigningKey(code.seed).public, other, SEALING.public, said.challenge, CERTIFICATE, proof)
    refusal = await child.refused("join", asked, "join_refused")
    assert "another machine" in refusal.message
