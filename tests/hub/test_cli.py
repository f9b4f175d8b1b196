"""The whole command line on real folders and real processes: set-up, a case from hand to hand, and every way to fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest

from hub.cli import main
from node.folder import ApiPlace, Folder
from tests.shell import give, run, started
from tests.sources import ROOT
from tools import cli_reference

pytestmark = pytest.mark.processes

ROOT_NODE = "650100000000"
DISTRICT = "650103000000"
ID_NUMBER = "650102199003072510"
CATALOGUE = f"""
format = "tongban-catalogue/1"
[[items]]
code = "A-1"
version = 1
name = "老年证"
owner = "{ROOT_NODE}"
kind = 2
receive = ["{ROOT_NODE}/*"]
decide = ["{ROOT_NODE}/*"]
limits = {{ promised_days = 3, statutory_days = 5 }}
materials = [{{ name = "身份证", required = true }}]
stages = [{{ name = "审核", tasks = [{{ name = "初审" }}, {{ name = "复审" }}] }}]
"""
CALENDAR = """
format = "tongban-calendar/1"
region = "650000000000"
version = 1
name = "新疆"
valid_from = "2026-01-01"
valid_through = "2026-12-31"
weekday_off = ["2026-01-01"]
weekend_work = []
"""
TIME = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}\+08:00"


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """A new network's root, with one officer and one item."""
    data = tmp_path / "city"
    (tmp_path / "catalogue.toml").write_text(CATALOGUE, encoding="gbk")
    done = give("init", "--division", ROOT_NODE, "--name", "乌鲁木齐", "--listen", "127.0.0.1:0", "--json", data=data)
    assert (done.code, set(done.value)) == (0, {"node", "network", "root_fingerprint", "recovery"})
    assert give("officer", "add", "1001", "--name", "张三", "--post", "受理", data=data).code == 0
    assert give("catalogue", "publish", tmp_path / "catalogue.toml", data=data).code == 0
    return data


@contextmanager
def running(data: Path) -> Iterator[dict[str, Any]]:
    """Run the node; it is told to stop at the end and must do so in time."""
    with started("run", data=data) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield {**ready, "process": process}
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)
            assert process.returncode == 0


def case(data: Path, *args: object) -> dict[str, Any]:
    """Give a writing command on a case; it must be done."""
    done = give("case", *args, "--officer", "1001", "--window", "3", "--json", data=data)
    assert done.code == 0, done.out
    found: dict[str, Any] = done.value
    assert {"case", "key", "log", "safety"} <= set(found)
    assert set(found["log"]) == {"node", "incarnation", "index"}
    assert found["safety"] in {"here", "parent", "second"}
    return found


def opened(data: Path, applicant: str = "王小明") -> str:
    args = ("open", "--item", "A-1", "--applicant", applicant, "--id-number", ID_NUMBER)
    return str(case(data, *args, "--field", "住址=和平路 1 号")["case"])


def story(data: Path, tmp_path: Path) -> dict[str, Any]:
    """Take a case through every step that one node can do; return its page."""
    (tmp_path / "scan.pdf").write_bytes(b"scan")
    number = opened(data)
    case(data, "notice", number, "--missing", "身份证", "照片")
    case(data, "supplement", number, "--material", f"身份证={tmp_path / 'scan.pdf'}", "照片")
    case(data, "accept", number)
    case(data, "dispatch", number, "审核", "--to", f"初审={ROOT_NODE}/一科", "--to", f"复审={ROOT_NODE}")
    case(data, "task", number, "初审", "--result", "pass")
    case(data, "task", number, "复审", "--result", "pass")
    case(data, "suspend", number, "--kind", "听证", "--reason", "听证")
    case(data, "resume", number)
    case(data, "extend", number, "--days", 3, "--reason", "材料多")
    case(data, "note", number, "已电话通知")
    case(data, "correct", number, "住址=和平路 2 号", "--reason", "笔误")
    case(data, "decide", number, "--result", "grant", "--reason", "符合条件")
    case(data, "finish", number)
    case(data, "deliver", number, "--how", "post", "--tracking", "SF1")
    page: dict[str, Any] = give("case", "show", number, "--json", data=data).value
    return page


STEPS = [
    *("open", "notice", "supplement", "accept", "dispatch", "task", "task", "suspend", "resume", "extend", "note"),
    *("correct", "decide", "finish", "deliver"),
]


@pytest.mark.parametrize("live", [False, True])
def test_a_case_goes_through_every_step(live: bool, city: Path, tmp_path: Path) -> None:
    """Every command of the contract is done and shown, the same on the store and through the running node."""
    if live:
        with running(city):
            page = story(city, tmp_path)
    else:
        page = story(city, tmp_path)
    assert sorted(step["type"] for step in page["timeline"]) == sorted(STEPS)
    assert {step["effect"] for step in page["timeline"]} == {"applied"}
    assert {step["officer"] for step in page["timeline"]} == {"1001"}
    assert (page["state"], page["state_code"], page["delivered"]) == ("finished", 11, True)
    assert {"case", "key", "holder", "epoch", "parties", "due", "tasks", "recorded_afterwards", "digest"} <= set(page)
    done = give("verify", "--json", data=city)
    assert (done.code, done.value["problems"]) == (0, [])
    done = give("rebuild", "--json", data=city)
    assert (done.code, done.value["cases"]) == (0, 1)
    rows = give("export", "--entries", data=city).rows
    assert sorted(row["type"] for row in rows) == sorted(STEPS)


def test_the_first_line_says_ready_and_a_signal_ends_it(city: Path) -> None:
    """One JSON line with who and where; SIGTERM drains, exit 0, and the address of the API is gone."""
    with running(city) as ready:
        assert (ready["ready"], ready["node"], ready["pid"]) == (True, ROOT_NODE, ready["process"].pid)
        assert ready["listen"].startswith("127.0.0.1:")
        assert not ready["listen"].endswith(":0")
        assert ready["web"].startswith("http://127.0.0.1:")
        assert Folder(city).load_api() is not None
    assert Folder(city).load_api() is None


def test_ctrl_c_ends_it_too(city: Path) -> None:
    """As a person at the terminal does it."""
    with running(city) as ready:
        ready["process"].send_signal(signal.SIGINT)
        ready["process"].communicate(timeout=10)
        assert ready["process"].returncode == 0


def test_a_second_process_on_the_folder_is_refused(city: Path) -> None:
    """Exit 3 with the reason; the first goes on."""
    with running(city):
        done = run("run", "--json", data=city)
        assert (done.code, done.error["code"], done.error["retryable"]) == (3, "store_busy", True)
        assert give("status", "--json", data=city).value["node"] == ROOT_NODE


def test_a_killed_node_leaves_an_address_that_nobody_believes(city: Path) -> None:
    """After kill -9 the commands work on the store, and the next start works."""
    with running(city) as ready:
        number = opened(city)
        ready["process"].kill()
        ready["process"].wait()
    assert Folder(city).load_api() is not None
    assert give("case", "show", number, "--json", data=city).value["case"] == number
    Folder(city).save_api(ApiPlace(1, "http://127.0.0.1:1", "x"))
    assert give("status", "--json", data=city).code == 0
    with running(city):
        assert give("case", "show", number, "--json", data=city).value["case"] == number


def test_commands_at_once_wait_for_each_other(city: Path) -> None:
    """Scripts may start several without a running node; each is done."""
    with ThreadPoolExecutor(4) as pool:
        args = ("case", "open", "--item", "A-1", "--id-number", ID_NUMBER, "--officer", "1001", "--json", "--applicant")
        done = list(pool.map(lambda name: run(*args, name, data=city), ["王一", "王二", "王三", "王四"]))
    assert [one.code for one in done] == [0, 0, 0, 0]
    assert len({one.value["case"] for one in done}) == 4


@pytest.mark.parametrize("live", [False, True])
def test_lists_are_one_object_a_line(live: bool, city: Path) -> None:
    """Filters and pages of the contract; in words a table."""
    numbers = [opened(city, name) for name in ("王一", "李二", "王三")]
    with running(city) if live else _nothing():
        rows = give("case", "list", "--json", data=city).rows
        assert [row["case"] for row in rows] == numbers[::-1]
        assert [row["case"] for row in give("case", "list", "--find", "王", "--json", data=city).rows] == [
            numbers[2],
            numbers[0],
        ]
        (row,) = give(
            "case", "list", "--limit", 1, "--after", rows[0]["key"], "--state", "received", "--json", data=city
        ).rows
        assert row["case"] == numbers[1]
        assert give("case", "list", "--state", "finished", "--json", data=city).out == b""
        for name in ("officer", "catalogue", "calendar"):
            done = give(name, "list", "--json", data=city)
            assert (done.code, len(done.rows)) == (0, 0 if name == "calendar" else 1)
        assert numbers[0] in give("case", "list", data=city).out.decode()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@pytest.mark.parametrize("live", [False, True])
def test_refusals_are_exit_1_and_change_nothing(live: bool, city: Path) -> None:
    """What cannot be done is said, with what to do."""
    number = opened(city)
    with running(city) if live else _nothing():
        for args in (
            ("finish", number),
            ("accept", "no-such-case"),
            ("take", number),
            ("task", number, "初审", "--result", "pass"),
        ):
            done = give("case", *args, "--officer", "1001", "--json", data=city)
            assert done.code == 1
            assert done.error["data_safe"] is True
            done = give("case", *args, "--officer", "1001", data=city)
            assert (done.code, done.out) == (1, b"")
        assert len(give("case", "show", number, "--json", data=city).value["timeline"]) == 1


def test_a_claimed_past_is_recorded_afterwards(city: Path) -> None:
    """--at stands before or after the command; times come back in +08:00 with ms."""
    assert give("officer", "add", "1002", "--name", "李四", "--at", "2026-05-01", data=city).code == 0
    words = ("--item", "A-1", "--applicant", "王", "--id-number", ID_NUMBER, "--officer", "1002", "--json")
    done = give("--at", "2026-05-06 09:30", "case", "open", *words, data=city)
    assert give("case", "accept", done.value["key"][:8], "--officer", "1002", "--json", data=city).code == 0
    page = give("case", "show", done.value["key"][:8], "--json", data=city).value
    assert page["recorded_afterwards"] is True
    assert page["timeline"][0]["claimed_at"] == "2026-05-06T09:30:00.000+08:00"
    assert re.fullmatch(TIME, page["timeline"][0]["legal_at"])
    day = give("case", "show", done.value["case"], "--as-of", "2026-05-07", "--json", data=city).value["due"]
    assert {"date", "provisional", "basis"} <= set(day)


def test_a_calendar_is_published_and_listed(city: Path, tmp_path: Path) -> None:
    """Checked first, then published; the same file again changes nothing."""
    file = tmp_path / "calendar.toml"
    file.write_text(CALENDAR, encoding="utf-8-sig")
    assert give("calendar", "publish", file, "--dry-run", "--json", data=city).value["dry_run"] is True
    assert give("calendar", "list", "--json", data=city).rows == []
    assert give("calendar", "publish", file, "--json", data=city).code == 0
    assert give("calendar", "publish", file, "--json", data=city).code == 0
    assert [row["region"] for row in give("calendar", "list", "--json", data=city).rows] == ["650000000000"]


def test_files_are_checked_without_any_node(tmp_path: Path) -> None:
    """--dry-run needs no folder."""
    (tmp_path / "catalogue.json").write_text("{}", encoding="utf-8")
    (tmp_path / "calendar.toml").write_text(CALENDAR, encoding="utf-8")
    assert give("calendar", "publish", tmp_path / "calendar.toml", "--dry-run", "--json").code == 0
    done = give("catalogue", "publish", tmp_path / "catalogue.json", "--dry-run", "--json")
    assert done.code == 2
    assert len(done.error["problems"]) == 2


def test_a_network_of_two(city: Path, tmp_path: Path) -> None:
    """Invite, join, sync; with the parent away, exit 3 and nothing lost."""
    district = tmp_path / "district"
    with running(city):
        invited = give("invite", DISTRICT, "--name", "沙依巴克区", "--json", data=city).value
        assert set(invited) == {"node", "parent", "code", "expires"}
    done = give("join", invited["code"], "--listen", "127.0.0.1:0", "--timeout-s", 1, "--json", data=district)
    assert (done.code, done.error["retryable"]) == (3, True)
    _same_port(city, invited["code"])
    with running(city):
        joined = give("join", invited["code"], "--listen", "127.0.0.1:0", "--json", data=district)
        assert joined.value == {"node": DISTRICT, "parent": ROOT_NODE, "network": joined.value["network"]}
        assert give("officer", "add", "2001", "--name", "李四", data=district).code == 0
        done = give("sync", "--json", data=district)
        assert (done.code, done.value["pending"]) == (0, 0)
        assert give("join", invited["code"], "--json", data=tmp_path / "third").error["code"] == "join_refused"
    done = give("sync", "--timeout-s", 1, "--json", data=district)
    assert (done.code, done.error["retryable"], done.error["data_safe"]) == (3, True, True)


def _same_port(data: Path, code: str) -> None:
    """Let the hub listen where its joining code says."""
    from protocol import joincode

    host, _, port = joincode.parse_code(code).addresses[0].rpartition(":")
    (data / "config.toml").write_text(f'[listen]\nhost = "{host}"\nport = {port}\n', encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("init", "--name", "x"), "--division"),
        (("init", "--division", "6501", "--name", "x"), "--division"),
        (("init", "--division", ROOT_NODE), "--name"),
        (("init", "--division", ROOT_NODE, "--name", "x", "--listen", "here"), "--listen"),
        (("init", "--division", ROOT_NODE, "--name", "x", "--listen", "h:65536"), "--listen"),
        (("init", "--division", ROOT_NODE, "--name", "x", "--advertise", "h:0"), "--advertise"),
        (("invite", "--name", "x"), "NODE"),
        (("invite", DISTRICT), "--name"),
        (("invite", DISTRICT, "--name", "x", "--expires-h", "0"), "--expires-h"),
        (("invite", DISTRICT, "--name", "x", "--parent", "up"), "--parent"),
        (("join",), "JOINCODE"),
        (("join", "x" * 5_000), "code"),
        (("run", "fast"), "fast"),
        (("replay", "log.jsonl"), "--map"),
        (("demo", "--seed", "-1"), "--seed"),
    ],
)
def test_wrong_words_are_named_and_nothing_is_made(args: tuple[str, ...], named: str, tmp_path: Path) -> None:
    """Exit 2; the folder is not created."""
    done = give(*args, "--json", data=tmp_path / "node")
    assert (done.code, done.error["code"]) == (2, "input")
    assert named in done.error["message"]
    assert not (tmp_path / "node").exists()


def test_a_folder_has_one_node(city: Path) -> None:
    """Founding a second network there is refused; the first stands."""
    before = give("status", "--json", data=city).value["network"]
    done = give("init", "--division", DISTRICT, "--name", "x", "--json", data=city)
    assert done.code == 2
    assert give("status", "--json", data=city).value["network"] == before


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_bad_configuration_is_named(command: str, city: Path) -> None:
    """File, line and key; exit 2."""
    (city / "config.toml").write_text("[listen]\nprot = 1\n", encoding="utf-8")
    done = give(command, "--json", data=city)
    assert (done.code, done.error["code"]) == (2, "input")
    assert "config.toml:2: [listen] prot" in done.error["message"]


@pytest.mark.parametrize("encoding", ["gbk", "ascii"])
def test_results_survive_any_console(encoding: str, city: Path) -> None:
    """On code page 936 and on none: JSON is UTF-8, words end well."""
    number = opened(city, "𠮷野家")
    environ = {"PYTHONIOENCODING": encoding}
    assert [row["applicant"] for row in run("case", "list", "--json", data=city, env=environ).rows] == ["𠮷野家"]
    for args in (("case", "list"), ("case", "show", number), ("status",), ("officer", "list"), ("verify",)):
        done = run(*args, data=city, env=environ)
        assert (done.code, done.err) == (0, b"")
        done.out.decode(encoding)


def test_the_reference_is_what_help_says() -> None:
    """docs/CLI.md follows from the program; `python -m tools.cli_reference` writes it."""
    assert cli_reference.FILE.read_text(encoding="utf-8") == cli_reference.reference()


def test_every_command_has_help() -> None:
    """One line in Chinese and in English, and every option of its own is explained."""
    for path, command in cli_reference.commands():
        about = command.get_short_help_str(200)
        assert "·" in about, path
        assert any("\u4e00" <= char <= "\u9fff" for char in about), path
        assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == [], path
    assert main.name == "tongban"


def test_the_console_script_is_this_program() -> None:
    """`tongban` and `python -m hub.cli` are one."""
    script = ROOT / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "tongban"
    if not script.with_suffix(".exe" if os.name == "nt" else "").exists():
        assert "hub.cli:main" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        return
    done = subprocess.run([str(script), "--json", "nonsense"], capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "input")
