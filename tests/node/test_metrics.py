"""Numbers for Prometheus: the text format, the names, and what they count."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from node import health, metrics, pulse, scrub, tls
from node.ballast import Room, Sizes
from node.metrics import Family, Sample
from node.node import Node
from node.office import Act
from node.pulse import Pulse
from node.store import logs
from node.transport import HttpsTransport
from node.uplink import Settings, Uplink
from protocol import codec
from tests.node.building import (
    ACT,
    CITY,
    EAST,
    HOUR_MS,
    ID_NUMBER,
    START_MS,
    ask,
    carry,
    enrol,
    found,
    furnish,
    hire,
    opened,
    size_of,
)

LINE = re.compile(r'(tongban_[a-z_]+)(\{[a-z_]+="(?:[^"\\\n]|\\.)*"(?:,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})? (-?[0-9.e+]+)')


def numbers(text: str) -> dict[str, float]:
    """Parse the text format; every line has one of the known forms."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith(("# HELP tongban_", "# TYPE tongban_")):
            continue
        match = LINE.fullmatch(line)
        assert match, line
        found[match[1] + (match[2] or "")] = float(match[3])
    return found


async def collected(node: Node) -> dict[str, float]:
    text = await node.read(lambda conn: metrics.render(metrics.of_store(node, conn)))
    return numbers(text)


def test_the_text_is_as_prometheus_reads_it() -> None:
    """HELP and TYPE once a family, then its samples; what is not known is left out."""
    families = [
        metrics.gauge("free_bytes", "Free.", 12),
        metrics.gauge("unknown", "Nobody knows.", None),
        metrics.counter("refused_total", "Refused.", [Sample(3, (("code", "gap"),)), Sample(1.5, (("code", 'a"b\\c\n'),))]),
    ]
    assert metrics.render(families) == (
        "# HELP tongban_free_bytes Free.\n"
        "# TYPE tongban_free_bytes gauge\n"
        "tongban_free_bytes 12\n"
        "# HELP tongban_refused_total Refused.\n"
        "# TYPE tongban_refused_total counter\n"
        'tongban_refused_total{code="gap"} 3\n'
        'tongban_refused_total{code="a\\"b\\\\c\\n"} 1.5\n'
    )


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 60), 1 << 60))
def test_no_value_breaks_a_line(label: str, value: float) -> None:
    """Whatever a label holds, a sample is one line that can be read again."""
    label = label.replace("\r", "")
    text = metrics.render([Family("x", "gauge", "X.", (Sample(value, (("node", label),)),))])
    body = text.split("\n", 2)[2]
    assert body.count("\n") == 1
    assert body.endswith(f"}} {value!r}\n") or float(body.rsplit(" ", 1)[1]) == value


async def test_a_root_counts_what_it_holds(tmp_path: Path) -> None:
    """Own log, entries, cases, rules, disk; nothing is pending where nobody is above."""
    city = await furnish(await found(tmp_path / "city"))
    shown = await collected(city)
    assert shown["tongban_log_entries"] == await size_of(city)
    assert shown["tongban_register"] == city.rules.number
    assert shown["tongban_cases_waiting"] == 0
    assert shown["tongban_store_bytes"] > shown["tongban_store_wal_bytes"] >= 0
    assert shown["tongban_disk_free_bytes"] > 0
    assert any(name.startswith(f'tongban_build_info{{node="{CITY}",program="tongban/') for name in shown)
    assert not any("pending" in name for name in shown)


async def test_what_is_not_safe_above_is_counted_and_has_an_age(tmp_path: Path) -> None:
    """Pending entries, the age of the oldest, what was acknowledged, when the parent was heard."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    await opened(east)
    size = await size_of(east)
    east.clock.at_ms += 3 * HOUR_MS  # type: ignore[attr-defined] # the virtual clock
    shown = await collected(east)
    assert (shown["tongban_pending_entries"], shown["tongban_acked_entries"]) == (size, 0)
    assert shown["tongban_pending_age_seconds"] == 3 * 3_600
    assert "tongban_parent_contact_timestamp_seconds" not in shown
    past = Act(ACT.officer, ACT.window, at_ms=east.clock.wall_ms() - 90 * 24 * HOUR_MS)
    await east.write(lambda conn, _: logs.save_ack(conn, east.ledger.own_row(conn).id, size))
    await ask(east, "case.open", past, item="permit", applicant="李四", id_number=ID_NUMBER)
    shown = await collected(east)  # recorded afterwards: its claim does not say how long it waits
    assert (shown["tongban_pending_entries"], shown["tongban_pending_age_seconds"]) == (1, 0)
    size += 1
    log = await east.read(lambda conn: east.ledger.own_row(conn).id)
    await east.write(lambda conn, _: logs.save_ack(conn, log, size))
    await east.write(lambda conn, _: logs.set_meta(conn, "last_contact", str(START_MS).encode()))
    shown = await collected(east)
    assert (shown["tongban_pending_entries"], shown["tongban_pending_age_seconds"]) == (0, 0)
    assert shown["tongban_acked_entries"] == size
    assert shown["tongban_parent_contact_timestamp_seconds"] == START_MS / 1_000
    await carry(east, city)
    assert (await collected(city))["tongban_cases"] == 2


async def test_no_person_is_in_the_numbers(tmp_path: Path) -> None:
    """Names and numbers of people, and case keys, stay in the store (P01)."""
    city = await hire(await furnish(await found(tmp_path / "city")))
    number = await opened(city)
    text = await city.read(lambda conn: metrics.render(metrics.of_store(city, conn)))
    for canary in (ID_NUMBER, "1001", "王伟", number):
        assert canary not in text
    assert text.isascii()


async def test_a_disk_that_refuses_work_shows(tmp_path: Path) -> None:
    """While the ballast is off, `disk_full` is 1, whatever is free by now; the ballast counts as room."""
    city = await found(tmp_path / "city")
    assert (await collected(city))["tongban_disk_full"] == 0
    city.room = Room(tmp_path / "city" / "tongban.sqlite3", Sizes(ballast=1 << 20))
    city.room.look()
    (tmp_path / "city" / "tongban.sqlite3.wal").unlink(missing_ok=True)
    before = (await city.read(lambda conn: pulse.look(city, conn))).reserve_bytes
    assert before == Sizes().reserve - (1 << 20)
    city.room.full = True
    assert (await collected(city))["tongban_disk_full"] == 1
    ready = await health.ready(city, Pulse(city.clock.monotonic_s(), city.clock.monotonic_s()))
    assert ready.shown() == {"ready": False, "checks": {"store": "ok", "disk": "full"}}


async def test_the_line_to_the_parent_is_described(tmp_path: Path) -> None:
    """Whether a session stands, and how far the clocks are apart; nothing at the root."""
    east = await enrol(tmp_path / "east", await found(tmp_path / "city"), EAST)
    uplink = Uplink(east, HttpsTransport(), Settings())
    uplink.line.skew_ms = -1_500
    shown = numbers(await east.read(lambda conn: metrics.render(metrics.of_uplink(uplink, conn))))
    assert shown == {"tongban_parent_connected": 0, "tongban_clock_skew_seconds": -1.5}
    assert await east.read(lambda conn: metrics.render(metrics.of_uplink(None, conn))) == ""


async def test_the_certificate_has_an_end(tmp_path: Path) -> None:
    """Days for which the connection's certificate is dated: thousands of years, as `node.tls` makes it."""
    city = await found(tmp_path / "city")
    der = tls.ensure_certificate(tmp_path / "node.pem", CITY)
    text = await city.read(lambda conn: metrics.render(metrics.of_certificate(tls.ends_at_s(der), city, conn)))
    assert numbers(text)["tongban_certificate_days_left"] > 2_000_000


async def test_the_care_of_the_store_is_described(tmp_path: Path) -> None:
    """When all of it was last read again, and what is damaged; no time before the first scrub."""
    city = await found(tmp_path / "city")
    shown = await collected(city)
    assert (shown["tongban_damaged_places"], "tongban_scrub_timestamp_seconds" in shown) == (0, False)
    await city.write(lambda conn, _: logs.set_meta(conn, scrub.DONE, str(START_MS).encode()))
    await city.write(lambda conn, _: logs.set_meta(conn, scrub.DAMAGED, codec.encode([["entry", CITY, b"", 1]])))
    shown = await collected(city)
    assert (shown["tongban_damaged_places"], shown["tongban_scrub_timestamp_seconds"]) == (1, START_MS / 1_000)


async def test_the_process_is_described(tmp_path: Path) -> None:
    """Since when it runs, its clock, its memory."""
    city = await found(tmp_path / "city")
    began_s = city.clock.monotonic_s() - 90.0
    shown = numbers(metrics.render(metrics.of_process(city, began_s)))
    assert shown["tongban_uptime_seconds"] == 90.0
    assert shown["tongban_clock_seconds"] == START_MS / 1_000
    assert shown["tongban_resident_memory_bytes"] > 5 << 20
