"""What a service is told, and what it cannot be told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.service.plan import Plan
from protocol.errors import InputError

PLAN = Plan("tongban", ("/opt/tongban/bin/tongban",), "/srv/通办 一号", "tongban")


def test_the_command_names_the_folder() -> None:
    """The service runs the node of one folder."""
    assert PLAN.command == ("/opt/tongban/bin/tongban", "--data", "/srv/通办 一号", "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a/b"},
        {"name": "../x"},
        {"name": "-x"},
        {"name": "x" * 62},
        {"user": ""},
        {"user": "a\nExecStart=/bin/sh"},
        {"user": 'a"b'},
        {"user": "a%b"},
        {"folder": "/srv/a\nUser=root"},
        {"folder": '/srv/a"b'},
        {"program": ("/opt/x\r",)},
    ],
)
def test_nothing_typed_becomes_a_setting_of_its_own(changes: dict[str, object]) -> None:
    """A line end or a quotation mark in a name, account or path is refused, and so is a name that leads elsewhere."""
    with pytest.raises(InputError):
        replace(PLAN, **changes)  # type: ignore[arg-type] # wrong on purpose
