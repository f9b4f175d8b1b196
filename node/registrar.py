"""The root's part: give all rules one order.

In the transaction in which rule entries arrive (or are stated by the root itself), a `register` entry takes them in.
At every other node nothing happens here: its rules wait for the root.
"""

from __future__ import annotations

from typing import Final

from node import faults
from node.ledger import Changes, Draft, Ledger
from node.rulebook import is_behind, take_register
from node.store import facts, logs
from node.store.database import Connection
from protocol import register
from protocol.log import decode_header

UNHEARD: Final = "unheard"  # in meta of a restored root: its children may hold registers that it lost; until it ran and heard them
FACTS_PER_REGISTER: Final = 400  # each from another log, at worst: so a register's body stays within its bound
REGISTER_BYTES: Final = 192 << 10  # of its facts: a register, its facts and their paths travel in one message


def take_in(ledger: Ledger, conn: Connection, changes: Changes, claimed_at: int) -> None:
    """Number the rule entries that no register has taken in yet; the root only.

    Args:
        claimed_at: the clock, ms since the epoch.
    """
    if ledger.identity.node != ledger.rules.root:
        return
    upset: set[str] = set()
    while waiting := facts.unregistered(conn, FACTS_PER_REGISTER, REGISTER_BYTES):
        if _is_unsure(ledger, conn):
            break  # a child may show registers that this store has lost (`hub.restoring`)
        behind = {leaf for leaf, _ in waiting if is_behind(conn, ledger.rules, leaf)}
        facts.set_aside(conn, sorted(behind))  # kept and shown, never numbered: a key that was replaced or revoked signed them
        standing = [one for one in waiting if one[0] not in behind]
        if standing:
            upset |= _write_register(ledger, conn, changes, claimed_at, standing)
    if upset:
        ledger.fold_again(conn, changes, upset)


def go_on(ledger: Ledger, conn: Connection, changes: Changes, claimed_at: int) -> None:
    """Number what waited at a root that has heard its children: one unit of work."""
    logs.drop_meta(conn, UNHEARD)
    take_in(ledger, conn, changes, claimed_at)


def _is_unsure(ledger: Ledger, conn: Connection) -> bool:
    """Tell whether a number that is free here may have been given: just started, or restored and never run since."""
    return logs.get_meta(conn, UNHEARD) is not None if ledger.is_unsure is None else ledger.is_unsure(conn)


def admit_own(ledger: Ledger, conn: Connection, changes: Changes, claimed_at: int) -> None:
    """Nobody stands above the root: it admits its own new incarnation, once. `take_in` numbers that as any rule."""
    own = ledger.identity.log
    if own.node != ledger.rules.root:
        return
    older = [row for row in logs.logs_of(conn, [own.node]) if row.log != own and not row.branch]
    if older and own.incarnation not in _admitted(ledger, conn):
        sizes = [[row.log.incarnation, row.size] for row in older]
        fields = {"node": own.node, "incarnation": own.incarnation, "sizes": sizes}
        ledger.append(conn, [Draft("node.admit", claimed_at, fields)], changes)


def _admitted(ledger: Ledger, conn: Connection) -> set[object]:
    """Return the root's incarnations that were admitted, by a register or by what waits for one."""
    headers = [fact.header for fact in facts.unregistered_facts(conn)]
    waiting = {header.fields["incarnation"] for header in headers if header.type == "node.admit" and header.fields["node"] == header.node}
    return waiting | {one.incarnation for one in ledger.rules.admissions.get(ledger.identity.node, ())}


def _write_register(
    ledger: Ledger, conn: Connection, changes: Changes, claimed_at: int, waiting: list[tuple[bytes, int]]
) -> set[str]:
    """State one register; returns the nodes of whose entries it changed the order or the cut."""
    rows = [logs.load_log(conn, log_id) for log_id in sorted({log_id for _, log_id in waiting})]
    body = {
        "logs": [[[row.log.node, row.log.incarnation], row.size, row.root] for row in rows],
        "facts": [leaf for leaf, _ in waiting],
    }
    fields = {"number": ledger.rules.number + 1, "before": ledger.rules.registers[-1].leaf}
    (placed,) = ledger.append(conn, [Draft("register", claimed_at, fields, body)], changes)
    stored = logs.entry_by_id(conn, placed.id)
    faults.point("registrar.numbered")
    changes.rules = True
    return take_register(
        conn, ledger.rules, placed.id, register.read_register(placed.leaf, decode_header(stored.raw), stored.body or b"")
    )
