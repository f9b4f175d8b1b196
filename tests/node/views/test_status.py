"""How a node stands."""

from __future__ import annotations

from pathlib import Path

from node.store import logs
from node.store.database import Connection
from node.views.status import LAST_CONTACT
from tests.node.building import CITY, EAST, HOUR_MS, START_MS, ask, carry, enrol, found, furnish, hire, opened, size_of


async def test_a_root_says_who_it_is(tmp_path: Path) -> None:
    """Identity, store, basis and log size; nothing is pending at the root."""
    city = await furnish(await found(tmp_path / "city"))
    shown = await ask(city, "status")
    assert (shown["node"], shown["parent"], shown["pending"]) == (CITY, None, 0)
    assert shown["network"] == city.ledger.identity.network.hex()
    assert shown["log_size"] == await size_of(city)
    assert shown["basis"] == {"number": city.rules.number, "hash": city.rules.basis[1].hex()}
    assert shown["acked"] == {"parent": None, "second": None}
    assert shown["store"]["schema"] == 1


async def test_what_the_parent_has_not_acknowledged_is_pending(tmp_path: Path) -> None:
    """Own entries count until the parent's acknowledgement covers them; receipts say what is safe above."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    await opened(east)
    size = await size_of(east)
    assert (await ask(east, "status"))["pending"] == size

    def acknowledge(conn: Connection) -> None:
        row = east.ledger.own_row(conn)
        logs.save_ack(conn, row.id, size - 1)
        logs.save_receipts(conn, [(row.id, CITY, size - 1, START_MS, 1)])
        logs.set_meta(conn, LAST_CONTACT, str(START_MS).encode())

    await east.write(lambda conn, _: acknowledge(conn))
    shown = await ask(east, "status")
    assert (shown["pending"], shown["safety"]) == (1, "here")
    assert shown["acked"]["parent"] == {"node": CITY, "size": size - 1, "at": "2025-11-25T10:00:00.000+08:00"}
    assert shown["last_contact"] == "2025-11-25T10:00:00.000+08:00"


async def test_a_hub_lists_its_children(tmp_path: Path) -> None:
    """Each child with what is held of its log and how long it was silent."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    (child,) = (await ask(city, "status"))["children"]
    assert (child["node"], child["log_size"], child["last_contact"]) == (EAST, 0, None)
    await carry(east, city)
    await city.write(lambda conn, _: conn.execute("INSERT INTO contacts (node, at) VALUES (?, ?)", (EAST, START_MS)))
    city.clock.at_ms += HOUR_MS  # type: ignore[attr-defined] # the virtual clock
    (child,) = (await ask(city, "status"))["children"]
    assert (child["log_size"], child["lag_s"]) == (await size_of(east), 3_600)


async def test_old_rules_are_told_by_age_and_stop_nothing(tmp_path: Path) -> None:
    """After three months without the parent `status` says how old they are; taking in, handing over and a new key go on."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    basis = (await ask(east, "status"))["basis"]
    east.clock.at_ms += 90 * 24 * HOUR_MS  # type: ignore[attr-defined] # the virtual clock
    case = await opened(east)
    await ask(east, "case.accept", case=case)
    shown = await ask(east, "status")
    assert shown["basis"] == basis
    assert shown["rules"]["age_s"] >= 89 * 24 * 3_600
    assert shown["rules"]["stale"]
