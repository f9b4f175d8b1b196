"""What rule entries and registers say is read into values, or refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, facts, limits
from protocol.errors import DecodeError
from protocol.facts import RULE_TYPES, read_fields, read_register
from protocol.log import Header
from tests.protocol.network import CITY, EAST, Net, genesis_fields

KEY, LINK = b"k" * 32, b"l" * 16
GOOD: dict[str, dict[str, Any]] = {
    "network.genesis": genesis_fields(),
    "node.invite": {"node": EAST, "name": "东", "parent": CITY, "key": KEY, "expires": 1, "rights": ["enrol"], "again": True},
    "node.enrol": {
        "node": EAST,
        "invite": LINK,
        "key": KEY,
        "seal_key": KEY,
        "suite": 1,
        "challenge": KEY,
        "certificate": KEY,
        "proof": KEY + KEY,
    },
    "node.key": {
        "old": KEY,
        "key": KEY,
        "seal_key": KEY,
        "suite": 1,
        "closes": [[LINK, 3]],
        "by_old": KEY + KEY,
        "by_new": KEY + KEY,
    },
    "network.recovery": {
        "number": 1,
        "key": KEY,
        "seal_key": KEY,
        "suite": 1,
        "closes": [[LINK, 3]],
        "proof": KEY + KEY,
        "signatures": [[KEY, KEY + KEY]],
    },
    "node.address": {"addresses": ["10.0.0.1:9527"]},
    "node.retire": {"node": EAST},
    "node.admit": {"node": EAST, "incarnation": LINK, "sizes": [[LINK, 3]]},
    "node.revoke": {"node": EAST, "key": KEY, "cuts": [[LINK, 3, KEY]]},
    "rights.grant": {"to": f"{EAST}/*", "right": "receive", "items": ["a"], "valid_from": "2026-01-01", "valid_to": ""},
    "rights.end": {"grant": LINK},
    "catalogue.item": {"code": "a", "version": 1, "title": "A", "owner": EAST, "receive": [], "decide": []},
    "calendar.publish": {"region": CITY, "version": 1, "valid_from": "2026-01-01", "valid_through": "2026-12-31"},
}
OPTIONAL = {"again", "items", "valid_from", "valid_to"}


def header(type_: str, fields: dict[str, Any]) -> Header:
    return Header(1, 1, CITY, type_, None, None, 0, None, 0, None, None, None, None, (), (), fields)


def test_every_rule_type_is_read() -> None:
    """Each type's fields give a value; keys of a later program are passed over."""
    assert set(GOOD) == RULE_TYPES
    for type_, fields in GOOD.items():
        found = read_fields(header(type_, {**fields, "later": 1}))
        assert all(msgspec.to_builtins(getattr(found, name), builtin_types=(bytes,)) is not None for name in fields)


@pytest.mark.parametrize("type_", sorted(GOOD))
def test_a_missing_or_wrong_field_is_refused(type_: str) -> None:
    """Every field that a type asks for has to be there, in its type and bound."""
    for name in GOOD[type_]:
        rest = {key: value for key, value in GOOD[type_].items() if key != name}
        for changed in ([rest] if name not in OPTIONAL else []) + [
            {**rest, name: wrong} for wrong in (1.5, None, b"x", -1)
        ]:
            with pytest.raises(DecodeError):
                read_fields(header(type_, changed))


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_hostile_fields_are_refused_as_ours(type_: str, data: st.DataObject) -> None:
    """Whatever stands in a field, the answer is a value or DecodeError."""
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=40),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    )
    name = data.draw(st.sampled_from(sorted(GOOD[type_])))
    try:
        read_fields(header(type_, {**GOOD[type_], name: data.draw(anything)}))
    except DecodeError:
        return


def test_other_entries_state_no_rule() -> None:
    """A type outside the list is no rule."""
    with pytest.raises(DecodeError):
        read_fields(header("open", {}))


def test_lists_have_bounds() -> None:
    """Nobody fills a topology with one entry."""
    for type_, changes in (
        ("node.address", {"addresses": ["a:1"] * (limits.ADDRESSES_MAX + 1)}),
        ("node.admit", {"sizes": [[LINK, 1]] * (limits.INCARNATIONS_MAX + 1)}),
        ("network.genesis", {"recovery": [KEY] * (limits.RECOVERY_KEYS_MAX + 1)}),
        ("catalogue.item", {"receive": [EAST] * (limits.PATTERNS_MAX + 1)}),
    ):
        with pytest.raises(DecodeError):
            read_fields(header(type_, {**GOOD[type_], **changes}))


# --- registers


def test_a_register_is_read() -> None:
    """Number, chain, author and facts come from the root's entry."""
    net = Net()
    net.join(EAST, CITY)
    facts_ = list(net.waiting)
    stated = net.write_register(1, net.root.network, facts_)
    found = read_register(stated.leaf, stated.header, stated.entry.body or b"")
    assert (found.number, found.before, found.author) == (1, net.root.network, CITY)
    assert found.facts == tuple(fact.leaf for fact in facts_)


@pytest.mark.parametrize(
    "fields", [{}, {"number": 1}, {"number": 0}, {"number": True}, {"number": -1}, {"before": b""}, {"before": "x"}]
)
def test_a_register_without_number_or_chain_is_refused(fields: dict[str, Any]) -> None:
    """A number from 1 on, and 32 bytes of the one before."""
    body = codec.encode({"logs": [], "facts": []})
    good = {"number": 1, "before": b"b" * 32}
    assert read_register(b"l" * 32, header("register", good), body).number == 1
    wrong = {**good, **fields} if fields not in ({}, {"number": 1}) else fields
    with pytest.raises(DecodeError):
        read_register(b"l" * 32, header("register", wrong), body)
    with pytest.raises(DecodeError):
        read_register(b"l" * 32, header("receipt", good), body)


@given(st.binary(max_size=80))
def test_random_bytes_are_no_register(body: bytes) -> None:
    """The body of a register is read or refused, never anything else."""
    try:
        found = read_register(b"l" * 32, header("register", {"number": 1, "before": b"b" * 32}), body)
    except DecodeError:
        return
    assert all(len(leaf) == 32 for leaf in found.facts)


def test_join_message_binds_everything() -> None:
    """Node, both keys, challenge and certificate are under the seed's signature."""
    parts: list[Any] = [EAST, b"k", b"s", b"c", b"t"]
    messages = {facts.join_message(*parts)}
    for at, part in enumerate(parts):
        messages.add(facts.join_message(*parts[:at], part * 2, *parts[at + 1 :]))
    assert len(messages) == 6
