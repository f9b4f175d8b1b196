"""Who tries to write to a case that is not in its hands: kept, shown with the reason, without effect, and the same at every node."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.acceptance import accept_bundles
from node.ledger import Draft
from node.node import Node
from node.projection import Batch
from node.store.database import Connection
from protocol import keys
from protocol.errors import PeerError, ProofInvalid
from protocol.log import Bundle, sign_checkpoint
from protocol.log import decode_checkpoint as read_checkpoint
from tests.attacks.scene import Scene, scene, states, tip, verdict
from tests.hub.calling import dump
from tests.node.building import CITY, DAY_MS, EAST, WEST, ask, brought_to, carry, effects, show


@pytest.fixture
async def open_(tmp_path: Path) -> AsyncIterator[Scene]:
    """A case of the eastern district that the city and the west hold too."""
    made = await scene(tmp_path)
    yield made
    for node in (made.city, made.east, made.west):
        await node.close()


def spine(node: Node, made: Scene, kind: str, prev: bytes, fields: dict[str, Any] | None = None, epoch: int = 0) -> Draft:
    return Draft(kind, node.clock.wall_ms(), fields or {}, case=made.key, epoch=epoch, prev=prev)


async def agreed(made: Scene) -> list[dict[str, Any]]:
    """All three hold the same verdicts; returns their pages."""
    pages = await made.everywhere()
    pages = await made.everywhere()
    assert len({(page["digest"], str(effects(page))) for page in pages[:2]}) == 1
    return pages


# --- A01, A06: without custody, without right


@pytest.mark.parametrize("kind", ["accept", "withdraw", "notice", "offer"])
async def test_a_node_without_custody_advances_nothing(open_: Scene, kind: str) -> None:
    """A01: a district writes a step of another's case: void, not the holder's; the holder goes on as if nothing had been."""
    fields = {"accept": {}, "withdraw": {}, "notice": {"missing": ["申请表"]}, "offer": {"to": WEST}}[kind]
    await states(open_.west, spine(open_.west, open_, kind, open_.key, fields))
    pages = await agreed(open_)
    assert verdict(pages[0], WEST, kind) == ("void", "not_holder")
    assert (pages[0]["state"], pages[0]["holder"], pages[0]["parties"]) == ("received", EAST, [EAST])
    await brought_to(open_.east, open_.case, "accept")
    assert verdict((await agreed(open_))[0], EAST, "accept") == ("applied", None)


async def test_a_stranger_puts_nothing_beside_a_case(open_: Scene) -> None:
    """A01, A10: a note, or a place as a party, that nobody gave: void, and nothing is routed there."""
    note = Draft("note", open_.west.clock.wall_ms(), {}, {"text": "看看"}, case=open_.key, prev=open_.key)
    await states(open_.west, note)
    pages = await agreed(open_)
    assert verdict(pages[0], WEST, "note") == ("void", "not_a_party")
    assert pages[0]["parties"] == [EAST]


async def test_a_district_decides_nothing_that_is_the_citys(open_: Scene) -> None:
    """A06: the holder writes a decision to which it has no right: void, and the chain runs on behind it."""
    await brought_to(open_.east, open_.case, "accept")
    behind = await tip(open_.east, open_.case)
    await states(open_.east, spine(open_.east, open_, "decide", behind, {"result": "grant"}))
    pages = await agreed(open_)
    assert verdict(pages[0], EAST, "decide") == ("void", "no_right:no_right")
    assert pages[0]["state"] == "accepted"
    await brought_to(open_.east, open_.case, "offer")
    await agreed(open_)
    await brought_to(open_.city, open_.case, "take")
    assert (await agreed(open_))[0]["holder"] == CITY


async def test_a_hub_forges_no_decision_of_a_district(open_: Scene) -> None:
    """A06, C03: the city signs a log in a district's name: another node refuses it whole, and keeps nothing of it."""
    await brought_to(open_.east, open_.case, "accept")
    await agreed(open_)
    bundle = await open_.city.store.own(lambda conn: _bundle_of(open_.city, conn))
    theirs = read_checkpoint(bundle.signed.checkpoint)
    identity = open_.city.ledger.identity
    forged = Bundle(sign_checkpoint(theirs, identity.key, identity.network), bundle.entries)
    before = await dump(open_.west)
    with pytest.raises(PeerError) as caught:
        await open_.west.write(lambda conn, _: _take(open_.west, conn, forged))
    assert caught.value.code == "signature"
    assert await dump(open_.west) == before


def _bundle_of(node: Node, conn: Connection) -> Bundle:
    row = conn.execute("SELECT e.id, e.log, e.idx FROM entries e JOIN logs l ON l.id = e.log WHERE l.node = ? ORDER BY e.idx DESC", (EAST,))
    return node.ledger.bundles(conn, [row.fetchone()])[0]


def _take(node: Node, conn: Connection, bundle: Bundle) -> None:
    batch = Batch(conn, node.rules, node.ledger.judge)
    accept_bundles(node.ledger, conn, batch, [bundle])
    batch.finish()


async def test_an_entry_in_anothers_name_is_nobodys(open_: Scene) -> None:
    """A06, C03: a right signature of the city over an entry that says it is the district's: the district says nothing by it."""
    await brought_to(open_.east, open_.case, "accept")
    await agreed(open_)
    bundle = await open_.city.store.own(lambda conn: _bundle_of(open_.city, conn))
    identity = open_.city.ledger.identity
    mine = {"node": CITY, "incarnation": identity.log.incarnation, "key": keys.key_id(identity.key.public)}
    renamed = msgspec.structs.replace(read_checkpoint(bundle.signed.checkpoint), **mine)
    forged = Bundle(sign_checkpoint(renamed, identity.key, identity.network), bundle.entries)
    before = await dump(open_.west)
    with pytest.raises(ProofInvalid):
        await open_.west.write(lambda conn, _: _take(open_.west, conn, forged))
    assert await dump(open_.west) == before


# --- A02, A11: too late, in an old epoch


async def test_a_holder_that_was_away_writes_in_an_old_epoch(open_: Scene) -> None:
    """A02: frozen for an hour, reclaimed meanwhile, it writes on as the holder it was: kept, without effect, fenced by the epoch."""
    await ask(open_.city, "case.reclaim", case=open_.case, reason="站点停电")
    open_.city.clock.pass_ms(DAY_MS // 24)  # type: ignore[attr-defined]
    await brought_to(open_.east, open_.case, "accept")  # it has not heard; at its counter this looked right
    assert (await show(open_.east, open_.case))["state"] == "accepted"
    pages = await agreed(open_)
    assert verdict(pages[0], EAST, "accept") == ("late", "not_chosen")
    assert {(page["holder"], page["epoch"], page["state"]) for page in pages[:2]} == {(CITY, 1, "received")}
    await brought_to(open_.city, open_.case, "accept")
    assert (await agreed(open_))[1]["state"] == "accepted"


async def test_an_old_epoch_is_not_entered_again(open_: Scene) -> None:
    """A11: who handed a case on writes again in the epoch that is over, behind the old tip: off the line at every node."""
    await brought_to(open_.east, open_.case, "accept")
    behind = await tip(open_.east, open_.case)
    await ask(open_.east, "case.offer", case=open_.case, to=WEST)
    await agreed(open_)
    await brought_to(open_.west, open_.case, "take")
    pages = await agreed(open_)
    await states(open_.east, spine(open_.east, open_, "withdraw", behind), spine(open_.east, open_, "extend", await tip(open_.west, open_.case), {"days": 5}))
    pages = await agreed(open_)
    assert verdict(pages[0], EAST, "withdraw") == ("late", "not_chosen")
    assert verdict(pages[0], EAST, "extend") == ("void", "not_holder")
    assert {(page["holder"], page["epoch"], page["state"]) for page in pages} == {(WEST, 1, "accepted")}


async def test_a_restored_holder_loses_to_what_it_said_before(open_: Scene) -> None:
    """A11: restored from before its offer it writes on: two histories, both kept; the earlier fact stands, as for everybody."""
    copy = await open_.twin_of_east()
    await ask(open_.east, "case.offer", case=open_.case, to=WEST)
    await agreed(open_)
    await brought_to(open_.west, open_.case, "take")
    await agreed(open_)
    await brought_to(copy, open_.case, "accept")
    await carry(copy, open_.city)
    page = await show(open_.city, open_.case)
    assert (page["holder"], page["epoch"], page["state"]) == (WEST, 1, "received")
    assert verdict(page, EAST, "accept")[0] == "late"
    evidence = await open_.city.read(lambda conn: conn.execute("SELECT count(*) FROM evidence").fetchone()[0])
    assert evidence == 1
    await copy.close()


# --- A03: at the same time


@pytest.mark.parametrize("twin_first", [False, True])
async def test_two_offers_of_a_cloned_holder(open_: Scene, twin_first: bool) -> None:
    """A03: two machines with one key offer one case to two places: one line is chosen, the other is kept as late, and it is evidence."""
    copy = await open_.twin_of_east()
    await ask(open_.east, "case.offer", case=open_.case, to=WEST)
    await ask(copy, "case.offer", case=open_.case, to=CITY)
    for one in (copy, open_.east) if twin_first else (open_.east, copy):
        await carry(one, open_.city)
    page = await show(open_.city, open_.case)
    offers = sorted(one["effect"] for one in page["timeline"] if one["type"] == "offer")
    assert offers == ["applied", "late"]
    assert page["offered"] == (CITY if twin_first else WEST)  # the first that was held is the first in its author's order
    evidence = await open_.city.read(lambda conn: conn.execute("SELECT count(*) FROM evidence").fetchone()[0])
    assert evidence == 1
    await copy.close()


async def test_a_take_and_a_reclaim_at_the_same_time(open_: Scene) -> None:
    """A03: the target takes while the ancestor of both reclaims: the ancestor's stands, at every node, in whatever order they come."""
    await ask(open_.east, "case.offer", case=open_.case, to=WEST)
    await agreed(open_)
    await brought_to(open_.west, open_.case, "take", "accept")
    await ask(open_.city, "case.reclaim", case=open_.case, reason="久未接收")
    pages = await agreed(open_)
    assert verdict(pages[0], CITY, "reclaim") == ("applied", None)
    assert {verdict(page, WEST, kind) for page in pages for kind in ("take", "accept")} == {("late", "not_chosen")}
    assert {page["holder"] for page in pages} == {CITY}


# --- A04, A05: nobody there


async def test_an_offer_that_nobody_takes_waits_until_an_ancestor_ends_it(open_: Scene) -> None:
    """A04: no timer gives a case away or back: a year later it still waits, the city's page says so, and its reclaim ends it."""
    await ask(open_.east, "case.offer", case=open_.case, to=WEST)
    await agreed(open_)
    for one in (open_.city, open_.east, open_.west):
        one.clock.pass_ms(365 * DAY_MS)  # type: ignore[attr-defined]
    page = (await agreed(open_))[0]
    assert (page["holder"], page["offered"], page["clock"]["overdue"]) == (EAST, WEST, True)
    await ask(open_.city, "case.reclaim", case=open_.case, reason="对方停用")
    page = (await agreed(open_))[1]
    assert (page["holder"], page["offered"]) == (CITY, None)


async def test_a_hand_over_waits_for_a_hub_that_is_away(open_: Scene) -> None:
    """A05: with the common ancestor down the offer waits in the log, both counters go on, and it is completed afterwards."""
    await ask(open_.east, "case.offer", case=open_.case, to=WEST)
    await ask(open_.east, "case.note", case=open_.case, text="已电话通知")
    mine = await ask(open_.east, "case.open", item="permit", applicant="李丽", id_number="11010519491231002X")
    assert mine["safety"] == "here"
    assert (await show(open_.west, open_.case))["offered"] is None
    await agreed(open_)  # it is back
    await brought_to(open_.west, open_.case, "take")
    pages = await agreed(open_)
    assert {(page["holder"], page["epoch"]) for page in pages} == {(WEST, 1)}
    assert {effect for _, effect in effects(pages[0])} == {"applied"}


# --- A10: names and places that are not one's own


async def test_a_case_key_is_nobodys_to_take(open_: Scene) -> None:
    """A10: a second opening under a case's key is void; the key is the hash of the first one, and stays its author's."""
    fields = {"item": "permit", "version": 1, "number": open_.case, "handler": CITY, "region": CITY, "kind": 2, "table": 1}
    opening = Draft("open", open_.west.clock.wall_ms(), fields, {"salt": bytes(16), "applicant": "冒名"}, case=open_.key, epoch=0, prev=open_.key)
    await states(open_.west, opening)
    page = (await agreed(open_))[0]
    assert verdict(page, WEST, "open")[0] == "void"
    assert (page["holder"], page["opener"], page["applicant"]) == (EAST, EAST, "王伟")


async def test_one_printed_number_on_two_cases_gives_neither_to_the_other(open_: Scene) -> None:
    """A10: a label that collides is a label: both cases stand under their own keys."""
    before = await show(open_.city, open_.case)
    row = await open_.city.read(lambda conn: conn.execute("SELECT count(*) FROM cases").fetchone())
    fields = {"item": "permit", "version": 1, "number": open_.case, "handler": CITY, "region": CITY, "kind": 2, "table": 1}
    await states(open_.west, Draft("open", open_.west.clock.wall_ms(), fields, {"salt": b"\1" * 16, "applicant": "赵六"}))
    await open_.everywhere()
    after = await show(open_.city, before["key"])
    assert (after["digest"], after["applicant"]) == (before["digest"], "王伟")
    assert (await open_.city.read(lambda conn: conn.execute("SELECT count(*) FROM cases").fetchone()))[0] == row[0] + 1


# --- I11: what is said of it


async def test_what_was_void_is_told_in_words_and_leaks_nothing(open_: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """I11: every verdict without effect has a reason on the page; the log of the program repeats no personal data."""
    with caplog.at_level(logging.DEBUG, "tongban"):
        await states(open_.west, spine(open_.west, open_, "accept", open_.key))
        page = (await agreed(open_))[0]
    assert all(one["reason"] for one in page["timeline"] if one["effect"] != "applied")
    assert "王" not in str([vars(record) for record in caplog.records])
