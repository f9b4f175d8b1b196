"""Commands on keys: what is typed wrong, and what they do on a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell import give

ROOT = "650100000000"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("key", "rotate", "x"), "x"),
        (("revoke",), "NODE"),
        (("revoke", ROOT), "--reason"),
        (("revoke", ROOT, "--before", "gestern", "--reason", "x"), "gestern"),
        (("retire", ROOT), "--reason"),
        (("case", "adopt", "x"), "ENTRY"),
        (("invite", ROOT), "--name"),
    ],
)
def test_wrong_words_are_named(args: tuple[str, ...], named: str) -> None:
    """Exit 2, and what is wrong is in the error."""
    done = give(*args, "--json")
    assert (done.code, done.error["code"]) == (2, "input")
    assert named in done.error["message"]


def test_a_root_rotates_its_key_on_the_disk(tmp_path: Path) -> None:
    """Without anybody above it the old private key is destroyed at once; the node goes on with the new one."""
    data = tmp_path / "city"
    founded = give("init", "--division", ROOT, "--name", "市", "--listen", "127.0.0.1:0", "--json", data=data).value
    before = give("key", "show", "--json", data=data).value
    assert before["fingerprint"] == founded["root_fingerprint"]
    done = give("key", "rotate", "--json", data=data)
    assert (done.code, done.value["before"], done.value["kept"]) == (0, before["fingerprint"], False)
    assert sorted(path.name for path in (data / "keys").iterdir()) == ["sealing-2.seed", "sealing.seed", "signing-2.seed"]
    shown = give("key", "show", "--json", data=data).value
    assert [(one["state"], one["private"]) for one in shown["keys"]] == [("replaced", False), ("present", True)]
    assert give("verify", "--json", data=data).value["problems"] == []
    assert give("revoke", ROOT, "--reason", "x", data=data).code == 1


def test_a_node_moves_by_command(tmp_path: Path) -> None:
    """Out into a file, in from it; the old folder is read only from then on."""
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "move.tbm"
    phrase = tmp_path / "passphrase.txt"
    phrase.write_text("马到成功 乌鲁木齐 2026\n", encoding="utf-8")
    give("init", "--division", ROOT, "--name", "市", "--listen", "127.0.0.1:0", "--json", data=old)
    done = give("move", "out", file, "--passphrase-file", phrase, "--json", data=old)
    assert (done.code, done.value["unsent"], file.stat().st_size) == (0, 0, done.value["bytes"])
    refused = give("officer", "add", "1001", "--name", "张三", "--json", data=old)
    assert (refused.code, refused.error["code"]) == (1, "retired")
    assert give("move", "in", file, "--passphrase-file", phrase, "--json", data=new).value["node"] == ROOT
    assert give("officer", "add", "1001", "--name", "张三", data=new).code == 0
    same = [give("key", "show", "--json", data=data).value["fingerprint"] for data in (old, new)]
    assert same[0] == same[1]
