"""Commands on cases: what is typed wrong is refused before any node is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell import give

OPEN = ("open", "--item", "A", "--applicant", "张三", "--id-number", "1")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("open",), "--item"),
        (OPEN[:3], "--applicant"),
        (OPEN[:5], "--id-number"),
        ((*OPEN, "--handler", "6501"), "--handler"),
        ((*OPEN, "--field", "k"), "--field"),
        ((*OPEN, "--field", "k=1", "--field", "k=2"), "--field"),
        ((*OPEN, "k"), "--field"),
        (("accept",), "CASE"),
        (("accept", "X", "Y"), "Y"),
        (("refuse", "X", "--reason", "r"), "--kind"),
        (("refuse", "X", "--kind", "6", "--reason", "r"), "--kind"),
        (("refuse", "X", "--kind", "4"), "--reason"),
        (("notice", "X"), "--missing"),
        (("supplement", "X"), "--material"),
        (("supplement", "X", "--material", "=f"), "--material"),
        (("supplement", "X", "--material", "n=/no/such/file"), "/no/such/file"),
        (("dispatch", "X"), "STAGE"),
        (("dispatch", "X", "S", "--to", "T"), "--to"),
        (("dispatch", "X", "S", "--to", "T=6501"), "6501"),
        (("task", "X", "T"), "--result"),
        (("task", "X", "T", "--result", "maybe"), "--result"),
        (("suspend", "X", "--reason", "r"), "--kind"),
        (("extend", "X", "--reason", "r"), "--days"),
        (("extend", "X", "--days", "0", "--reason", "r"), "--days"),
        (("extend", "X", "--days", "5001", "--reason", "r"), "--days"),
        (("extend", "X", "--days", "1.5", "--reason", "r"), "--days"),
        (("decide", "X", "--result", "grant"), "--reason"),
        (("decide", "X", "--result", "yes", "--reason", "r"), "--result"),
        (("revoke", "X"), "--reason"),
        (("deliver", "X"), "--how"),
        (("deliver", "X", "--how", "drone"), "--how"),
        (("withdraw", "X"), "--reason"),
        (("correct", "X", "--reason", "r"), "K=V"),
        (("correct", "X", "k=v"), "--reason"),
        (("correct", "X", "k", "--reason", "r"), "K=V"),
        (("note", "X"), "TEXT"),
        (("offer", "X", "--to", "nowhere"), "--to"),
        (("return", "X"), "--reason"),
        (("reclaim", "X"), "--reason"),
        (("list", "--state", "lost"), "--state"),
        (("list", "--holder", "1"), "--holder"),
        (("list", "--limit", "0"), "--limit"),
        (("show", "X", "--as-of", "20261121"), "--as-of"),
        (("show", "X", "--as-of", "2026-02-30"), "--as-of"),
    ],
)
def test_wrong_words_are_named(args: tuple[str, ...], named: str, tmp_path: Path) -> None:
    """Exit 2, one JSON error, and the option or argument that is wrong is in it; nothing is created."""
    done = give("case", *args, "--json", "--data", tmp_path / "node")
    assert (done.code, done.error["code"]) == (2, "input")
    assert named in done.error["message"]
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize(
    "args",
    [
        OPEN,
        (*OPEN, "--field", "a=1", "--field", "b=2=3", "--handler", "650103000000-rsj"),
        (*OPEN, "--field", "a=1", "b=2"),
        ("notice", "X", "--missing", "A", "--missing", "B"),
        ("notice", "X", "--missing", "A", "B"),
        ("dispatch", "X", "S"),
        ("dispatch", "X", "S", "--to", "T=650103000000", "--to", "U=650103000000-rsj/一科"),
        ("supplement", "X", "--material", "A", "--material", "B"),
        ("correct", "X", "a=1", "b=2", "--reason", "r"),
        ("deliver", "X", "--how", "post", "--tracking", "1"),
        ("reclaim", "X", "--after", "ab", "--reason", "r"),
        (
            "list",
            "--state",
            "suspended",
            "--holder",
            "650103000000",
            "--item",
            "A",
            "--find",
            "张",
            "--limit",
            "5",
            "--after",
            "ab",
        ),
        ("show", "X", "--as-of", "2026-11-21"),
    ],
)
def test_right_words_get_as_far_as_the_folder(args: tuple[str, ...], tmp_path: Path) -> None:
    """All forms of the contract are taken; here no node lives in the folder."""
    done = give("case", *args, "--json", "--data", tmp_path / "node")
    assert done.error["message"].endswith("no node here")
