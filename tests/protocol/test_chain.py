"""The chain of keys from the pinned genesis down: it holds whole, or not at all."""

from __future__ import annotations

import msgspec
import pytest

from protocol.chain import CHAIN_BUNDLES_MAX, genesis_of, verify_chain
from protocol.errors import DecodeError, PeerError, ProofInvalid, SignatureInvalid, UnknownSigner
from protocol.log import Bundle, decode_checkpoint, encode_header, sign_checkpoint
from tests.protocol.network import (
    CITY,
    EAST,
    TOWN,
    VILLAGE,
    WEST,
    Log,
    Net,
    Stated,
    city,
    key_of,
    recovery_fields,
    rotation_fields,
    successor,
)


def chain_to(net: Net, node: str) -> list[Bundle]:
    """Return the chain as a hub shows it: the genesis, then each invitation and enrolment, one bundle an entry."""
    line = [*reversed(net.rules.now.ancestors(node)), node]
    found = [net.root.bundle([0])]
    for one in line[1:]:
        invite, enrolment = net.enrolments[one]
        found += [one_of(net, invite), one_of(net, enrolment)]
    return found


def one_of(net: Net, stated: Stated) -> Bundle:
    return net.logs[stated.header.node].bundle([stated.index])


def test_a_chain_makes_keys_known() -> None:
    """A machine with nothing but the network id knows every key on the way."""
    net = city()
    rules = verify_chain(net.root.network, chain_to(net, VILLAGE))
    for node in (CITY, EAST, TOWN, VILLAGE):
        assert rules.record(node).key == key_of(node).public  # type: ignore[union-attr]
    assert rules.record(WEST) is None
    assert rules.now.ancestors(VILLAGE) == (TOWN, EAST, CITY)


def test_a_chain_begins_with_the_pinned_genesis() -> None:
    """Another network's, an empty one, or one without its first entry: refused."""
    net = city()
    chain = chain_to(net, EAST)
    for network, bundles in (
        (b"o" * 32, chain),
        (net.root.network, []),
        (net.root.network, chain[1:]),
        (net.root.network, [Bundle(chain[0].signed, ()), *chain[1:]]),
    ):
        with pytest.raises(ProofInvalid):
            verify_chain(network, bundles)
    assert genesis_of(net.root.network, chain).header.type == "network.genesis"


def test_a_chain_with_a_gap_is_refused() -> None:
    """No invitation, no enrolment, or an author that nothing leads to."""
    net = city()
    chain = chain_to(net, VILLAGE)
    with pytest.raises(ProofInvalid, match="without its invitation"):
        verify_chain(net.root.network, [chain[0], *chain[2:]])
    with pytest.raises(UnknownSigner):
        verify_chain(net.root.network, [*chain[:2], *chain[3:]])
    with pytest.raises(UnknownSigner):
        verify_chain(net.root.network, [chain[0], *reversed(chain[1:])])


def test_a_chain_of_another_key_is_refused() -> None:
    """Bundles signed by somebody else than the node enrolled."""
    net = city()
    net.logs[EAST].key = key_of("thief")
    with pytest.raises(UnknownSigner):  # it names a key that EAST never had
        verify_chain(net.root.network, chain_to(net, TOWN))
    *before, last = chain_to(net, EAST)
    checkpoint = msgspec.structs.replace(decode_checkpoint(last.signed.checkpoint), key=net.root.key.id)
    forged = Bundle(sign_checkpoint(checkpoint, key_of("thief"), net.root.network), last.entries)
    with pytest.raises(SignatureInvalid):  # it names the honest one
        verify_chain(net.root.network, [*before, forged])


def test_nobody_enrols_beside_its_own_line() -> None:
    """A node with a known key cannot bring in one below another hub, nor above itself."""
    net = city()
    for author, parent in ((VILLAGE, WEST), (VILLAGE, EAST), (WEST, TOWN)):
        node = "650109000000"
        invite = net.invite(node, parent, author=author)
        enrolment = net.enrol(node, invite, author=author)
        chain = [*chain_to(net, author), *chain_to(net, parent)[1:], one_of(net, invite), one_of(net, enrolment)]
        with pytest.raises(DecodeError, match="not_above"):
            verify_chain(net.root.network, chain)


def test_hostile_entries_in_a_chain_are_refused_as_ours() -> None:
    """An enrolment that names its invitation by a list, opaque bytes, no end: each an error of ours."""
    net = city()
    log = net.root
    log.state("node.enrol", {"invite": [1], "node": EAST})
    chain = [log.bundle([0]), log.bundle([len(log.entries) - 1])]
    with pytest.raises(ProofInvalid):
        verify_chain(net.root.network, chain)
    with pytest.raises(ProofInvalid, match="longer"):
        verify_chain(net.root.network, [log.bundle([0])] * (CHAIN_BUNDLES_MAX + 1))
    weak = Log(CITY, key_of(CITY))
    raw = encode_header(weak.state("network.genesis", {"name": "x"}).header)
    weak.network = weak.entries[0].leaf
    with pytest.raises(PeerError):
        verify_chain(weak.network, [weak.bundle([0])])
    assert raw == weak.entries[0].entry.raw


def test_a_chain_shows_each_key_before_the_one_that_followed_it() -> None:
    """A rotation in the middle of the line, a recovery at its top: the last keys are known, and the chain needs them all."""
    net = city()
    town, root = net.logs[TOWN], net.root
    fields = rotation_fields(net, TOWN, TOWN, "town 2", [(town.incarnation, len(town.entries) + 1)])
    town.state("node.key", fields)
    newer = net.logs[CITY] = successor(root, "root 2")
    newer.state("network.recovery", recovery_fields(net, "root 2", [(root.incarnation, len(root.entries))]))
    net.logs[CITY] = root
    whole = chain_to(net, VILLAGE)
    rotation, recovery = town.bundle([len(town.entries) - 1]), newer.bundle([0])
    chain = [whole[0], recovery, *whole[1:5], rotation, *whole[5:]]
    rules = verify_chain(net.root.network, chain)
    assert rules.record(CITY).key == key_of("root 2").public  # type: ignore[union-attr]
    assert rules.record(TOWN).key == key_of("town 2").public  # type: ignore[union-attr]
    assert rules.record(VILLAGE).key == key_of(VILLAGE).public  # type: ignore[union-attr]
    after = successor(town, "town 2")
    after.state("note")
    with pytest.raises(UnknownSigner):
        verify_chain(net.root.network, [*whole, after.bundle([0])])
    verify_chain(net.root.network, [*chain, after.bundle([0])])


def test_a_recovery_that_does_not_hold_introduces_nobody() -> None:
    """Below the threshold, or under another key than the one it names."""
    net = city()
    for signers, name in ((["recovery 0"], "thief"), (["recovery 0", "recovery 1"], "root 2")):
        log = successor(net.root, "thief")
        log.state("network.recovery", recovery_fields(net, name, [], signers=signers))
        with pytest.raises((DecodeError, UnknownSigner)):
            verify_chain(net.root.network, [net.root.bundle([0]), log.bundle([0])])
