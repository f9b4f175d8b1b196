"""The example alert rules ask for numbers that exist, and each says what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from hub import metrics as hub_metrics
from hub.app import Hub
from node import backup, diskspace, metrics, scrub, tls
from node.diskspace import DAY_MS, GROWTH
from node.store import logs
from node.transport import HttpsTransport
from node.uplink import Settings, Uplink
from tests.hub.calling import CERTIFICATE, Caller
from tests.node.building import CITY, EAST, EAST_VILLAGE, START_MS, carry, enrol, found, furnish, hire
from tests.sources import ROOT

RULES: Final = (ROOT / "configs" / "prometheus-alerts.yml").read_text(encoding="utf-8")
GUIDE: Final = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8")


async def test_every_number_that_is_asked_for_exists(tmp_path: Path) -> None:
    """A name in the rules or in the guide is one that a hub with a parent and a child really shows; and the guide explains each."""
    city = await furnish(await found(tmp_path / "city"))
    east = await hire(await enrol(tmp_path / "east", city, EAST))
    hub = Hub(city, CERTIFICATE)
    caller = Caller(east, hub)
    await caller.login()
    await caller.push()
    await caller.refused("push", b"nonsense", "decode")
    shown = ""
    for node in (city, east):
        space = await node.read(diskspace.measure)
        facts = {
            GROWTH: f"[[{node.clock.wall_ms() - 10 * DAY_MS}, {space.store_bytes - 4_096}]]",
            scrub.DONE: str(START_MS),
            "last_contact": str(START_MS),
            backup.LAST: str(START_MS),
        }
        for name, value in facts.items():
            await node.write(lambda conn, _, name=name, value=value: logs.set_meta(conn, name, value.encode()))  # type: ignore[misc]
        shown += await node.read(lambda conn, node=node: metrics.render(metrics.of_store(node, conn)))  # type: ignore[misc]
    await carry(city, east)
    log = await east.read(lambda conn: east.ledger.own_row(conn).id)
    rows = [(log, hub_id, 1, START_MS, 1) for hub_id in (CITY, EAST_VILLAGE)]
    await east.write(lambda conn, _: logs.save_receipts(conn, rows))
    uplink = Uplink(east, HttpsTransport(), Settings())
    ends_at_s = tls.ends_at_s(tls.ensure_certificate(tmp_path / "node.pem", EAST))
    shown += await city.read(lambda conn: metrics.render(hub_metrics.of_hub(hub, conn)))
    shown += await east.read(lambda conn: metrics.render(metrics.of_store(east, conn)))
    shown += await east.read(lambda conn: metrics.render(metrics.of_uplink(uplink, conn)))
    shown += await east.read(lambda conn: metrics.render(metrics.of_certificate(ends_at_s, east, conn)))
    shown += metrics.render(metrics.of_process(east, 0.0))
    names = set(re.findall(r"^# TYPE (\S+)", shown, re.MULTILINE))
    assert set(re.findall(r"tongban_[a-z_]+", RULES)) <= names
    assert set(re.findall(r"`(tongban_[a-z_]+)", GUIDE)) == names


def test_each_rule_is_whole() -> None:
    """A name of its own, an expression, a severity that somebody is called for, and a sentence."""
    rules = RULES.split("      - alert: ")[1:]
    names = [rule.split("\n", 1)[0] for rule in rules]
    assert len(set(names)) == len(names) > 10
    for rule in rules:
        assert re.search(r"^        expr: \S", rule, re.MULTILINE), rule
        assert re.search(r"^        labels: \{severity: (critical|warning)\}$", rule, re.MULTILINE), rule
        assert re.search(r'^          summary: "[^"]+"$', rule, re.MULTILINE), rule
    assert "\t" not in RULES
