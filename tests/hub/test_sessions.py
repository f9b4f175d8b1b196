"""Who may speak to a hub: a child that proves its key for this very connection, and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import sessions
from hub.app import Hub
from node import clones, setup
from node.chains import chain_of
from node.ledger import Changes, Draft
from node.registrar import take_in
from node.store import logs
from node.store.database import Connection
from protocol import keys, messages, trail
from protocol.errors import Overloaded, SessionEnded
from protocol.log import Bundle
from tests.hub.calling import CERTIFICATE, Caller, city_and_child, clock, dump
from tests.node.building import CITY, EAST, START_MS, WEST, SeededEntropy, enrol, store_in


@pytest.fixture
async def child(tmp_path: Path) -> Caller:
    """A child that has logged in."""
    return await city_and_child(tmp_path)


async def greeted(child: Caller) -> messages.Greeting:
    return await child.ask("greet", child.greet(), messages.Greeting)


async def test_the_hub_proves_its_key_over_both_challenges_and_its_certificate(child: Caller) -> None:
    """A greeting is signed for this connection: a relay with another certificate cannot reuse it."""
    greeting = await greeted(child)
    network = child.hub.node.ledger.identity.network
    key = child.hub.node.ledger.identity.key.public
    text = messages.greeting_text(EAST, bytes(32), greeting.challenge, CERTIFICATE, greeting.node)
    keys.verify(key, greeting.signature, keys.SignedKind.GREET, network, text)


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"versions": (2, 3)}, "version"), ({"versions": ()}, "version"), ({"network": bytes(32)}, "wrong_network")],
)
async def test_a_greeting_that_cannot_work_is_refused(child: Caller, changes: dict[str, Any], code: str) -> None:
    """No common version, or another network: said at once, with what to do."""
    refusal = await child.refused("greet", child.greet(**changes), code)
    assert refusal.hint


async def test_a_login_needs_the_childs_own_signature(child: Caller) -> None:
    """A wrong or missing signature, or one made for another kind of thing, for another network or by another key, is refused."""
    identity = child.node.ledger.identity
    other = child.hub.node.ledger.identity
    for kind, network, key in [
        (keys.SignedKind.GREET, identity.network, identity.key),
        (keys.SignedKind.CHECKPOINT, identity.network, identity.key),
        (keys.SignedKind.HELLO, bytes(32), identity.key),
        (keys.SignedKind.HELLO, identity.network, other.key),
    ]:
        greeting = await greeted(child)
        proof = messages.login_text(EAST, greeting.challenge, CERTIFICATE)
        signed = child.login_to(greeting, signature=key.sign(kind, network, proof))
        await child.refused("login", signed, "signature")
    await child.refused("login", child.login_to(await greeted(child), signature=bytes(64)), "signature")


async def test_a_child_that_saw_another_certificate_is_told_so(child: Caller) -> None:
    """Somebody who opens the connection on the way is found, and named as the reason."""
    refusal = await child.refused("login", child.login_to(await greeted(child), certificate=bytes(32)), "signature")
    assert "opens the connection" in refusal.hint


async def test_an_unknown_node_is_refused(child: Caller) -> None:
    """A node that this hub does not know cannot log in, whatever it signs."""
    await child.refused("login", child.login_to(await greeted(child), node=WEST), "unknown_signer")


# --- a hub that does not know its child (any more)


async def begun_anew(folder: Path, child: Caller) -> Caller:
    """A caller at a machine that took the hub's place with an empty store: it knows the genesis, and nobody below."""
    city = child.hub.node
    chain = await city.store.own(lambda conn: chain_of(city.ledger, conn, CITY))
    store, entropy = store_in(folder / "anew"), SeededEntropy(9)
    await setup.begin(store, CITY, city.ledger.identity.network, city.ledger.identity.key, chain, city.clock, entropy)
    return Caller(child.node, Hub(await setup.node_of(store, city.ledger.identity.key, city.clock, entropy), CERTIFICATE))


async def chain_at(caller: Caller) -> tuple[Bundle, ...]:
    return tuple(await caller.node.store.own(lambda conn: chain_of(caller.node.ledger, conn, caller.node.id)))


async def test_a_child_shows_its_chain_to_a_hub_that_has_forgotten_it(child: Caller, tmp_path: Path) -> None:
    """The chain of its keys lets it in, and the next time it needs none."""
    anew = await begun_anew(tmp_path, child)
    await anew.refused("login", anew.login_to(await greeted(anew)), "unknown_signer")
    shown = anew.login_to(await greeted(anew), chain=await chain_at(child))
    await anew.ask("login", shown, messages.Session)
    held = await dump(anew.hub.node)
    await anew.login()
    await anew.ask("login", anew.login_to(await greeted(anew), chain=await chain_at(child)), messages.Session)
    assert await dump(anew.hub.node) == held


async def test_a_chain_lets_nobody_in_but_whom_it_leads_to(child: Caller, tmp_path: Path) -> None:
    """Who has not the key, shows a chain that does not hold, or stands elsewhere, is refused, and nothing of it is kept."""
    anew, chain = await begun_anew(tmp_path, child), await chain_at(child)
    stranger = msgspec.structs.replace(anew.login_to(await greeted(anew), chain=chain), signature=bytes(64))
    await anew.refused("login", stranger, "signature")
    for cut, code in ((chain[:1], "unknown_signer"), (chain[1:], "proof"), (chain[:1] + chain[2:], "proof")):
        await anew.refused("login", anew.login_to(await greeted(anew), chain=cut), code)
    west = await enrol(tmp_path / "west", child.hub.node, WEST, seed=5)
    beside = Caller(child.node, Hub(west, CERTIFICATE))
    await beside.refused("login", beside.login_to(await greeted(beside), chain=chain), "unknown_signer")


async def test_an_old_chain_takes_no_key_back(child: Caller) -> None:
    """A chain that ends before a key was revoked changes nothing: what is known here counts."""
    chain, city = await chain_at(child), child.hub.node
    cut = {"node": EAST, "key": child.node.ledger.identity.key.public, "cuts": []}

    def revoke(conn: Connection, changes: Changes) -> None:
        city.ledger.append(conn, [Draft("node.revoke", START_MS, cut)], changes)
        take_in(city.ledger, conn, changes, START_MS)

    await city.write(revoke)
    await child.refused("login", child.login_to(await greeted(child), chain=chain), "not_permitted")


async def test_a_challenge_is_good_once_and_for_a_minute(child: Caller) -> None:
    """A login that was seen on the wire cannot be repeated, nor used later."""
    greeting = await greeted(child)
    await child.ask("login", child.login_to(greeting), messages.Session)
    await child.refused("login", child.login_to(greeting), "session")
    greeting = await greeted(child)
    clock(child.hub.node).pass_ms(61_000)
    await child.refused("login", child.login_to(greeting), "session")


async def test_nothing_is_answered_without_a_session(child: Caller) -> None:
    """What is said inside needs the token of a live session."""
    child.token = None
    await child.refused("hello", messages.Hello(bytes(32)), "session")
    child.token = bytes(16)
    await child.refused("hello", messages.Hello(bytes(32)), "session")
    await child.refused("nonsense", b"", "not_permitted")


async def test_a_session_ends_when_unused(child: Caller) -> None:
    """After ten idle minutes the child greets again."""
    clock(child.hub.node).pass_ms(int(sessions.IDLE_S * 1000) - 1)
    await child.ask("hello", messages.Hello(bytes(32)), messages.HelloReply)
    clock(child.hub.node).pass_ms(int(sessions.IDLE_S * 1000) + 1)
    await child.refused("hello", messages.Hello(bytes(32)), "session")
    await child.login()
    await child.ask("hello", messages.Hello(bytes(32)), messages.HelloReply)


async def test_a_revoked_key_is_shut_out_also_of_its_session(child: Caller) -> None:
    """A revocation ends what the key may ask from that moment on."""
    hub = child.hub.node

    def revoke(conn: Connection, changes: Changes) -> None:
        fields = {"node": EAST, "key": child.node.ledger.identity.key.public, "cuts": []}
        hub.ledger.append(conn, [Draft("node.revoke", START_MS, fields)], changes)
        take_in(hub.ledger, conn, changes, START_MS)

    await hub.write(revoke)
    await child.refused("hello", messages.Hello(bytes(32)), "not_permitted")
    await child.refused("login", child.login_to(await greeted(child)), "not_permitted")


async def test_one_nodes_sessions_push_out_nobody_elses(child: Caller, tmp_path: Path) -> None:
    """A child that logs in again and again loses its own oldest sessions only."""
    other = Caller(await enrol(tmp_path / "west", child.hub.node, WEST, seed=9), child.hub)
    await other.login()
    first = child.token
    for _ in range(sessions.SESSIONS_PER_NODE_MAX):
        await child.login()
    with pytest.raises(SessionEnded):
        child.hub.sessions.find(first or b"")
    assert len(child.hub.sessions.of(EAST)) == sessions.SESSIONS_PER_NODE_MAX
    await other.ask("hello", messages.Hello(bytes(32)), messages.HelloReply)


async def test_a_child_asks_a_few_things_at_once_only(child: Caller) -> None:
    """Beyond that it is told to come back; the session goes on."""
    session = child.hub.sessions.find(child.token or b"")
    session.busy = sessions.REQUESTS_MAX
    with pytest.raises(Overloaded):
        child.hub.sessions.find(child.token or b"")
    session.busy = 0
    await child.ask("hello", messages.Hello(bytes(32)), messages.HelloReply)


async def test_challenges_are_bounded(child: Caller) -> None:
    """Strangers who only greet cost a bounded memory."""
    for _ in range(sessions.CHALLENGES_MAX + 10):
        child.hub.sessions.challenge()
    assert len(child.hub.sessions._challenges) == sessions.CHALLENGES_MAX


async def test_a_reply_of_the_chain_comes_when_asked_for(child: Caller) -> None:
    """A child that does not know its hub's key can have the chain that leads to it."""
    greeting = await child.ask("greet", child.greet(chain=True), messages.Greeting)
    assert len(greeting.chain) == 1
    assert msgspec.structs.replace(greeting, chain=()) == greeting or greeting.chain


# --- the trail of a node's sessions


async def logged_in(child: Caller, last: bytes, choice: str = "") -> tuple[bytes, int]:
    """Log in showing a mark; returns the token and since when the child is told to be under suspicion."""
    asked = child.login_to(await greeted(child), last=last, choice=choice)
    session = await child.ask("login", asked, messages.Session)
    return session.token, session.suspect


async def used(child: Caller, token: bytes) -> int:
    """Use a session; returns the answer's status."""
    return (await child.send("hello", messages.Hello(bytes(32)), token)).status


async def test_an_older_mark_ends_the_nodes_other_sessions(child: Caller) -> None:
    """A backup that was put back is alone; if another machine had the newer session it must log in, and gives itself away."""
    first, _ = await logged_in(child, trail.mark_of(child.token or b""))
    second, _ = await logged_in(child, trail.mark_of(first))
    assert await used(child, second) == 200
    again, suspect = await logged_in(child, trail.mark_of(first))
    assert suspect == 0
    assert await used(child, second) == 401
    assert await used(child, again) == 200
    returned, suspect = await logged_in(child, trail.mark_of(second))
    assert (suspect, await used(child, again)) == (0, 401)
    _, suspect = await logged_in(child, trail.mark_of(again))
    assert suspect > 0
    assert await used(child, returned) == 401
    _, suspect = await logged_in(child, trail.mark_of(returned))
    assert suspect > 0


async def test_two_answers_to_one_mark_are_not_both_used(child: Caller) -> None:
    """Two machines that log in from the same place before either speaks: the second must log in again."""
    mark = trail.mark_of(child.token or b"")
    one, _ = await logged_in(child, mark)
    other, _ = await logged_in(child, mark)
    assert await used(child, one) == 200
    assert await used(child, other) == 401


async def test_a_known_clone_and_its_original_keep_their_sessions(child: Caller) -> None:
    """Once both are told they work side by side, fenced: neither throws the other out."""
    tokens = [child.token or b""] * 2
    suspect = 0
    for _ in range(3):
        for machine in (0, 1):
            tokens[machine], suspect = await logged_in(child, trail.mark_of(tokens[machine]))
            await used(child, tokens[machine])
    assert suspect
    for machine in (0, 1):
        tokens[machine], _ = await logged_in(child, trail.mark_of(tokens[machine]))
    assert [await used(child, token) for token in tokens] == [200, 200]


async def test_what_a_child_showed_outlives_the_hub(child: Caller, tmp_path: Path) -> None:
    """The trail is on disk before the session is answered: a hub that starts again finds the clone all the same."""
    tokens = [child.token or b""] * 2
    for _ in range(3):
        for machine in (0, 1):
            child.hub.sessions = sessions.Sessions(child.hub.node)
            tokens[machine], suspect = await logged_in(child, trail.mark_of(tokens[machine]))
    assert suspect


async def test_a_retired_machine_serves_nobody(child: Caller) -> None:
    """Its children look for the machine that was kept; nothing of the refused login is written."""
    retired = msgspec.msgpack.encode(clones.State(START_MS, "", trail.RETIRE))
    await child.hub.node.store.write(lambda conn: logs.set_meta(conn, clones.STATE, retired))
    await child.refused("login", child.login_to(await greeted(child)), "not_permitted")
    await child.hub.node.store.write(lambda conn: conn.execute("DELETE FROM meta WHERE name = ?", (clones.STATE,)))
    await child.login()
