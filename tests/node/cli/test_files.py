"""Files that a command names are read whole, bounded, and named when something is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from node.cli import files
from node.command import COMMAND_BYTES_MAX
from protocol.errors import InputError, InputProblems

ITEM = """
[[items]]
code = "A-1"
version = 1
name = "老年证"
owner = "650102000000"
kind = 1
receive = ["650102000000/*"]
decide = ["650102000000"]
limits = { promised_days = 0, statutory_days = 5 }
"""


def test_a_material_may_have_a_file(tmp_path: Path) -> None:
    """The node gets hash, size and type; the name is what stands before the first equals sign."""
    file = tmp_path / "a=b.PDF"
    file.write_bytes(b"scan")
    first, second = files.read_materials(["身份证", f"照片={file}"])
    assert first == {"name": "身份证"}
    assert second == {
        "name": "照片",
        "file": {
            "name": "a=b.PDF",
            "sha256": hashlib.sha256(b"scan").hexdigest(),
            "bytes": 4,
            "type": "application/pdf",
        },
    }


def test_a_packed_file_is_hashed_as_it_is(tmp_path: Path) -> None:
    """What the applicant gave is not unpacked."""
    (tmp_path / "x.gz").write_bytes(b"not even packed")
    (found,) = files.read_materials([f"x={tmp_path / 'x.gz'}"])
    assert found["file"]["sha256"] == hashlib.sha256(b"not even packed").hexdigest()


@pytest.mark.parametrize("text", ["", "=x", " =x", "x="])
def test_a_material_has_a_name(text: str) -> None:
    """Another form is refused with the one that is wanted."""
    with pytest.raises(InputError, match="NAME=FILE"):
        files.read_materials([text])


def test_a_material_is_named_once() -> None:
    """The second paper of one name would be lost."""
    with pytest.raises(InputError, match="twice"):
        files.read_materials(["x", "x"])


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, a folder, empty, or too large: the file is named."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(b"xxxx")
    monkeypatch.setattr(files, "MATERIAL_BYTES_MAX", 3)
    for name, words in (("none", "cannot be read"), ("", "cannot be read"), ("empty", "empty"), ("large", "larger")):
        with pytest.raises(InputError, match=words) as caught:
            files.read_materials([f"x={tmp_path / name}"])
        assert str(tmp_path / name) in caught.value.message


def test_a_catalogue_is_read_and_checked(tmp_path: Path) -> None:
    """Good items come out as plain values; every fault of a bad file is told with item and field."""
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('format = "tongban-catalogue/1"\n' + ITEM, encoding="utf-8")
    (item,) = files.read_catalogue(good)
    assert item["code"] == "A-1"
    bad.write_text(
        'format = "tongban-catalogue/1"\n' + ITEM.replace("kind = 1", "kind = 3").replace("version = 1", "versio = 1"),
        encoding="utf-8",
    )
    with pytest.raises(InputProblems) as caught:
        files.read_catalogue(bad)
    assert str(bad) in caught.value.message
    assert len(caught.value.problems) == 3
    assert all("A-1" in problem for problem in caught.value.problems)


def test_a_large_catalogue_goes_in_parts() -> None:
    """Each part fits into one command, and nothing is lost or doubled."""
    items = [{"code": f"A-{n}", "note": "x" * 4_000} for n in range(400)]
    parts = list(files.in_parts(items))
    assert len(parts) > 2
    assert [item for part in parts for item in part] == items
    assert all(len(msgspec.json.encode(part)) < COMMAND_BYTES_MAX * 3 // 4 for part in parts)


def test_answers_to_parts_add_up() -> None:
    """Lists and counts are put together; of the rest the last one stands."""
    parts = [{"published": [1], "count": 1, "dry_run": False}, {"published": [2], "count": 1, "dry_run": False}]
    assert files.merged(parts) == {"published": [1, 2], "count": 2, "dry_run": False}
    assert files.merged([{"a": 1}]) == {"a": 1}
