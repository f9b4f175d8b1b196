"""The chain of keys: from the genesis, which is pinned, down to one node, each enrolled by the one above.

A machine that holds nothing but a network id can check a hub's key with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol import limits
from protocol.errors import PeerError, ProofInvalid, UnknownSigner
from protocol.log import Bundle, BundleEntry, decode_checkpoint, decode_header, hash_header, verify_bundle
from protocol.register import Fact, Rules

CHAIN_BUNDLES_MAX = 64 * limits.DEPTH_MAX  # an invitation and an enrolment a node, and what replaced its keys since


def genesis_of(network: bytes, bundles: Sequence[Bundle]) -> Fact:
    """Return the genesis with which a chain begins; raises ProofInvalid when it is not this network's."""
    if bundles and bundles[0].entries:
        raw = bundles[0].entries[0].raw
        if hash_header(raw) == network:
            return Fact(network, decode_header(raw))
    raise ProofInvalid("the chain does not begin with the genesis of this network")


def verify_chain(network: bytes, bundles: Sequence[Bundle]) -> Rules:
    """Check a chain and return rules in which its nodes' keys are known.

    Args:
        network: the pinned network id, 32 bytes.
        bundles: from the genesis on, each invitation before its enrolment, each author before what it states, each key
            before the one that followed it.

    Raises:
        ProofInvalid, SignatureInvalid, UnknownSigner, DecodeError: it does not hold.
    """
    rules = Rules()
    rules.open(genesis_of(network, bundles))
    if len(bundles) > CHAIN_BUNDLES_MAX:
        raise ProofInvalid("the chain is longer than any network is deep")
    invites: dict[bytes, Fact] = {}
    for bundle in bundles:
        introduce(rules, bundle)
        stated = decode_checkpoint(bundle.signed.checkpoint)
        key = rules.key_of(stated.node, stated.key)
        if key is None:
            raise UnknownSigner(f"the chain does not lead to {stated.node}", node=stated.node)
        verify_bundle(bundle, key, network)
        for entry in bundle.entries:
            _note(rules, invites, entry)
    return rules


def introduce(rules: Rules, bundle: Bundle) -> None:
    """Make known the root's key that a bundle recovers, if it does: the recovery keys of the genesis vouch for it alone.

    The bundle is verified afterwards, under that key.
    """
    stated = decode_checkpoint(bundle.signed.checkpoint)
    if stated.node != rules.root or rules.key_of(stated.node, stated.key) is not None:
        return
    for entry in bundle.entries:
        try:
            fact = Fact(hash_header(entry.raw), decode_header(entry.raw))
        except PeerError:
            continue  # opaque
        if fact.header.type == "network.recovery" and fact.header.node == rules.root:
            rules.note_recovery(fact)


def _note(rules: Rules, invites: dict[bytes, Fact], entry: BundleEntry) -> None:
    """Take in one verified entry of a chain."""
    fact = Fact(hash_header(entry.raw), decode_header(entry.raw))
    if fact.header.type == "node.invite":
        invites[fact.link] = fact
    elif fact.header.type == "node.enrol":
        link = fact.header.fields.get("invite")
        invite = invites.get(link) if isinstance(link, bytes) else None
        if invite is None:
            raise ProofInvalid("the chain holds an enrolment without its invitation")
        rules.note_enrolment(invite, fact)
    elif fact.header.type == "node.key":
        rules.note_rotation(fact)
    elif fact.header.type == "network.recovery":
        rules.note_recovery(fact)
