"""Commands on the node itself: what is typed wrong, and files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell import give


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("officer", "add"), "ID"),
        (("officer", "add", "A1"), "--name"),
        (("officer", "retire"), "ID"),
        (("catalogue", "publish"), "FILE"),
        (("calendar", "publish"), "FILE"),
        (("export",), "--entries"),
        (("status", "x"), "x"),
        (("verify", "--all"), "--all"),
    ],
)
def test_wrong_words_are_named(args: tuple[str, ...], named: str) -> None:
    """Exit 2, and what is wrong is in the error."""
    done = give(*args, "--json")
    assert (done.code, done.error["code"]) == (2, "input")
    assert named in done.error["message"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no such file"]),
        (b"\xff\xfe\x00", ["UTF-16"]),
        (b"format = ", ["TOML"]),
        (b'format = "tongban-{kind}/2"', ["format"]),
        (b'format = "tongban-{kind}/1"\nfoo = 1', ["foo", "unknown key"]),
    ],
)
@pytest.mark.parametrize("kind", ["catalogue", "calendar"])
@pytest.mark.parametrize("dry", [True, False])
def test_bad_files_are_refused_before_a_node_is_asked(
    kind: str, dry: bool, content: bytes | None, words: list[str], tmp_path: Path
) -> None:
    """Exit 2, with the file and every fault; no folder is needed to hear that."""
    file = tmp_path / "输入.toml"
    if content is not None:
        file.write_bytes(content.replace(b"{kind}", kind.encode()))
    done = give(kind, "publish", file, *(["--dry-run"] if dry else []), "--json")
    assert done.code == 2
    assert str(file) in done.error["message"]
    assert [word for word in words if word not in done.error["message"]] == []
