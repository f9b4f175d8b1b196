"""The chain of keys: from the genesis, which is pinned, down to one node, each enrolled by the one above.

A machine that holds nothing but a network id can check a hub's key with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import ProofInvalid, UnknownSigner
from protocol.log import Bundle, decode_checkpoint, decode_header, hash_header, verify_bundle
from protocol.register import Fact, Rules


def genesis_of(network: bytes, bundles: Sequence[Bundle]) -> Fact:
    """Return the genesis with which a chain begins; raises ProofInvalid when it is not this network's."""
    if bundles and bundles[0].entries:
        raw = bundles[0].entries[0].raw
        if hash_header(raw) == network:
            return Fact(network, decode_header(raw))
    raise ProofInvalid("the chain does not begin with the genesis of this network")


def verify_chain(network: bytes, bundles: Sequence[Bundle]) -> Rules:
    """Check a chain and return rules in which its nodes' keys are known.

    Raises:
        ProofInvalid, SignatureInvalid, UnknownSigner, DecodeError: it does not hold.
    """
    rules = Rules()
    rules.open(genesis_of(network, bundles))
    invites: dict[bytes, Fact] = {}
    for bundle in bundles:
        author = decode_checkpoint(bundle.signed.checkpoint).node
        record = rules.record(author)
        if record is None:
            raise UnknownSigner(f"the chain does not lead to {author}")
        verify_bundle(bundle, record.key, network)
        for entry in bundle.entries:
            fact = Fact(hash_header(entry.raw), decode_header(entry.raw))
            if fact.header.type == "node.invite":
                invites[fact.link] = fact
            elif fact.header.type == "node.enrol":
                invite = invites.get(fact.header.fields.get("invite", b""))
                if invite is None:
                    raise ProofInvalid("the chain holds an enrolment without its invitation")
                rules.note_enrolment(invite, fact)
    return rules
