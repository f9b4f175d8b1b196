"""Every bound is a number, is kept somewhere, and is what the protocol document says."""

from __future__ import annotations

import re

from protocol import limits
from tests.sources import ROOT

BOUNDS = {name: value for name, value in vars(limits).items() if name.isupper()}


def test_bounds_are_positive_numbers_named_with_their_unit() -> None:
    """The unit stands in the name, last or before MAX."""
    for name, value in BOUNDS.items():
        assert isinstance(value, int)
        assert value > 0
        assert name.endswith(("_MAX", "_MIN", "_MS", "_ENTRIES")), name


def test_every_bound_is_kept_somewhere() -> None:
    """A bound that no code reads bounds nothing."""
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("protocol", "node", "hub")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "limits.py"
    )
    unused = [name for name in BOUNDS if not re.search(rf"\b{name}\b", code)]
    assert unused == []


def test_bounds_fit_one_another() -> None:
    """What one bound allows, another does not forbid."""
    assert limits.HEADER_BYTES_MAX + limits.BODY_BYTES_MAX < limits.MESSAGE_BYTES_MAX
    assert limits.LINKS_MAX * 2 * 18 < limits.HEADER_BYTES_MAX
    assert limits.INCARNATIONS_MAX * 60 < limits.HEADER_BYTES_MAX
    assert limits.SET_ENTRIES <= limits.SET_ENTRIES_MAX == 1 << 10
    assert limits.LOG_SIZE_MAX < 1 << 63  # fits a database's integer
    assert limits.TIME_MS_MAX < 1 << 63


def test_the_protocol_document_states_the_bounds() -> None:
    """The table in docs/PROTOCOL.md is this module."""
    text = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([0-9,]+) \|", text, re.MULTILINE))
    stated = {name: int(value.replace(",", "")) for name, value in rows.items()}
    assert {name: stated.get(name) for name in stated} == {name: BOUNDS[name] for name in stated}
    assert {"MESSAGE_BYTES_MAX", "HEADER_BYTES_MAX", "BODY_BYTES_MAX", "LINKS_MAX", "SET_ENTRIES_MAX"} <= stated.keys()
