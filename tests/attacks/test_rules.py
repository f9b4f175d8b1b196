"""A parent that lies about the rules: what a hostile mirror may try with registers, and a basis that does not move by it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hub import serving
from node import setup
from node.node import Node
from node.ports import Response
from node.store.database import InlineDatabase
from node.uplink import Settings, Uplink
from protocol import messages
from protocol.errors import PeerError
from tests.hub.calling import CERTIFICATE, Caller, city_and_child, dump
from tests.node.building import SeededEntropy, ask, found, furnish, hire, item, opened
from tests.node.uplink.building import Wire

Page = messages.PullReply
Lie = Callable[[Page], Page]


class Mirror(Wire):
    """A hub whose answers to `pull` somebody changes."""

    def lie(self, lie: Lie | None) -> None:
        """Change each page from now on; None: be honest again."""

        def twist(name: str, response: Response) -> Response:
            if name != "pull" or response.status != 200 or lie is None:
                return response
            return Response(200, messages.encode(lie(messages.decode(response.body, Page))), CERTIFICATE)

        self.twist = twist


async def publish(city: Node, version: int) -> None:
    """Publish a version of the item: one more register."""
    await ask(city, "catalogue.publish", items=[item(version=version)])


@pytest.fixture
async def line(tmp_path: Path) -> tuple[Uplink, Mirror, Caller]:
    """A child that is up to date, at a mirror that still is honest."""
    caller = await city_and_child(tmp_path)
    await hire(caller.node)
    mirror = Mirror(caller.hub)
    uplink = Uplink(caller.node, mirror, Settings(("hub:1",), 10.0, 5))
    await uplink.round()
    return uplink, mirror, caller


async def page_of(mirror: Mirror, caller: Caller, after: int) -> Page:
    """Return what an honest hub would send to who holds the registers up to a number."""
    ask_ = messages.Pull(messages.Cursors(after, 0, b"", 0))
    return await caller.ask("pull", ask_, Page)


async def refused(uplink: Uplink, mirror: Mirror, lie: Lie) -> None:
    """Pull once under a lie: refused, and neither rules nor store have changed; without it all is well again."""
    node = uplink.node
    before, number = await dump(node, "meta"), node.rules.number
    mirror.lie(lie)
    with pytest.raises(PeerError):
        await uplink.pulling.pull_all()
    assert (await dump(node, "meta"), node.rules.number) == (before, number)
    mirror.lie(None)


async def test_a_gap_is_no_fast_way_forward(line: tuple[Uplink, Mirror, Caller]) -> None:
    """C15, fast-forward: the newest register without the one before it is not taken."""
    uplink, mirror, caller = line
    for version in (2, 3):
        await publish(caller.hub.node, version)
    await refused(uplink, mirror, lambda page: msgspec.structs.replace(page, registers=page.registers[-1:]))
    await uplink.round()
    assert uplink.node.rules.number == caller.hub.node.rules.number


async def test_old_registers_bring_nothing_back(line: tuple[Uplink, Mirror, Caller]) -> None:
    """C15, rollback: what was superseded is shown again as news: nothing moves, newer rules stay in force."""
    uplink, mirror, caller = line
    await publish(caller.hub.node, 2)
    old = await page_of(mirror, caller, 0)
    await uplink.round()
    number, node = uplink.node.rules.number, uplink.node
    mirror.lie(lambda page: msgspec.structs.replace(page, registers=old.registers[:2]))
    with contextlib.suppress(PeerError):
        await uplink.pulling.pull_all()
    assert node.rules.number == number
    record = node.rules.now.item("permit")
    assert record is not None
    assert record.head.version == 2


async def test_facts_of_one_register_do_not_stand_in_for_anothers(line: tuple[Uplink, Mirror, Caller]) -> None:
    """C15, mix and match: a register with the facts of another, or with some left out, is refused as a whole."""
    uplink, mirror, caller = line
    for version in (2, 3):
        await publish(caller.hub.node, version)

    def mixed(page: Page) -> Page:
        one, two = page.registers[:2]
        return msgspec.structs.replace(page, registers=(msgspec.structs.replace(one, facts=two.facts), two))

    def bare(page: Page) -> Page:
        return msgspec.structs.replace(page, registers=tuple(msgspec.structs.replace(one, facts=()) for one in page.registers))

    def swapped(page: Page) -> Page:
        return msgspec.structs.replace(page, registers=tuple(reversed(page.registers)))

    for lie in (mixed, bare, swapped):
        await refused(uplink, mirror, lie)
    await uplink.round()


async def test_another_networks_rules_are_none(line: tuple[Uplink, Mirror, Caller], tmp_path: Path) -> None:
    """C15, genesis: registers of a network with the same nodes and another genesis are not signed for this one."""
    uplink, mirror, caller = line
    other = await furnish(await found(tmp_path / "other", seed=99))
    for version in range(2, 6):
        await publish(other, version)
    ask_ = messages.Pull(messages.Cursors(uplink.node.rules.number, 0, b"", 0))
    theirs = await other.store.own(lambda conn: serving.pull(other.ledger, conn, other.id, ask_))
    assert theirs.registers
    await publish(caller.hub.node, 2)
    await refused(uplink, mirror, lambda page: msgspec.structs.replace(page, registers=theirs.registers))
    await other.close()


async def test_a_root_that_forks_its_rules_moves_nobody_who_heard_the_first(
    line: tuple[Uplink, Mirror, Caller], tmp_path: Path
) -> None:
    """C15, fork: a root restored from before a register writes another of its number: who holds the first refuses the second."""
    uplink, mirror, caller = line
    city = caller.hub.node
    copy = tmp_path / "copy.sqlite3"
    await city.store.own(city.ledger.seal)
    await city.write(lambda conn, _: city.ledger.save_seals(conn))
    await city.store.own(lambda conn: conn.execute("VACUUM INTO ?", (str(copy),)))
    rival = await setup.node_of(InlineDatabase(copy), city.ledger.identity.key, city.clock, SeededEntropy(7))
    await publish(city, 2)
    await uplink.round()
    number = uplink.node.rules.number
    for version in (2, 3):
        await publish(rival, version + 5)
    ask_ = messages.Pull(messages.Cursors(number - 1, 0, b"", 0))
    theirs = await rival.store.own(lambda conn: serving.pull(rival.ledger, conn, rival.id, ask_))
    mirror.lie(lambda page: msgspec.structs.replace(page, registers=theirs.registers))
    await publish(city, 3)
    with pytest.raises(PeerError):
        await uplink.pulling.pull_all()
    record = uplink.node.rules.now.item("permit")
    assert record is not None
    assert (uplink.node.rules.number, record.head.version) == (number, 2)
    mirror.lie(None)
    await uplink.round()
    assert uplink.node.rules.number == number + 1
    await rival.close()


async def test_rules_that_are_held_back_stop_no_counter(line: tuple[Uplink, Mirror, Caller]) -> None:
    """C15, freeze: a parent that hides new rules leaves the old basis; cases are taken in under it as ever."""
    uplink, mirror, caller = line
    await publish(caller.hub.node, 2)
    number = uplink.node.rules.number
    mirror.lie(lambda page: msgspec.structs.replace(page, registers=(), items=(), more=False))
    await uplink.round()
    assert uplink.node.rules.number == number
    assert await opened(uplink.node)
    mirror.lie(None)
    await uplink.round()
    assert uplink.node.rules.number == caller.hub.node.rules.number
