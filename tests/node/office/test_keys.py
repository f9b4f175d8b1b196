"""Keys shown, replaced and revoked by command; a station that closes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.app import Hub
from node.folder import Folder
from node.keyring import Keyring
from node.node import Node
from protocol import messages
from protocol.errors import CommandRefused, InputError
from tests.hub.calling import CERTIFICATE, Caller, clock, dump
from tests.node.building import (
    CITY,
    EAST,
    HOUR_MS,
    MINUTE_MS,
    WEST,
    ask,
    brought_to,
    enrol,
    found,
    furnish,
    hire,
    opened,
    show,
)


@pytest.fixture
async def city(tmp_path: Path) -> Node:
    """A furnished root."""
    return await furnish(await found(tmp_path / "city"))


@pytest.fixture
async def child(city: Node, tmp_path: Path) -> Caller:
    """A district on the line to it, with an officer."""
    node = await enrol(tmp_path / "east", city, EAST)
    await hire(node)
    folder = Folder(tmp_path / "east")
    folder.create()
    node.keyring = Keyring(folder)
    caller = Caller(node, Hub(city, CERTIFICATE))
    await caller.login()
    return caller


def pass_ms(caller: Caller, span_ms: int) -> None:
    clock(caller.node).pass_ms(span_ms)
    clock(caller.hub.node).pass_ms(span_ms)


async def test_keys_are_shown_by_fingerprint(child: Caller) -> None:
    """All that the node had, since when, and which private one is here still."""
    first = await ask(child.node, "key.show")
    pass_ms(child, HOUR_MS)
    done = await ask(child.node, "key.rotate")
    shown = await ask(child.node, "key.show")
    assert (first["fingerprint"], done["before"]) == (done["before"], first["keys"][0]["fingerprint"])
    assert [(one["state"], one["by"], one["private"]) for one in shown["keys"]] == [
        ("replaced", "node.enrol", True),
        ("present", "node.key", True),
    ]
    assert shown["fingerprint"] == done["fingerprint"] == shown["keys"][-1]["fingerprint"]
    assert done["kept"]


async def test_a_stolen_key_is_trusted_up_to_the_last_receipt_before_the_theft(child: Caller) -> None:
    """C14: proposed is what was receipted before the moment; what came later is void, shown, and can be adopted."""
    before = await opened(child.node, "王伟")
    await child.push()
    pass_ms(child, HOUR_MS)
    stolen_at = clock(child.hub.node).wall_ms()
    pass_ms(child, MINUTE_MS)
    after = await opened(child.node, "李强")
    await brought_to(child.node, before, "accept")
    await child.login()
    await child.push()
    city = child.hub.node
    unchanged = await dump(city)
    wish = {"node": EAST, "before": stolen_at, "reason": "电脑被盗"}
    proposed = await ask(city, "revoke", **wish, dry_run=True)
    assert await dump(city) == unchanged
    done = await ask(city, "revoke", **wish)
    assert {**proposed, "dry_run": False} == done
    ((cut,),) = (done["cuts"],)
    assert 0 < cut["trusted"] < cut["held"]
    assert done["without_effect"] == cut["held"] - cut["trusted"] > 0
    assert (await show(city, before))["state"] == "received"
    page = await show(city, after)
    assert [(one["effect"], one["reason"]) for one in page["timeline"]] == [("void", "revoked")]
    (late,) = [one for one in (await show(city, before))["timeline"] if one["reason"] == "revoked"]
    await ask(city, "case.reclaim", case=before, reason="接办")
    await ask(city, "case.adopt", case=before, entries=[late["entry"]])
    assert (await ask(city, "verify"))["problems"] == []


async def test_a_revoked_key_opens_no_session_from_that_moment_on(child: Caller) -> None:
    """The one that stands ends with the next request; what others bring of the node is taken."""
    assert child.hub.sessions.owner_of(child.token) == EAST
    await ask(child.hub.node, "revoke", node=EAST, reason="电脑被盗")
    assert child.hub.sessions.owner_of(child.token) is None  # asked before a request's body is read
    push = await child.next_push()
    await child.refused("push", push, "not_permitted")
    answer = await child.ask("greet", child.greet(), messages.Greeting)
    await child.refused("login", child.login_to(answer), "not_permitted")


async def test_only_a_hub_above_revokes_and_only_keys_that_were_the_nodes(child: Caller, tmp_path: Path) -> None:
    """Not the node itself, not a neighbour, no unknown fingerprint: nothing is written."""
    west = await enrol(tmp_path / "west", child.hub.node, WEST, seed=5)
    for node, other in ((child.node, EAST), (west, EAST), (child.hub.node, CITY)):
        with pytest.raises(CommandRefused, match="below this node"):
            await ask(node, "revoke", node=other, reason="x")
    with pytest.raises(InputError, match="never had"):
        await ask(child.hub.node, "revoke", node=EAST, key="00" * 8, reason="x")
    assert child.hub.node.rules.revocations == []


async def test_an_older_key_is_revoked_by_its_fingerprint(child: Caller) -> None:
    """The present one stands, and its session."""
    old = child.node.ledger.identity.key
    await ask(child.node, "key.rotate")
    await child.push()
    await child.login()
    done = await ask(child.hub.node, "revoke", node=EAST, key=old.id.hex(), reason="旧盘遗失")
    assert (done["fingerprint"], len(done["cuts"]), done["without_effect"]) == (old.id.hex(), 1, 0)
    await opened(child.node)
    await child.push()
    assert not child.hub.node.rules.is_revoked(EAST)
    assert child.hub.node.rules.is_revoked_key(EAST, old.public)


async def test_a_closed_station_lists_its_open_cases(child: Caller) -> None:
    """What it wrote stands, what it still brings is taken, and somebody above goes on with its cases."""
    case, done = await opened(child.node, "王伟"), await opened(child.node, "李强")
    await brought_to(child.node, done, "withdraw")
    await child.push()
    late = await opened(child.node, "张三")
    answer = await ask(child.hub.node, "retire", node=EAST, reason="撤并")
    assert answer == {"node": EAST, "open_cases": [{"case": case, "state": "received"}]}
    await child.push()
    assert (await show(child.hub.node, late))["state"] == "received"
    await ask(child.hub.node, "case.reclaim", case=case, reason="撤并")
    with pytest.raises(CommandRefused, match="closed already"):
        await ask(child.hub.node, "retire", node=EAST, reason="x")
