"""What a hub gives out: in pages that always fit, from which nothing is left out, and only to whom it belongs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub import serving
from node import ledger as ledger_module
from node.ledger import Changes, Draft
from node.registrar import take_in
from node.store.database import Connection
from protocol import limits, messages
from protocol.log import LogId, decode_checkpoint, decode_header
from tests import story
from tests.hub.calling import Caller, city_and_child, count
from tests.node.building import CITY, EAST, WEST, ask, enrol, hire, item, opened
from tests.story import D1, D2, T1, V1, Oracle
from tests.world import World


@pytest.fixture
async def child(tmp_path: Path) -> Caller:
    """A child that has logged in."""
    return await city_and_child(tmp_path)


def nothing() -> messages.Cursors:
    return messages.Cursors(0, 0, b"", 0)


async def pull_all(child: Caller, cursors: messages.Cursors | None = None, bytes_max: int = 1 << 19) -> list[messages.PullReply]:
    """Pull page by page, as a child does."""
    found, at = [], cursors or nothing()
    while True:
        found.append(await child.ask("pull", messages.Pull(at, bytes_max), messages.PullReply))
        assert found[-1].cursors != at or not found[-1].more
        at = found[-1].cursors
        if not found[-1].more:
            return found


# --- heads


async def test_heads_are_those_of_the_childs_subtree(child: Caller, tmp_path: Path) -> None:
    """A child compares what stands at or below it, and nothing of others."""
    await enrol(tmp_path / "west", child.hub.node, WEST, seed=5)
    await child.push()
    heads = await child.hub.node.read(lambda conn: serving.heads(child.hub.node.ledger, conn, EAST))
    assert [head.log.node for head in heads] == [EAST]


async def test_one_digest_says_that_all_is_equal(child: Caller) -> None:
    """With equal heads a hello is one short answer; else the heads come."""
    await child.push()
    heads = await child.hub.node.read(lambda conn: serving.heads(child.hub.node.ledger, conn, EAST))
    same = await child.send("hello", messages.Hello(messages.digest(heads)))
    assert messages.decode(same.body, messages.HelloReply).same
    assert len(same.body) < 200
    other = await child.ask("hello", messages.Hello(bytes(32)), messages.HelloReply)
    assert (other.same, other.heads) == (False, tuple(heads))


def test_heads_are_paged_by_log() -> None:
    """Page after page, each head once; the digest is over all of them."""
    heads = [messages.Head(LogId("650102000000", number.to_bytes(16, "big")), 1, bytes(32)) for number in range(4_500)]
    found: list[messages.Head] = []
    more = True
    while more:
        page, more = serving.page_of(heads, found[-1].log if found else None)
        found += page
    assert found == heads


# --- rules and texts


async def publish(child: Caller, items: int, chars: int) -> None:
    for begin in range(0, items, 20):
        some = [item(f"i{number}", form=[{"name": "f", "label": "字" * 30}], note="字" * chars) for number in range(begin, min(items, begin + 20))]
        await ask(child.hub.node, "catalogue.publish", items=some)


async def test_a_catalogue_larger_than_a_message_comes_in_pages(child: Caller) -> None:
    """However many items are published at once, every page fits and all texts arrive."""
    hub = child.hub.node
    body = {"text": "字" * 9_000}

    def state(conn: Connection, changes: Changes) -> None:
        drafts = [
            Draft(
                "catalogue.item",
                hub.clock.wall_ms(),
                {"code": f"big{n}", "version": 1, "title": "t", "owner": CITY, "receive": [f"{CITY}/*"], "decide": [CITY]},
                body,
            )
            for n in range(100)
        ]
        hub.ledger.append(conn, drafts, changes)
        take_in(hub.ledger, conn, changes, hub.clock.wall_ms())

    await hub.write(state)
    pages = await pull_all(child)
    assert len(pages) > 3
    texts = [leaf for page in pages for leaf, _ in page.items]
    assert len(set(texts)) == 101
    numbers = [news.number for page in pages for news in page.registers]
    assert numbers == list(range(1, hub.rules.number + 1))
    assert pages[-1].cursors.catalogue == hub.rules.number


async def test_a_register_never_outgrows_a_message(child: Caller) -> None:
    """Many facts at once are numbered in several registers, each with its facts fit for one message."""
    hub = child.hub.node
    pattern = [f"{650_100_000_000 + number}/*" for number in range(150)]

    def state(conn: Connection, changes: Changes) -> None:
        fields = {"version": 1, "title": "t" * 100, "owner": CITY, "receive": pattern, "decide": pattern}
        drafts = [Draft("catalogue.item", hub.clock.wall_ms(), {"code": f"w{n}", **fields}, {"a": "字" * 3_000}) for n in range(250)]
        hub.ledger.append(conn, drafts, changes)
        take_in(hub.ledger, conn, changes, hub.clock.wall_ms())

    await hub.write(state)
    pages = await pull_all(child)
    assert sum(len(bundle.entries) for page in pages for news in page.registers for bundle in news.facts) >= 250


async def test_texts_go_to_those_who_may_use_them(child: Caller) -> None:
    """An item of another place comes with title and owner only."""
    await ask(child.hub.node, "catalogue.publish", items=[item("theirs", receive=[WEST], decide=[WEST])])
    (page,) = await pull_all(child)
    facts = [one for news in page.registers for bundle in news.facts for one in bundle.entries]
    bodies = {decode_header(one.raw).fields.get("code"): one.body for one in facts if decode_header(one.raw).type == "catalogue.item"}
    assert bodies == {"permit": None, "theirs": None}
    assert len(page.items) == 1


# --- cases


def test_what_fits_no_single_page_comes_whole_in_several(tmp_path: Path) -> None:
    """A case far larger than a message reaches a party that joins late, and a fetch of it is paged alike."""
    with World(4, tmp_path) as world:

        async def tell() -> None:
            await story.build(world, ((D1, CITY), (D2, CITY), (T1, D1), (V1, T1)))
            oracle = Oracle()
            opened_ = await story.step(world, oracle, V1, "o", "case.open", item="cross", applicant="王伟", id_number=story.ID_NUMBER)
            for number in range(150):
                await story.step(world, oracle, V1, f"n{number}", "case.note", case=opened_["case"], text="字" * 3_900)
            await story.step(world, oracle, V1, "f", "case.offer", case=opened_["case"], to=D2)
            await world.settle()
            await story.judge(world, oracle)
            await _fetch_whole(world, bytes.fromhex(opened_["key"]))

        world.run(tell())


async def _fetch_whole(world: World, key: bytes) -> None:
    city = world.places[CITY].node

    def fetch(start: int) -> Any:
        ask_ = messages.Fetch("case", key=key, start=start)
        return lambda conn: serving.fetch(city.ledger, conn, D2, ask_)

    start, pages, more = 0, 0, True
    while more:
        reply = await city.store.own(fetch(start))
        assert len(messages.encode(reply)) < limits.MESSAGE_BYTES_MAX
        start += sum(len(bundle.entries) for bundle in reply.bundles)
        pages, more = pages + 1, reply.more
    assert pages > 2
    assert start == 152


async def test_a_backlog_with_large_bodies_goes_up_in_several_messages(child: Caller) -> None:
    """500 long forms written offline do not make one set that fits no message."""
    await hire(child.node)
    for number in range(60):
        await opened(child.node, f"甲{number}", field={f"q{n}": "字" * 3_900 for n in range(5)})
    push = await child.next_push()
    await child.push(push)
    sizes = [decode_checkpoint(one.signed.checkpoint).size for one in push.sets]
    assert sizes[0] < 60
    assert all(messages.about_bytes(one) < limits.SET_BYTES_MAX for one in push.sets)
    assert ledger_module.SET_BYTES * 2 <= limits.SET_BYTES_MAX


# --- fetching


async def test_logs_and_cases_of_others_are_not_given_out(child: Caller, tmp_path: Path) -> None:
    """A log belongs to its subtree, a case to its parties."""
    west = Caller(await enrol(tmp_path / "west", child.hub.node, WEST, seed=5), child.hub)
    await hire(west.node)
    await west.login()
    case = await opened(west.node)
    await west.push()
    row = await child.hub.node.read(lambda conn: conn.execute("SELECT key FROM cases WHERE number = ?", (case,)).fetchone())
    await child.refused("fetch", messages.Fetch("log", west.node.ledger.identity.log), "not_permitted")
    await child.refused("fetch", messages.Fetch("case", key=row[0]), "not_permitted")
    await child.refused("fetch", messages.Fetch("everything"), "not_permitted")
    await west.ask("fetch", messages.Fetch("case", key=row[0]), messages.FetchReply)


async def test_what_is_not_here_is_answered_with_nothing(child: Caller) -> None:
    """An unknown log, case, chain or item is no error."""
    empty = messages.FetchReply()
    for ask_ in (
        messages.Fetch("log", LogId(EAST, bytes(16))),
        messages.Fetch("case", key=bytes(16)),
        messages.Fetch("case", key=b"short"),
        messages.Fetch("chain", node="nobody"),
        messages.Fetch("item", key=bytes(32)),
    ):
        assert await child.ask("fetch", ask_, messages.FetchReply) == empty


async def test_a_childs_own_entries_never_come_down_in_pieces(child: Caller) -> None:
    """A case is fetched without what the child's subtree stated: that comes as whole logs."""
    await hire(child.node)
    case = await opened(child.node)
    await child.push()
    await hire(child.hub.node) if not await count(child.hub.node, "meta", "name = 'officers'") else None
    row = await child.hub.node.read(lambda conn: conn.execute("SELECT key FROM cases WHERE number = ?", (case,)).fetchone())
    reply = await child.ask("fetch", messages.Fetch("case", key=row[0]), messages.FetchReply)
    assert reply.bundles == ()


# --- receipts from further up


def test_receipts_from_further_up_reach_the_counter(tmp_path: Path) -> None:
    """Within moments a village knows that a second machine above has what it wrote; and every hub tells only what changed."""
    with World(5, tmp_path) as world:

        async def tell() -> None:
            await story.build(world, ((D1, CITY), (T1, D1), (V1, T1)))
            oracle = Oracle()
            begun = world.loop.time()
            await story.spot(world, oracle, V1, "s")
            while (await story.ask(world.places[V1], "status"))["safety"] != "second":
                await asyncio.sleep(0.05)
                assert world.loop.time() - begun < 3.0
            for place in (D1, T1):
                for session in world.places[place].hub.sessions.of({D1: T1, T1: V1}[place]):
                    assert session.owed == set()

        world.run(tell())


def test_many_receipts_come_in_bounded_replies(tmp_path: Path) -> None:
    """What finds no room in one reply is owed, and comes with the next."""
    with World(6, tmp_path) as world:

        async def tell() -> None:
            await story.build(world, ((D1, CITY), (T1, D1), (V1, T1)))
            await story.spot(world, Oracle(), V1, "s")
            await world.settle()
            hub = world.places[D1].node
            wanted = await hub.read(lambda conn: serving.logs_below(hub.ledger, conn, T1))
            whole, left = await hub.store.own(lambda conn: serving.upstream_receipts(hub.ledger, conn, wanted))
            assert (len(wanted), left) == (2, set())
            assert whole
            small, serving.RECEIPTS_BYTES = serving.RECEIPTS_BYTES, 1
            try:
                some, left = await hub.store.own(lambda conn: serving.upstream_receipts(hub.ledger, conn, wanted))
            finally:
                serving.RECEIPTS_BYTES = small
            assert len(some) == 1
            assert len(left) == 1

        world.run(tell())
