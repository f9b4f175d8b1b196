"""Carrying by hand as people do it: two folders, a stick, and everything that may be wrong with a stick."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hub.cli import main
from node import carrying, faults, ledger
from node.cli import carry as cli_carry
from tests.node.building import ID_NUMBER
from tests.shell import Done, _environ, give, run, started
from tests.sticks import split

pytestmark = pytest.mark.processes

CITY, EAST = "650100000000", "650102000000"
CATALOGUE = f"""
format = "tongban-catalogue/1"
[[items]]
code = "A-1"
version = 1
name = "老年证"
owner = "{CITY}"
kind = 2
receive = ["{CITY}/*"]
decide = ["{CITY}/*"]
limits = {{ promised_days = 3, statutory_days = 5 }}
materials = [{{ name = "身份证", required = true }}]
stages = []
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A city and a station below it, enrolled over the line once; both stand still."""
    folder = tmp_path_factory.mktemp("network")
    city, east = folder / "city", folder / "east"
    (folder / "catalogue.toml").write_text(CATALOGUE, encoding="utf-8")
    assert give("init", "--division", CITY, "--name", "乌鲁木齐", "--listen", "127.0.0.1:0", data=city).code == 0
    assert give("officer", "add", "1001", "--name", "张三", data=city).code == 0
    assert give("catalogue", "publish", folder / "catalogue.toml", data=city).code == 0
    with started("run", data=city) as process:
        assert process.stdout is not None
        process.stdout.readline()
        code = give("invite", EAST, "--name", "天山区", "--json", data=city).value["code"]
        assert give("join", code, data=east).code == 0
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert give("officer", "add", "1001", "--name", "李四", data=east).code == 0
    return folder


@pytest.fixture
def place(network: Path, tmp_path: Path) -> Path:
    """A copy of the network, with an empty stick."""
    shutil.copytree(network, tmp_path, dirs_exist_ok=True)
    (tmp_path / "stick").mkdir()
    return tmp_path


def open_case(data: Path, applicant: str = "王小明") -> str:
    done = give("case", "open", "--item", "A-1", "--applicant", applicant, "--id-number", ID_NUMBER, "--officer", "1001", "--json", data=data)
    assert done.code == 0, done.out
    return str(done.value["case"])


def contents(data: Path) -> bytes:
    """Return what a folder holds, as an export and a status."""
    told = give("status", "--json", data=data).value
    return give("export", "--entries", data=data).out + json.dumps([told["log_size"], told["acked"], told["store"]["entries"]]).encode()


def test_a_case_goes_up_and_its_receipt_comes_back(place: Path) -> None:
    """Written and taken in by commands alone, nodes standing still; what is on the stick names nobody."""
    city, east, stick = place / "city", place / "east", place / "stick"
    case = open_case(east)
    told = give("carry", "out", stick, "--json", data=east).value
    (file,) = stick.iterdir()
    assert (told["file"], told["from"], told["to"], told["entries"]) == (str(file), EAST, CITY, 2)
    assert file.name.startswith(f"{EAST}-{CITY}-20")
    assert "王小明".encode() not in file.read_bytes()
    taken = give("carry", "in", file, "--json", data=city).value
    assert (taken["entries"], taken["stated"], taken["changed"]) == (2, 1, True)
    assert give("show", case, "--json", data=city).value["state"] == "received"
    back = stick / "back"
    assert give("carry", "out", "--to", EAST, back, data=city).code == 0
    words = give("carry", "in", back, data=east).out.decode()
    assert f"{CITY} 的收据" in words
    assert "2 条确认上级收妥" in words
    assert give("status", "--json", data=east).value["pending"] == 0
    for again, data in ((file, city), (back, east)):
        before = contents(data)
        assert "没有任何改动" in give("carry", "in", again, data=data).out.decode()
        assert "nothing has changed" in give("carry", "in", again, "--lang", "en", data=data).out.decode()
        assert contents(data) == before


def test_what_a_standing_hub_writes_is_told_too(place: Path) -> None:
    """A case is handed over and back with commands and sticks alone, while no node runs anywhere."""
    city, east, stick = place / "city", place / "east", place / "stick"
    case = open_case(east)

    def step(data: Path, name: str, *args: str) -> None:
        assert give("case", name, case, *args, "--officer", "1001", data=data).code == 0

    def bring(giver: Path, taker: Path, *args: str) -> None:
        assert give("carry", "out", *args, stick / "file", data=giver).code == 0
        assert give("carry", "in", stick / "file", data=taker).code == 0

    step(east, "offer", "--to", CITY)
    bring(east, city)
    step(city, "take")
    step(city, "accept")
    step(city, "offer", "--to", EAST)
    bring(city, east, "--to", EAST)
    step(east, "take")
    bring(east, city)
    pages = [give("show", case, "--json", data=data).value for data in (city, east)]
    assert [(page["state"], page["holder"]) for page in pages] == [("accepted", EAST)] * 2
    assert pages[0]["digest"] == pages[1]["digest"]


def test_new_keys_are_learnt_from_the_file(place: Path) -> None:
    """A node that replaced its keys without a line shows in its next file how it came to them; what was sealed for the old ones opens."""
    city, east, stick = place / "city", place / "east", place / "stick"
    open_case(east)
    assert give("carry", "out", "--to", EAST, stick / "old", data=city).code == 0
    assert give("key", "rotate", data=east).code == 0
    assert give("carry", "in", stick / "old", data=east).code == 0
    assert give("carry", "out", stick / "up", data=east).code == 0
    assert give("key", "rotate", data=city).code == 0
    taken = give("carry", "in", stick / "up", "--json", data=city)
    assert (taken.code, taken.value["stated"]) == (0, 1), taken.out
    assert give("carry", "out", "--to", EAST, stick / "down", data=city).code == 0
    back = give("carry", "in", stick / "down", "--json", data=east)
    assert (back.code, back.value["acked"] > 0) == (0, True), back.out
    assert give("status", "--json", data=east).value["pending"] == 0
    for data in (city, east):
        assert give("verify", "--json", data=data).value["problems"] == []


def test_a_running_node_takes_part(place: Path) -> None:
    """The same through the local API: the node packs and opens, the command reads and writes the stick."""
    city, east, stick = place / "city", place / "east", place / "stick"
    open_case(east)
    with started("run", data=city) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert run("carry", "out", stick / "up", data=east).code == 0
        assert give("carry", "in", stick / "up", "--json", data=city).value["entries"] == 2
        assert run("carry", "out", "--to", EAST, stick / "down", data=city).code == 0
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert give("carry", "in", stick / "down", "--json", data=east).value["acked"] == 2


def refused(data: Path, file: Path, code: str, exit_code: int = 1) -> str:
    """Take in what must be refused; nothing changes."""
    before = contents(data)
    done = give("carry", "in", file, "--json", data=data)
    assert (done.code, done.error["code"]) == (exit_code, code), done.out
    assert contents(data) == before
    return str(done.error["message"])


def test_what_is_wrong_with_a_file_is_said(place: Path) -> None:
    """Cut off, changed, of a later version, for somebody else, not there, no file of ours: an error each, and nothing changed."""
    city, east, file = place / "city", place / "east", place / "stick" / "up"
    open_case(east)
    assert give("carry", "out", file, data=east).code == 0
    whole = file.read_bytes()
    for end in (0, 5, 60, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:end])
        refused(city, file, "decode")
    file.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    said = refused(city, file, "decode")
    assert "1 pieces before that" in said
    file.write_bytes(whole[:13] + b"\x02" + whole[14:])
    refused(city, file, "version")
    file.write_bytes(whole)
    refused(east, file, "not_permitted")
    refused(city, place / "catalogue.toml", "decode")
    refused(city, place / "nothing", "input", 2)
    file.write_bytes(whole + whole[-200:])
    assert give("carry", "in", file, data=city).code == 1
    file.write_bytes(whole)
    assert give("carry", "in", file, "--json", data=city).value["entries"] == 2


def test_a_long_file_goes_in_several_commands(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of any length passes through commands of a bounded size, its pieces in their places."""
    monkeypatch.setattr(cli_carry, "BATCH_BYTES", 1)
    monkeypatch.setattr(carrying, "PIECE_BYTES", 400)
    monkeypatch.setattr(ledger, "SET_BYTES", 400)
    for number in range(4):
        open_case(place / "east", f"王{number}")
    told = give("carry", "out", place / "stick" / "up", "--json", data=place / "east").value
    taken = give("carry", "in", place / "stick" / "up", "--json", data=place / "city").value
    assert told["pieces"] == taken["pieces"] >= 5
    assert taken["entries"] == told["entries"]


def test_a_file_without_its_end_is_said_to_be_cut_off(place: Path) -> None:
    """Cut between two pieces nothing looks damaged: what is there is taken in and stays, and the message says so."""
    city, east, file = place / "city", place / "east", place / "stick" / "up"
    open_case(east)
    assert give("carry", "out", file, data=east).code == 0
    opening, pieces = split(file.read_bytes())
    file.write_bytes(opening + b"".join(len(piece).to_bytes(4, "big") + piece for piece in pieces[:-1]))
    done = give("carry", "in", file, "--json", data=city)
    assert (done.code, done.error["code"]) == (1, "decode")
    assert done.error["message"].endswith("cut off; 2 pieces before that with 2 new entries were taken in, and stay")
    assert give("status", "--json", data=city).value["children"][0]["log_size"] == 3


def killed_at(label: str) -> dict[str, str]:
    """Return what makes a process end at a step as if its power had failed."""
    return {"TONGBAN_FAULTS_ALLOWED": "1", faults.VARIABLE: f"{label}:1:kill"}


def test_a_process_killed_at_any_step_leaves_a_file_to_be_given_again(place: Path) -> None:
    """Switched off while it writes: no file under the name. Switched off while it takes in: the same file again does the rest."""
    city, east, stick = place / "city", place / "east", place / "stick"
    open_case(east)
    assert run("carry", "out", stick / "up", data=east, env=killed_at("folder.part_written")).code == faults.EXIT_KILLED
    assert not (stick / "up").exists()
    assert give("carry", "out", stick / "up", data=east).code == 0
    for label in ("carry.push_taken", "carry.piece_taken"):
        assert run("carry", "in", stick / "up", data=city, env=killed_at(label)).code == faults.EXIT_KILLED
    taken = give("carry", "in", stick / "up", "--json", data=city)
    assert (taken.code, taken.value["entries"] + taken.value["known"] >= 2) == (0, True)
    assert give("status", "--json", data=city).value["children"][0]["log_size"] == 3
    assert [path.name for path in stick.iterdir()] == ["up"]


def test_a_full_stick_leaves_no_half_file(place: Path) -> None:
    """A stick that takes only a part: an error that says so, the old file stands, nothing half under its name."""
    city, stick = place / "city", place / "stick"
    (stick / "down").write_bytes(b"the file of last week")
    with started("run", data=city) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = limited(1_000, "carry", "out", "--to", EAST, stick / "down", "--json", data=city)
        assert (done.code, done.error["code"]) == (1, "store")
        assert "cannot be written" in done.error["message"]
        assert [path.name for path in stick.iterdir()] == ["down"]
        assert (stick / "down").read_bytes() == b"the file of last week"
        assert run("carry", "out", "--to", EAST, stick / "down", data=city).code == 0
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert (stick / "down").stat().st_size > 1_000


def limited(size: int, *args: object, data: Path) -> Done:
    """Give a command in a process that may write no file larger than this."""
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit({resource.RLIMIT_FSIZE}, ({size}, {size})); "
        "sys.argv[0] = 'tongban'; from hub.cli import main; main()"
    )
    line = [sys.executable, "-c", program, *(str(arg) for arg in args)]
    done = subprocess.run(line, env=_environ(data, None), capture_output=True, check=False, timeout=60)
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_stick_that_is_gone_is_said(place: Path) -> None:
    """A folder that is not there is the stick's fault, and told so."""
    done = give("carry", "out", place / "gone" / "file", "--json", data=place / "east")
    assert (done.code, done.error["code"]) == (1, "store")


def test_help_names_both_ways() -> None:
    """Whoever looks for it finds it."""
    assert {"out", "in"} == set(main.commands["carry"].commands)  # type: ignore[attr-defined]
