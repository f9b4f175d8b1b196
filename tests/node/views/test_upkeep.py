"""What an administrator is shown of disk, rules and line."""

from __future__ import annotations

from pathlib import Path

from node import diskspace
from node.cli.answers import in_words
from node.diskspace import GROWTH
from node.store import logs
from node.views.upkeep import LAST_CONTACT, SKEW, STALE_S
from tests.node.building import DAY_MS, EAST, HOUR_MS, START_MS, ask, enrol, found, furnish


async def test_rules_age_with_the_parents_silence(tmp_path: Path) -> None:
    """Fresh as of the last contact; after a week without one they are called old, in words too; nothing is refused."""
    east = await enrol(tmp_path / "east", await found(tmp_path / "city"), EAST)
    await east.write(lambda conn, _: logs.set_meta(conn, LAST_CONTACT, str(START_MS).encode()))
    east.clock.at_ms = START_MS + 3 * HOUR_MS  # type: ignore[attr-defined] # the virtual clock
    shown = await ask(east, "status")
    assert shown["contact_age_s"] == 3 * 3_600
    assert shown["rules"] == {"as_of": "2025-11-25T10:00:00.000+08:00", "age_s": 3 * 3_600, "stale": False, "unknown": 0, "waiting": 0}
    assert "最近一次联系上级：3 小时前" in in_words("status", shown, "zh")
    assert "可能已有变化" not in in_words("status", shown, "zh")
    east.clock.at_ms = START_MS + STALE_S * 1_000 + 1_000  # type: ignore[attr-defined]
    shown = await ask(east, "status")
    assert shown["rules"]["stale"] is True
    assert "事项和权限是 7 天前的，可能已有变化；照常受理" in in_words("status", shown, "zh")
    assert (await ask(east, "officer.add", id="1001", name="张三"))["safety"] == "here"


async def test_the_roots_rules_are_never_old(tmp_path: Path) -> None:
    """Whoever numbers the rules has the newest."""
    city = await furnish(await found(tmp_path / "city"))
    city.clock.at_ms += 400 * DAY_MS  # type: ignore[attr-defined] # the virtual clock
    shown = await ask(city, "status")
    assert (shown["contact_age_s"], shown["rules"]["age_s"], shown["rules"]["stale"]) == (None, 0, False)
    assert "联系上级" not in in_words("status", shown, "zh")


async def test_a_node_that_never_met_its_parent_counts_from_its_newest_register(tmp_path: Path) -> None:
    """What came with the enrolment is as old as the root's last word in it."""
    east = await enrol(tmp_path / "east", await found(tmp_path / "city"), EAST)
    shown = await ask(east, "status")
    assert shown["contact_age_s"] is None
    assert shown["rules"]["as_of"].startswith("2025-11-25")
    assert "最近一次联系上级：从未" in in_words("status", shown, "zh")


async def test_rules_of_a_newer_program_are_counted(tmp_path: Path) -> None:
    """A rule that this program does not know has no effect here, and somebody is told to update it."""
    city = await furnish(await found(tmp_path / "city"))
    city.rules.voids[bytes(32)] = "unknown_type"
    shown = await ask(city, "status")
    assert shown["rules"]["unknown"] == 1
    assert "有 1 条规则本程序不认识，请升级程序" in in_words("status", shown, "zh")


async def test_the_disk_is_told_in_days(tmp_path: Path) -> None:
    """Free space, growth and how long it lasts; a warning line below thirty days."""
    city = await found(tmp_path / "city")
    shown = await ask(city, "status")
    assert (shown["disk"]["bytes_a_day"], shown["disk"]["days_left"]) == (None, None)
    words = in_words("status", shown, "zh")
    assert "磁盘可用" in words
    space = await city.read(diskspace.measure)
    begun = f"[[{START_MS - 10 * DAY_MS}, {space.store_bytes - 10 * 4_096}]]".encode()
    await city.write(lambda conn, _: logs.set_meta(conn, GROWTH, begun))
    shown = await ask(city, "status")
    assert shown["disk"]["bytes_a_day"] >= 4_096
    assert shown["disk"]["days_left"] > 0
    tight = {**shown, "disk": {**shown["disk"], "days_left": 12.4, "low": True}}
    assert "磁盘约 12 天后用完，请尽快腾出空间" in in_words("status", tight, "zh")
    assert "disk lasts about 12 days" in in_words("status", tight, "en")
    full = {**shown, "disk": {**shown["disk"], "days_left": 0.0, "low": True}}
    assert "磁盘已用到保留空间" in in_words("status", full, "zh")


async def test_a_clock_that_is_off_is_told_to_people(tmp_path: Path) -> None:
    """As of the last meeting, with its direction, beyond five minutes; never at the root, nor before the first meeting."""
    city = await found(tmp_path / "city")
    east = await enrol(tmp_path / "east", city, EAST)
    assert [(await ask(node, "status"))["clock_skew_s"] for node in (city, east)] == [None, None]
    for skew_ms, told in (
        (300_000, None),
        (301_000, "本机时钟比上级快 5 分钟，请核对两边时钟"),
        (-2 * HOUR_MS, "本机时钟比上级慢 2 小时，请核对两边时钟"),
        (40 * DAY_MS, "本机时钟比上级快 40 天，请核对两边时钟"),
    ):
        await east.write(lambda conn, _, skew_ms=skew_ms: logs.set_meta(conn, SKEW, str(skew_ms).encode()))  # type: ignore[misc]
        shown = await ask(east, "status")
        assert shown["clock_skew_s"] == skew_ms / 1_000
        words = in_words("status", shown, "zh")
        assert (told in words) if told else ("时钟" not in words)
