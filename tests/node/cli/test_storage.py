"""Backup, restore and scrub as people give them: beside a running node or without one, with words and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.folder import Folder
from tests.shell import Done, give

PHRASE = "correct horse battery"


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """A root's folder, and a file with a passphrase beside it."""
    data = tmp_path / "city"
    assert give("init", "--division", "650100000000", "--name", "市", "--listen", "127.0.0.1:0", data=data).code == 0
    (tmp_path / "phrase").write_text(PHRASE + "\n", encoding="utf-8")
    return data


def backed_up(city: Path, *args: object) -> Done:
    return give("backup", city.parent / "a.backup", *args, "--json", data=city)


def test_a_backup_goes_back_into_an_empty_folder_with_its_keys(city: Path, tmp_path: Path) -> None:
    """With keys and settings in it, the backup alone makes the node anew; in words it says what to do next."""
    done = backed_up(city, "--with-key", "--passphrase-file", tmp_path / "phrase")
    assert (done.code, done.value["with_key"]) == (0, True)
    new = tmp_path / "new"
    told = give("restore", tmp_path / "a.backup", "--passphrase-file", tmp_path / "phrase", data=new)
    assert told.code == 0
    assert "650100000000" in told.out.decode()
    assert give("verify", data=new).code == 0
    assert Folder(new).load_seed("signing") == Folder(city).load_seed("signing")
    assert Folder(new).config.read_bytes() == Folder(city).config.read_bytes()


def test_a_backup_without_keys_says_so(city: Path, tmp_path: Path) -> None:
    """The words name what is missing; restoring it where no key is, is refused with both ways out."""
    told = give("backup", tmp_path / "a.backup", data=city)
    assert "keys/" in told.out.decode()
    refused = give("restore", tmp_path / "a.backup", "--json", data=tmp_path / "new")
    assert (refused.code, refused.error["code"]) == (2, "input")
    assert "join" in refused.error["hint"]


def test_a_living_store_is_not_given_up(city: Path, tmp_path: Path) -> None:
    """Restoring over it is refused; with --replace it is kept aside and named."""
    backed_up(city)
    assert give("restore", tmp_path / "a.backup", "--json", data=city).code == 2
    done = give("restore", tmp_path / "a.backup", "--replace", "--json", data=city)
    assert Path(done.value["kept_aside"]).exists()
    assert "aside-" in give("restore", tmp_path / "a.backup", "--replace", data=city).out.decode()


@pytest.mark.parametrize("content", ["", "short", None])
def test_a_passphrase_is_asked_for_properly(content: str | None, city: Path, tmp_path: Path) -> None:
    """Empty, too short, or no file: refused before anything is written."""
    if content is None:
        (tmp_path / "phrase").unlink()
    else:
        (tmp_path / "phrase").write_text(content, encoding="utf-8")
    assert backed_up(city, "--with-key", "--passphrase-file", tmp_path / "phrase").code == 2
    assert not list(tmp_path.glob("a.backup*"))


def test_a_damaged_store_says_what_to_do(city: Path) -> None:
    """Every command names the damage and the way out, and changes nothing."""
    Folder(city).store.write_bytes(b"")
    done = give("status", "--json", data=city)
    assert (done.code, done.error["code"], done.error["data_safe"]) == (1, "store_damaged", False)
    assert "restore" in done.error["hint"]
    assert Folder(city).store.read_bytes() == b""


def test_scrub_says_whether_all_holds(city: Path) -> None:
    """Exit 0 when it does; at a root damage stays and is named, with exit 1."""
    import sqlite3

    assert give("scrub", data=city).code == 0
    conn = sqlite3.connect(Folder(city).store)
    with conn:
        conn.execute("UPDATE logs SET root = zeroblob(32), peaks = zeroblob(length(peaks))")
    conn.close()
    done = give("scrub", "--json", data=city)
    assert (done.code, bool(done.value["problems"])) == (1, True)


def test_a_node_with_a_key_alone_is_vouched_for_by_itself_or_another(city: Path, tmp_path: Path) -> None:
    """A living store is not given up unasked, in words and by exit code; the options say what belongs together."""
    done = give("vouch", "650100000000", tmp_path / "chain", "--json", data=city)
    assert (done.code, done.value) == (0, {"node": "650100000000", "file": str(tmp_path / "chain")})
    assert give("vouch", "650199000000", tmp_path / "none", "--json", data=city).error["code"] == "not_found"
    assert not (tmp_path / "none").exists()
    refused = give("restore", tmp_path / "chain", "--without-store", "--json", data=city)
    assert (refused.code, "--replace" in refused.error["hint"]) == (2, True)
    with Folder(city).locked():
        assert give("restore", tmp_path / "chain", "--without-store", "--replace", data=city).code == 3
    done = give("restore", tmp_path / "chain", "--without-store", "--replace", "--json", data=city)
    assert (done.code, Path(done.value["kept_aside"]).exists()) == (0, True)
    for wrong in (("restore",), ("restore", tmp_path / "chain", "--parent", "127.0.0.1:7")):
        assert give(*wrong, "--json", data=city).code == 2
