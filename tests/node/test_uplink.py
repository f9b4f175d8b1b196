"""The way up: lost answers, late copies, odd parents; the uplink goes on for ever, and no cursor moves without proof."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.app import Hub
from node import uplink as uplink_module
from node.ledger import Changes, Draft
from node.ports import Response
from node.registrar import take_in
from node.store import logs
from node.store.database import Connection
from node.uplink import Settings, Uplink, call, keep_receipt, prepare_push, refusal_of
from protocol import errors, limits, messages
from protocol.errors import (
    DecodeError,
    GapFound,
    LinkError,
    Overloaded,
    PeerError,
    ProofInvalid,
    TongbanError,
    VersionUnsupported,
)
from protocol.log import Bundle, Signed
from tests import story
from tests.hub.calling import CERTIFICATE, Caller, city_and_child, dump
from tests.node.building import CITY, EAST, START_MS, ask, hire, opened
from tests.story import D1, T1, V1, V2, Oracle
from tests.world import Weather, World

Twist = Callable[[str, Response], Response | Awaitable[Response]]


class Line:
    """A line to a hub that can lose, twist and count what it carries."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.carried: list[str] = []
        self.lose: set[str] = set()  # answers to lose, once each
        self.twist: Callable[[str, Response], Response] | None = None

    async def request(self, _address: str, path: str, body: bytes, *, token: str | None = None, **_: Any) -> Response:
        name = path.rsplit("/", 1)[1]
        self.carried.append(name)
        answer = await self.hub.handle(name, bytes.fromhex(token) if token else None, body)
        if name in self.lose:
            self.lose.remove(name)
            raise LinkError("lost")
        response = Response(answer.status, answer.body, CERTIFICATE, answer.retry_after_s)
        return self.twist(name, response) if self.twist else response

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
async def pair(tmp_path: Path) -> tuple[Uplink, Line]:
    """A child with one case to push, and its line to its hub."""
    caller = await city_and_child(tmp_path)
    await hire(caller.node)
    await opened(caller.node)
    line = Line(caller.hub)
    return Uplink(caller.node, line, Settings(("hub:1",), 10.0, 5)), line


def twisted(kind: type[Any], **changes: Any) -> Callable[[str, Response], Response]:
    """Return a twist of one kind of reply: its fields replaced."""

    def twist(name: str, response: Response) -> Response:
        names = {"push": messages.PushReply, "pull": messages.PullReply, "greet": messages.Greeting, "hello": messages.HelloReply}
        if names.get(name) is not kind or response.status != 200:
            return response
        made = msgspec.structs.replace(messages.decode(response.body, kind), **changes)
        return Response(200, messages.encode(made), CERTIFICATE)

    return twist


async def acked(node: Any) -> dict[int, int]:
    found: dict[int, int] = await node.read(logs.acks)
    return {log_id: size for log_id, size in found.items() if size}


# --- lost, late, repeated


@pytest.mark.parametrize("name", ["greet", "login", "hello", "push", "pull"])
async def test_a_lost_answer_costs_one_more_try(pair: tuple[Uplink, Line], name: str) -> None:
    """Whatever answer is lost, the next round brings everything, each entry once."""
    uplink, line = pair
    line.lose.add(name)
    with pytest.raises(LinkError):
        await uplink.round()
    uplink._drop(LinkError("lost"))
    await uplink.round()
    row = await uplink.node.read(uplink.node.ledger.own_row)
    assert (await acked(uplink.node))[row.id] == row.size
    assert (await ask(line.hub.node, "verify"))["problems"] == []


async def test_a_round_with_nothing_new_is_two_short_requests(pair: tuple[Uplink, Line]) -> None:
    """With a session, an idle child asks for news only."""
    uplink, line = pair
    await uplink.round()
    line.carried.clear()
    await uplink.round()
    assert line.carried == ["pull"]


async def test_a_hub_that_lost_something_gets_it_again(pair: tuple[Uplink, Line]) -> None:
    """A gap is answered with the size held: the child goes back there, in the same round."""
    uplink, line = pair
    await uplink.round()
    hub = line.hub.node
    uplink.node.listeners.clear()
    await uplink.node.write(lambda conn, _: logs.save_ack(conn, uplink.node.ledger.own_row(conn).id, 2))
    await hub.write(lambda conn, _: _forget(conn, EAST))
    await uplink.push_all()
    row = await uplink.node.read(uplink.node.ledger.own_row)
    assert (await acked(uplink.node))[row.id] == row.size


def _forget(conn: Connection, node: str) -> None:
    """Make a hub's log of a node empty, as if restored from before it came."""
    (log_id,) = conn.execute("SELECT id FROM logs WHERE node = ? AND size > 0", (node,)).fetchone()
    for table in ("receipts", "checkpoints", "entries"):
        conn.execute(f"DELETE FROM {table} WHERE log = ?", (log_id,))
    conn.execute("UPDATE logs SET size = 0, peaks = x'', root = x'', committed = 0 WHERE id = ?", (log_id,))


async def test_a_gap_that_is_none_is_refused(pair: tuple[Uplink, Line]) -> None:
    """A parent cannot send a child back and forth."""
    uplink, _ = pair
    await uplink.round()
    own = uplink.node.ledger.identity.log
    with pytest.raises(ProofInvalid, match="gap"):
        await uplink._go_back(GapFound("x", size_held=99, log=own))
    with pytest.raises(GapFound):
        await uplink._go_back(GapFound("x", size_held=0))


async def test_two_uplinks_at_once_do_no_harm(pair: tuple[Uplink, Line]) -> None:
    """A command beside the running program: both push, everything stands once."""
    uplink, line = pair
    other = Uplink(uplink.node, line, uplink.settings)
    outcomes = await asyncio.gather(uplink.round(), other.sync(30.0), return_exceptions=True)
    assert not [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, Overloaded)]
    await uplink.sync(30.0)
    other.close()
    assert (await ask(line.hub.node, "verify"))["problems"] == []
    row = await uplink.node.read(uplink.node.ledger.own_row)
    assert (await acked(uplink.node))[row.id] == row.size


# --- a parent that does not keep its word


@pytest.mark.parametrize(
    ("kind", "changes", "error"),
    [
        (messages.PushReply, {"receipt": None}, ProofInvalid),
        (messages.PushReply, {"receipt": Bundle(Signed(b"\x00", bytes(64)), ())}, DecodeError),
        (messages.Greeting, {"signature": bytes(64)}, errors.SignatureInvalid),
        (messages.Greeting, {"node": EAST}, PeerError),
        (messages.Greeting, {"network": bytes(32)}, PeerError),
        (messages.Greeting, {"version": 7}, VersionUnsupported),
        (messages.PullReply, {"cursors": messages.Cursors(0, 0, b"", 0), "more": True, "registers": (), "items": ()}, PeerError),
    ],
)
async def test_what_a_parent_cannot_prove_moves_nothing(
    pair: tuple[Uplink, Line], kind: type[Any], changes: dict[str, Any], error: type[TongbanError]
) -> None:
    """No acknowledgement without a receipt, no cursor without progress, no hub that is not the parent."""
    uplink, line = pair
    line.twist = twisted(kind, **changes)
    before = await acked(uplink.node)
    with pytest.raises(error):
        await uplink.round()
    if kind is not messages.PullReply:
        assert await acked(uplink.node) == before
    line.twist = None
    uplink._drop(LinkError("again"))
    await uplink.round()


async def test_a_receipt_of_something_else_is_none(pair: tuple[Uplink, Line]) -> None:
    """A receipt must be the hub's own entry, alone in its bundle, with the body that was signed, and name what was sent."""
    uplink, line = pair
    caught: list[Bundle] = []

    def catch(name: str, response: Response) -> Response:
        if name == "push" and response.status == 200:
            receipt = messages.decode(response.body, messages.PushReply).receipt
            assert receipt is not None
            caught.append(receipt)
        return response

    line.twist = catch
    await uplink.round()
    good = caught[0]
    (entry,) = good.entries
    ledger = uplink.node.ledger
    for bad in (
        Bundle(good.signed, ()),
        Bundle(good.signed, (entry, entry)),
        Bundle(good.signed, (msgspec.structs.replace(entry, raw=entry.raw[:-1]),)),
        Bundle(good.signed, (msgspec.structs.replace(entry, path=(bytes(32),)),)),
    ):
        before = await dump(uplink.node)
        with pytest.raises(PeerError):
            await uplink.node.write(lambda conn, changes, bad=bad: keep_receipt(ledger, conn, changes, bad))  # type: ignore[misc]
        assert await dump(uplink.node) == before
    hub = line.hub.node
    await hub.store.own(hub.ledger.seal)
    genesis = await hub.store.own(lambda conn: hub.ledger.bundle_own(conn, 0))
    with pytest.raises(PeerError):
        await uplink.node.write(lambda conn, changes: keep_receipt(ledger, conn, changes, genesis))


async def test_a_page_is_taken_whole_or_not_at_all(pair: tuple[Uplink, Line]) -> None:
    """Rules, texts, cases and cursors are one transaction, in memory too: a bad part leaves nothing of the good ones."""
    uplink, line = pair
    await ask(line.hub.node, "calendar.publish", calendar=story.calendar(2))
    real = await uplink._ask("pull", messages.Pull(await uplink.cursors()), messages.PullReply)
    assert real.registers
    bad = msgspec.structs.replace(real, cases=(Bundle(real.registers[0].register.signed, ()), Bundle(Signed(b"", bytes(64)), ())))
    before, number = await dump(uplink.node), uplink.node.rules.number
    with pytest.raises(PeerError):
        await uplink.node.write(lambda conn, changes: uplink_module.take_page(uplink.node.ledger, conn, changes, bad))
    assert await dump(uplink.node) == before
    assert uplink.node.rules.number == number
    await uplink.round()
    assert uplink.node.rules.number > number


@pytest.mark.parametrize(
    ("body", "status", "slot", "kind"),
    [
        (b"<html>login to the free wifi</html>", 200, None, None),
        (b"<html>moved</html>", 302, None, LinkError),
        (b"", 502, None, LinkError),
        (messages.encode(messages.Refusal("gap", "x")), 409, None, PeerError),
        (messages.encode(messages.Refusal("overloaded", "x")), 503, 7.0, Overloaded),
        (messages.encode(messages.Refusal("overloaded", "x")), 503, 1e9, Overloaded),
        (messages.encode(messages.Refusal("session", "x")), 401, None, errors.SessionEnded),
        (messages.encode(messages.Refusal("store", "x")), 507, None, LinkError),
        (messages.encode(messages.Refusal("what_is_this", "x")), 400, None, PeerError),
    ],
)
async def test_whatever_answers_becomes_one_of_our_errors(body: bytes, status: int, slot: float | None, kind: type[TongbanError] | None) -> None:
    """A captive portal, a proxy, a newer hub: an error that says whether to try again, never a crash."""
    if kind is None:

        class Portal:
            async def request(self, *_: Any, **__: Any) -> Response:
                return Response(status, body, b"")

        with pytest.raises(DecodeError):
            await call(Portal(), "x:1", "greet", b"", messages.Greeting, None, 1.0)  # type: ignore[arg-type]
        return
    found = refusal_of(body, status, slot)
    assert type(found) is kind
    if isinstance(found, Overloaded):
        assert found.retry_after_s <= 3_600.0


# --- one bad log


def test_one_log_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    """What a parent will not have of one village is left out for this session; all the others go on."""
    with World(7, tmp_path) as world:
        world.run(_one_refused(world))


async def _one_refused(world: World) -> None:
    oracle = Oracle()
    await story.build(world, ((D1, CITY), (T1, D1), (V1, T1), (V2, T1)))
    from hub import intake

    honest = intake.accept_set

    def refusing(ledger: Any, conn: Connection, batch: Any, change: Any) -> Any:
        found = honest(ledger, conn, batch, change)
        if found.row.log.node == V1 and ledger.identity.node == D1:
            raise ProofInvalid("not this one")
        return found

    intake.accept_set = refusing
    try:
        await story.spot(world, oracle, V1, "a")
        await story.spot(world, oracle, V2, "b")
        await asyncio.sleep(60.0)
        held = await world.places[CITY].node.read(lambda conn: {row.log.node: row.size for row in logs.load_logs(conn)})
    finally:
        intake.accept_set = honest
    assert held[V2] == 7
    assert held.get(V1, 0) <= 2
    await world.restart_session(T1)
    await world.settle()
    await story.judge(world, oracle)


def test_a_parent_that_holds_another_history_of_a_village_gets_ours_too(tmp_path: Path) -> None:
    """A village that shows two histories to two hubs bricks neither: both keep both, and everybody else goes on."""
    with World(8, tmp_path) as world:
        world.run(_two_histories(world))


async def _two_histories(world: World) -> None:
    oracle = Oracle()
    await story.build(world, ((D1, CITY), (T1, D1), (V1, T1), (V2, T1)))
    await world.stop(V1)
    world.back_up(V1)
    world.cut(T1, D1)
    await world.start(V1)
    await story.spot(world, oracle, V1, "a")  # told to the township only
    await asyncio.sleep(20.0)
    await world.stop(V1)
    world.restore(V1)
    world.cut(V1, T1)
    await world.start(V1)
    await story.spot(world, Oracle(), V1, "b")
    liar = Caller(world.places[V1].node, world.places[D1].hub)  # and another story, to the district
    await liar.login()
    await liar.push()
    await world.stop(V1)
    world.heal()
    await story.spot(world, oracle, V2, "c")
    await asyncio.sleep(200.0)
    assert world.problems == []
    for name in (CITY, D1):
        node = world.places[name].node
        held = set(await node.read(story._raws))
        assert [raw for raw in oracle.saved if raw not in held] == [], name
        assert (await story.ask(world.places[name], "verify"))["found"] >= (1 if name == D1 else 0)


# --- for ever


def test_the_uplink_never_ends(tmp_path: Path) -> None:
    """Whatever a parent answers, also what we did not foresee, the uplink tries again; and ends at once when it is cancelled."""
    with World(9, tmp_path) as world:
        world.run(_never_ends(world))


async def _never_ends(world: World) -> None:
    await story.build(world, ((D1, CITY),))
    hub = world.places[CITY].hub
    honest = Hub._INSIDE["pull"]

    async def odd(_hub: Hub, _session: Any, _body: bytes) -> messages.Message:
        return messages.PullReply(messages.Cursors(1, 1, b"", 0), more=True, registers=({"not": "a register"},))  # type: ignore[arg-type]

    Hub._INSIDE["pull"] = odd
    try:
        await story.told(world, world.places[CITY], "officer.add", id="2002", name="李四")
        await story.ask(world.places[CITY], "calendar.publish", calendar=story.calendar(2))
        await asyncio.sleep(600.0)
    finally:
        Hub._INSIDE["pull"] = honest
    await world.settle()
    assert world.problems == []
    assert hub.sessions.of(D1)
    (task,) = world.places[D1].tasks
    task.cancel()
    await asyncio.sleep(0.1)
    assert task.done()


def test_a_local_write_wakes_the_uplink(tmp_path: Path) -> None:
    """What is written is at the parent within a moment, also in a pause after a failure."""
    with World(10, tmp_path) as world:
        world.run(_wakes(world))


async def _wakes(world: World) -> None:
    await story.build(world, ((D1, CITY),))
    await asyncio.sleep(100.0)
    for cut in (False, True):
        if cut:
            world.cut(D1, CITY)
            await asyncio.sleep(12.0)
            world.heal()
        begun = world.loop.time()
        await story.ask(world.places[D1], "case.open", item="spot", applicant="王伟", id_number=story.ID_NUMBER)
        await world.settle(rounds=1_000, step_s=0.02)
        assert world.loop.time() - begun < (14.0 if cut else 0.5)


def test_a_session_that_ends_is_begun_again(tmp_path: Path) -> None:
    """A hub that started again does not know its children's sessions: they greet again by themselves."""
    with World(11, tmp_path) as world:
        world.run(_begun_again(world))


async def _begun_again(world: World) -> None:
    await story.build(world, ((D1, CITY),))
    await world.stop(CITY)
    await asyncio.sleep(30.0)
    await world.start(CITY)
    oracle = Oracle()
    await story.spot(world, oracle, D1, "a")
    await world.settle()
    await story.judge(world, oracle)


async def test_an_overloaded_hubs_slot_is_kept(pair: tuple[Uplink, Line]) -> None:
    """A child comes back after the time it was given, spread up to twice that; else after a jittered, growing, capped pause."""
    uplink, _ = pair
    clock = uplink.node.clock
    for exc, failures, low, high in [
        (Overloaded("x", retry_after_s=10.0), 5, 10.0, 20.0),
        (LinkError("x"), 20, 0.0, 300.0),
        (LinkError("x"), 0, 0.0, 1.0),
    ]:
        before = clock.monotonic_s()
        await uplink._pause(exc, failures)
        assert low <= clock.monotonic_s() - before <= high


async def test_a_push_that_cannot_be_prepared_leaves_no_task_behind(pair: tuple[Uplink, Line], monkeypatch: pytest.MonkeyPatch) -> None:
    """While one message is on its way the next is made; when that fails, the first is ended with it."""
    uplink, _line = pair
    for number in range(40):
        await opened(uplink.node, f"甲{number}")
    monkeypatch.setattr(uplink_module, "PUSH_BYTES", 1)
    made = 0
    honest = prepare_push

    def failing(*args: Any) -> Any:
        nonlocal made
        made += 1
        if made > 1:
            raise errors.StoreError("the disk fails")
        return honest(*args)

    for _ in range(3):
        await opened(uplink.node)
        await uplink.node.store.own(uplink.node.ledger.seal)
    monkeypatch.setattr(uplink_module, "prepare_push", failing)
    before = asyncio.all_tasks()
    with pytest.raises(errors.StoreError):
        await uplink.push_all()
    assert asyncio.all_tasks() == before


# --- what is pushed


async def test_a_push_is_bounded_and_says_that_more_follows(pair: tuple[Uplink, Line]) -> None:
    """However much is pending, each message fits, and all of it goes."""
    uplink, line = pair
    for number in range(30):
        await opened(uplink.node, f"甲{number}", field={f"q{n}": "字" * 3_900 for n in range(4)})
    first = await uplink.node.store.own(lambda conn: prepare_push(uplink.node.ledger, conn, {}))
    assert first is not None
    assert first.more
    await uplink.round()
    assert line.carried.count("push") > 1
    row = await uplink.node.read(uplink.node.ledger.own_row)
    assert (await acked(uplink.node))[row.id] == row.size
    assert limits.PUSH_LOGS_MAX * 100 < limits.BODY_BYTES_MAX  # a receipt can name each


async def test_an_admission_folds_again_what_it_reorders(pair: tuple[Uplink, Line]) -> None:
    """New rules that change how older entries stand are applied where they arrive, and a rebuild gives the same."""
    uplink, line = pair
    await uplink.round()
    hub = line.hub.node

    def admit(conn: Connection, changes: Changes) -> None:
        fields = {"node": EAST, "incarnation": bytes(16), "sizes": [[uplink.node.ledger.identity.incarnation, 1]]}
        hub.ledger.append(conn, [Draft("node.admit", START_MS, fields)], changes)
        take_in(hub.ledger, conn, changes, START_MS)

    await hub.write(admit)
    await uplink.round()
    for node in (hub, uplink.node):
        assert (await ask(node, "rebuild"))["problems"] == []
        assert [one.incarnation for one in node.rules.admissions[EAST]] == [bytes(16)]


def test_good_weather_and_bad(tmp_path: Path) -> None:
    """Messages that come twice, an hour late or never, change nothing in the end."""
    with World(12, tmp_path) as world:
        world.run(_weather(world))


async def _weather(world: World) -> None:
    oracle = Oracle()
    await story.build(world, ((D1, CITY), (V1, D1)))
    world.weather = Weather(0.2, 0.2, 1.0, 0.5, (0.001, 2.0), late_s=(1.0, 3_600.0))
    await story.spot(world, oracle, V1, "a")
    await asyncio.sleep(8_000.0)
    world.calm()
    await world.settle()
    await story.judge(world, oracle)


def test_callers_have_names() -> None:
    """The helpers of these tests stand for real machines."""
    assert Caller.__doc__
