"""Answers in words say what the JSON says."""

from __future__ import annotations

import io
import sys

import pytest

from node.cli.answers import in_words, rows_in_words

CASE = "650102001001-20261121-00012X"
SHOWN = {
    "case": CASE,
    "state": "decided",
    "holder": "650103000000",
    "delivered": True,
    "recorded_afterwards": False,
    "due": {"date": "2026-12-01", "provisional": True, "basis": "x"},
    "timeline": [
        {
            "type": "open",
            "node": "650102001001",
            "officer": "A1",
            "claimed_at": "2026-11-21T09:30:00.000+08:00",
            "effect": "applied",
        },
        {
            "type": "from_a_newer_node",
            "node": "650103000000",
            "officer": None,
            "claimed_at": "2026-11-22T09:30:00.000+08:00",
            "effect": "waiting",
            "reason": "newer_program",
        },
    ],
}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("case.accept", {"case": CASE, "key": "ab", "safety": "parent"}, ["受理", CASE, "上级已收妥"]),
        ("case.open", {"case": CASE, "key": "ab", "safety": "here"}, ["收件", "已保存在本机"]),
        (
            "show",
            SHOWN,
            [CASE, "已决定", "已送达", "2026-12-01", "暂定", "A1", "收件", "有效", "from_a_newer_node", "等待"],
        ),
        ("verify", {"entries": 12, "problems": []}, ["12", "没有问题"]),
        (
            "verify",
            {"entries": 12, "problems": [{"kind": "root", "index": 3, "detail": "differs"}]},
            ["1 个问题", "root 3 differs"],
        ),
        ("rebuild", {"cases": 7, "different": 0}, ["7", "一致"]),
        ("rebuild", {"cases": 7, "different": ["ab"]}, ["1", "不同"]),
        ("sync", {"acked": 3, "pulled": 4, "pending": 0}, ["3", "4"]),
        (
            "init",
            {"node": "650100000000", "network": "ab", "root_fingerprint": "cd", "recovery": ["ef"]},
            ["ab", "cd", "ef", "抄写"],
        ),
        (
            "invite",
            {"node": "x", "code": "TB1-ABC", "expires": "2026-11-28T00:00:00.000+08:00"},
            ["join", "TB1-ABC", "2026-11-28"],
        ),
        ("join", {"node": "650102000000", "parent": "650100000000"}, ["650102000000", "650100000000"]),
        (
            "key.show",
            {"node": "650100000000", "fingerprint": "ab", "keys": [{"fingerprint": "ab", "state": "present"}]},
            ["650100000000  ab", "present"],
        ),
        ("key.rotate", {"node": "650100000000", "fingerprint": "ab", "kept": True}, ["650100000000", "ab", "旧密钥留在本机"]),
        ("recover", {"node": "650100000000", "fingerprint": "ab"}, ["650100000000", "ab"]),
        (
            "revoke",
            {"node": "650102000000", "fingerprint": "ab", "without_effect": 3, "cuts": [{"trusted": 7, "held": 10}]},
            ["已吊销", "650102000000", "ab", "3 条", "7", "10"],
        ),
        ("revoke", {"node": "650102000000", "fingerprint": "ab", "dry_run": True}, ["试算", "0 条"]),
        ("retire", {"node": "650102000000", "open_cases": [{"case": "C-1"}]}, ["650102000000", "1 件", "C-1"]),
        ("move.out", {"file": "/a/b", "unsent": 2}, ["/a/b", "只读", "2 条"]),
        ("move.in", {"node": "650102000000"}, ["650102000000"]),
        ("officer.add", {"id": "A1", "posts": ["收件", "受理"]}, ["A1", "收件, 受理"]),
        (
            "status",
            {
                "node": "650102000000",
                "pending": 2,
                "acked": {"parent": {"size": 5, "at": "2026-11-21T09:30:00.000+08:00"}, "second": None},
                "children": [
                    {"node": "650102001000", "log_size": 4, "lag_entries": 1, "lag_s": 0, "last_contact": None}
                ],
            },
            ["650102000000", "2 条待上报", "2026-11-21T09:30:00", "650102001000"],
        ),
        ("status", {"node": "650102000000", "lost": [{"count": 2}, {"count": 5}]}, ["7 条", "旧副本"]),
        ("replay", {"events": 5}, ["events: 5"]),
        ("note", "text", ["text"]),
    ],
)
def test_each_answer_is_said_in_words(name: str, value: object, words: list[str]) -> None:
    """What matters in the value is in the lines."""
    shown = in_words(name, value, "zh")
    assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize("name", ["init", "invite", "join", "sync", "verify", "rebuild", "show", "status", "key.show", "key.rotate", "recover", "revoke", "retire", "move.out", "move.in"])
def test_an_answer_of_a_newer_node_is_shown_all_the_same(name: str) -> None:
    """Missing fields are no failure: the command was done."""
    assert isinstance(in_words(name, {"new": 1}, "en"), str)


@pytest.mark.parametrize(("encoding", "drawn"), [("utf-8", True), ("cp936", False), ("ascii", False)])
def test_a_code_is_drawn_where_the_console_can(encoding: str, drawn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Escapes in place of blocks would be no picture; the code in letters is always there."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    shown = in_words("invite", {"code": "TB1-ABC", "expires": ""}, "zh")
    assert "TB1-ABC" in shown
    assert ("\u2588" in shown) == drawn


def test_tables_leave_empty_columns_out() -> None:
    """A list of officers without posts has no such column."""
    assert rows_in_words(
        [{"id": "A1", "posts": []}, {"id": "A2", "posts": [], "until": "2026-01-01"}], "en"
    ).split() == [
        *("id", "until"),
        *("A1",),
        *("A2", "2026-01-01"),
    ]
