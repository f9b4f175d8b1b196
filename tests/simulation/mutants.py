"""Deliberate bugs: each must be found by the simulation within its budget of seeds. They are patched in here; no product code has a switch.

    python -m tests.simulation.mutants            all, and how many seeds each needed      (make mutants)
    python -m tests.simulation.mutants NAME…      some
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final
from unittest import mock

import msgspec

from hub import carrying, feeds, intake
from node import continuity, ledger, projection
from node.office import desk
from node.store import database, logs
from node.store.database import Connection
from node.uplink import bundles, comparing, pulling, pushing
from protocol import authority, fold, log, merkle
from protocol import cases as case_rules
from protocol.errors import TongbanError
from protocol.log import decode_header, encode_header
from protocol.transitions import SIDE_TYPES
from tests.simulation import course, table
from tests.simulation.swarm import SMALL, Swarm


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug. patch: installs it while the block runs. fate: the faults under which it shows; seeds: its budget."""

    name: str
    tells: str
    patch: Callable[[], Any]
    fate: Swarm
    seeds: int = 10


KILLS: Final = Swarm(traps=1.0, crash_share=0.002, answer_lost=0.1, lost=0.05, repeated=0.05)
RESTORES: Final = Swarm(restores=6.0, cuts=4.0, lost=0.05, clock_jumps=2.0)
ROGUES: Final = Swarm(rogues=30.0, cuts=4.0)
CALM: Final = Swarm(lost=0.02)


def _swap(owner: Any, name: str, made: Callable[[Any], Any]) -> Any:
    """Return a patch of one attribute, made from what is there."""
    return mock.patch.object(owner, name, made(getattr(owner, name)))


# --- acknowledging


def _acknowledge_before_commit() -> Any:
    """A hub answers, and in one push of ten the transaction is lost afterwards."""
    draw = random.Random(1)

    def made(real: Any) -> Any:
        def run_unit(conn: Connection, unit: Any) -> Any:
            lose = draw.random() < 0.1 and "_take_group" in _names(unit)
            return _lost(conn, unit) if lose else real(conn, unit)

        return run_unit

    return _swap(database, "run_unit", made)


def _names(unit: Any) -> str:
    """Return the names that a unit's code, and the code inside it, speaks of."""
    found, todo = [], [unit]
    while todo:
        one = todo.pop()
        code = getattr(one, "__code__", None)
        if code is None:
            continue
        found += code.co_names
        todo += [cell.cell_contents for cell in getattr(one, "__closure__", None) or () if callable(cell.cell_contents)]
    return " ".join(found)


def _lost(conn: Connection, unit: Any) -> Any:
    conn.execute("BEGIN IMMEDIATE")
    try:
        return unit(conn)
    finally:
        conn.rollback()


def _saved_before_commit() -> Any:
    """A counter says saved, and in one of twenty the transaction is lost afterwards."""
    draw = random.Random(2)

    def made(real: Any) -> Any:
        def run_unit(conn: Connection, unit: Any) -> Any:
            lose = draw.random() < 0.05 and "perform" in _names(unit)
            return _lost(conn, unit) if lose else real(conn, unit)

        return run_unit

    return _swap(database, "run_unit", made)


def _half_kept() -> Any:
    """What a unit had written when it failed is committed."""

    def made(real: Any) -> Any:
        def run_unit(conn: Connection, unit: Any) -> Any:
            conn.execute("BEGIN IMMEDIATE")
            try:
                result = unit(conn)
                database.faults.point("store.before_commit")
            except BaseException:
                if conn.in_transaction:
                    conn.execute("COMMIT")
                raise
            conn.execute("COMMIT")
            database.faults.point("store.committed")
            return result

        return run_unit

    return _swap(database, "run_unit", made)


def _not_synced() -> Any:
    """Commits do not wait for the platter: synchronous = NORMAL."""

    def made(real: Any) -> Any:
        def settle(conn: Connection, readonly: bool) -> None:
            real(conn, readonly)
            if not readonly:
                conn.execute("PRAGMA synchronous = NORMAL")

        return settle

    return _swap(database, "settle", made)


def _receipt_for_more() -> Any:
    """A hub forgets the last entry of a set now and then, and receipts the whole."""
    draw = random.Random(3)

    def made(real: Any) -> Any:
        def take_pushes(held: Any, conn: Connection, *rest: Any) -> Any:
            taken = real(held, conn, *rest)
            if draw.random() < 0.1:
                conn.execute("DELETE FROM entries WHERE id = (SELECT max(e.id) FROM entries e JOIN logs l ON l.id = e.log WHERE l.node <> ?)", (held.identity.node,))
            return taken

        return take_pushes

    return _swap(intake, "take_pushes", made)


def _ack_before_answer() -> Any:
    """A child counts a push as acknowledged when it sends it."""

    def made(real: Any) -> Any:
        async def send(self: Any, outgoing: Any) -> Any:
            def save(conn: Connection, _: Any) -> None:
                for log_id, size in outgoing.sizes.items():
                    logs.save_ack(conn, log_id, size)

            await self.line.node.write(save)
            return await real(self, outgoing)

        return send

    return _swap(pushing.Pushing, "_send", made)


# --- restored machines


def _ignore_incarnation() -> Any:
    """A restored node goes on in its old incarnation, whatever the parent holds of it."""

    def made(_: Any) -> Any:
        async def reincarnate(self: Any, *_rest: Any) -> None:
            return None

        return reincarnate

    return _swap(comparing.Comparing, "_reincarnate", made)


def _restates_nothing() -> Any:
    """A new incarnation leaves behind what nobody above has."""
    return _swap(continuity, "_move", lambda _: lambda *_a: None)


def _longer_is_ours() -> Any:
    """What the parent holds more of a log counts as an acknowledgement of ours, before it is compared (found here, and mended)."""

    def made(real: Any) -> Any:
        def common_size(self: Any, conn: Connection, log_id: int, head: Any, theirs: Any) -> int:
            if theirs is not None and theirs.size > head.size:
                return int(head.size)
            return int(real(self, conn, log_id, head, theirs))

        return common_size

    return _swap(comparing.Comparing, "_common_size", made)


def _other_history() -> Any:
    """A receipt counts at a size at which we have no checkpoint, whatever root it names (found here, and mended)."""

    def made(real: Any) -> Any:
        def history(conn: Connection, log_id: Any, size: int, root: bytes) -> Any:
            row = logs.find_log(conn, log_id)
            if row is not None and size < row.size and logs.checkpoint_at(conn, row.id, size) is None:
                return row
            return real(conn, log_id, size, root)

        return history

    return _swap(bundles, "_history", made)


# --- the fold


def _skip_epoch() -> Any:
    """Whoever has the right writes in a case, whoever holds it, in whatever epoch."""

    def made(real: Any) -> Any:
        def place(context: Any, header: Any, judge: Any) -> Any:
            reason = real(context, header, judge)
            return "" if reason in _CUSTODY else reason

        return place

    return _everywhere("place", made, (case_rules, fold))


def _take_without_offer() -> Any:
    """Anybody may take a case."""
    return mock.patch.dict(case_rules._MOVING, {"take": lambda *_: ""})


_CUSTODY: Final = frozenset({"not_holder", "wrong_epoch", "offered_away"})


@contextlib.contextmanager
def _everywhere(name: str, made: Callable[[Any], Any], owners: Sequence[Any]) -> Iterator[None]:
    """Patch a function in all modules that imported it by name."""
    with contextlib.ExitStack() as stack:
        for owner in owners:
            if hasattr(owner, name):
                stack.enter_context(_swap(owner, name, made))
        yield


def _newest_rules() -> Any:
    """Rights are judged under the newest rules held, not under the basis that an entry names."""

    @contextlib.contextmanager
    def patched() -> Iterator[None]:
        with (
            _swap(authority.RulesJudge, "_view", lambda _: lambda self, _header: self.rules.now),
            _swap(authority.RulesJudge, "refusal", _unremembered),
        ):
            yield

    return patched()


def _unremembered(real: Any) -> Any:
    def refusal(self: Any, header: Any, terms: Any, legal_at: int) -> Any:
        self._refusals.clear()
        return real(self, header, terms, legal_at)

    return refusal


# --- telling others


def _feed_outside() -> Any:
    """Feed rows are written with the next transaction, not with the entries."""
    waiting: dict[int, list[Any]] = {}

    def made(real: Any) -> Any:
        def mark(self: Any, conn: Connection, touched: Any, changes: Any) -> None:
            late = waiting.pop(id(self), [])
            waiting[id(self)] = list(touched)
            real(self, conn, late, changes)

        return mark

    return _swap(feeds.Feeds, "mark", made)


def _sides_lost() -> Any:
    """A hub tells nobody of side entries."""

    def made(real: Any) -> Any:
        def mark(self: Any, conn: Connection, touched: Any, changes: Any) -> None:
            real(self, conn, [one for one in touched if not _only_sides(one)], changes)

        return mark

    return _swap(feeds.Feeds, "mark", made)


def _only_sides(one: Any) -> bool:
    return bool(one.new) and all(entry.header is not None and entry.header.type in SIDE_TYPES for *_, entry in one.new)


def _cursor_early() -> Any:
    """The cursor is moved before the page that it stands for is applied."""

    def made(real: Any) -> Any:
        async def pull_page(self: Any) -> Any:
            ask = self.line.ask

            async def early(name: str, message: Any, kind: Any, *rest: Any) -> Any:
                reply = await ask(name, message, kind, *rest)
                if name == "pull":
                    at = reply.cursors
                    await self.line.node.write(lambda conn, _: logs.set_cursor(conn, "cases", at.incarnation, at.cases))
                return reply

            with mock.patch.object(self.line, "ask", early):
                return await real(self)

        return pull_page

    return _swap(pulling.Pulling, "_pull_page", made)


# --- others


def _opens_twice() -> Any:
    """An event that was taken in before is taken in again."""
    return _swap(desk, "_repeated", lambda _: lambda _desk: None)


def _stamps_by_clock() -> Any:
    """A hub's receive times follow its clock, also backwards."""
    return _everywhere("received_at", lambda _: lambda node, _conn: node.clock.wall_ms(), (intake, carrying))


def _no_reread() -> Any:
    """A node signs what it has in memory, and the disk changes a bit meanwhile."""
    draw = random.Random(4)

    def made(real: Any) -> Any:
        def seal(self: Any, conn: Connection) -> Any:
            row = self.own_row(conn)
            if draw.random() < 0.02 and self._sealed is not None and self._sealed.range.size < row.size:
                place = (row.id, row.size - 1)
                (raw,) = conn.execute("SELECT raw FROM entries WHERE log = ? AND idx = ?", place).fetchone()
                conn.execute("UPDATE entries SET raw = ? WHERE log = ? AND idx = ?", (_flipped(raw), *place))
                leaves = logs.leaves_between(conn, row.id, 0, row.size)
                logs.save_log(conn, row.id, merkle.CompactRange(0, ()).append_many(leaves))
            return real(self, conn)

        return seal

    return _swap(ledger.Ledger, "seal", made)


def _flipped(raw: bytes) -> bytes:
    """Change one bit of the claimed time, so that the header still reads well."""
    header = decode_header(raw)
    return encode_header(msgspec.structs.replace(header, claimed_at=header.claimed_at ^ 1))


def _any_body() -> Any:
    """A body is kept without a look at its hash."""
    return _everywhere("fits", lambda _: lambda reference, _body, _salt: reference is not None, (log, projection))


def _gap_in_seals() -> Any:
    """A unit that sealed and then failed leaves a run without a checkpoint (found here, and mended)."""

    def made(real: Any) -> Any:
        def go_back(self: Any, mark: Any) -> Any:
            now = self._sealed
            answer = real(self, mark)
            if now is not None and self._sealed is not None:
                self._sealed.range = now.range
            return answer

        return go_back

    return _swap(ledger.Ledger, "go_back", made)


MUTANTS: Final = (
    Mutant("acknowledge_before_commit", "I1", _acknowledge_before_commit, CALM),
    Mutant("saved_before_commit", "I2", _saved_before_commit, CALM),
    Mutant("half_a_unit_is_kept", "I2 I3", _half_kept, KILLS),
    Mutant("commits_are_not_synced", "I1 I2", _not_synced, Swarm(power_cuts=20.0, torn=0.5)),
    Mutant("receipt_for_more_than_held", "I1", _receipt_for_more, CALM),
    Mutant("acknowledged_when_sent", "I1", _ack_before_answer, KILLS),
    Mutant("incarnation_ignored", "I2 I4", _ignore_incarnation, RESTORES),
    Mutant("nothing_is_restated", "I2", _restates_nothing, RESTORES),
    Mutant("a_longer_copy_is_ours", "I1", _longer_is_ours, RESTORES),
    Mutant("a_receipt_of_another_history", "I1", _other_history, replace(RESTORES, rules=4.0, clocks_wrong=1.0), 30),
    Mutant("custody_not_checked", "I5 I6", _skip_epoch, ROGUES),
    Mutant("take_without_offer", "I5 I6", _take_without_offer, ROGUES),
    Mutant("judged_under_the_newest_rules", "I3 I6", _newest_rules, replace(CALM, rules=2.0, cuts=4.0)),
    Mutant("feed_rows_outside_the_transaction", "I3", _feed_outside, KILLS),
    Mutant("side_entries_lost_at_a_hub", "I3", _sides_lost, CALM),
    Mutant("cursor_saved_early", "I3", _cursor_early, KILLS),
    Mutant("an_event_is_taken_in_twice", "I2", _opens_twice, KILLS),
    Mutant("receive_times_by_the_clock", "I7", _stamps_by_clock, Swarm(clock_jumps=30.0)),
    Mutant("signed_without_reading_again", "I6", _no_reread, CALM),
    Mutant("a_body_without_its_hash", "I6", _any_body, Swarm(liar="false_body")),
    Mutant("a_seal_lost_with_a_failed_unit", "liveness", _gap_in_seals, replace(RESTORES, traps=1.0, crash_share=0.002), 30),
)
NAMES: Final = tuple(one.name for one in MUTANTS)


def seeds_needed(mutant: Mutant, seeds: int | None = None) -> tuple[int, str]:
    """Return after how many seeds a mutant was found, and what told; (0, "") when it was not.

    A seed that fails without the bug too tells nothing of it, and is passed over.
    """
    for seed in range(seeds or mutant.seeds):
        with mutant.patch():
            tells = _violation(seed, mutant.fate)
        if tells and not _violation_without(seed, mutant.fate):
            return seed + 1, tells
    return 0, ""


def _violation(seed: int, fate: Swarm) -> str:
    """Return what a seed breaks, or ""."""
    try:
        course.simulate(seed, SMALL, fate)
    except course.Violation as found:
        return str(found).splitlines()[0]
    except TongbanError as found:
        return f"{type(found).__name__}: {found}"
    return ""


_violation_without = cache(_violation)  # of the program as it is


def main(argv: Sequence[str] | None = None) -> int:
    """Look for each mutant; returns 1 when one lives."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, help="another budget")
    wish = parser.parse_args(argv)
    alive = []
    for mutant in MUTANTS:
        if wish.names and mutant.name not in wish.names:
            continue
        begun = time.monotonic()
        with table.quiet(True):
            needed, tells = seeds_needed(mutant, wish.seeds)
        if not needed:
            alive.append(mutant.name)
        outcome = f"found by seed {needed} of {wish.seeds or mutant.seeds}: {tells}" if needed else "NOT FOUND"
        table.say(f"{mutant.name:36} {time.monotonic() - begun:6.1f} s  {outcome[:150]}")
    table.say(f"NOT FOUND: {alive}" if alive else "all found")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
