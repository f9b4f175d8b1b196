"""A new machine's side of joining: from a code to a folder in which a node lives.

The keys are made and saved before anything is sent, so that a machine that stops in the middle, or whose answer is lost,
joins again with the same code and the same keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from node import faults
from node.ports import Transport
from node.uplink.calling import call
from protocol import joincode, keys, messages, register
from protocol.chain import verify_chain
from protocol.errors import JoinRefused, LinkError, PeerError, TongbanError
from protocol.log import Bundle

TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Joined:
    """An enrolment. chain: from the genesis down to it. address: where the hub answered."""

    node: str
    parent: str
    network: bytes
    chain: tuple[Bundle, ...]
    address: str


async def join(
    code: joincode.JoinCode, key: keys.SigningKey, seal_key: bytes, transport: Transport, timeout_s: float = TIMEOUT_S
) -> Joined:
    """Enrol this machine with a joining code.

    Raises:
        JoinRefused: the code was used by another machine, has expired, or is not genuine.
        LinkError: the hub is not there yet; nothing is lost, try again.
    """
    failure: TongbanError = LinkError("the hub does not answer")
    for address in code.addresses:
        try:
            return await _join_at(address, code, key, seal_key, transport, timeout_s)
        except JoinRefused:
            raise
        except (LinkError, PeerError) as exc:
            failure = exc
    raise failure


async def _join_at(
    address: str, code: joincode.JoinCode, key: keys.SigningKey, seal_key: bytes, transport: Transport, timeout_s: float
) -> Joined:
    seed = keys.SigningKey(code.seed)
    ask = messages.JoinAsk(code.network, code.node, seed.public)
    challenge, certificate = await call(transport, address, "ask", ask, messages.JoinChallenge, None, timeout_s)
    _check_hub(code, seed.public, challenge, certificate)
    text = register.join_message(code.node, key.public, seal_key, challenge.challenge, certificate)
    proof = seed.sign(keys.SignedKind.JOIN, code.network, text)
    join_ask = messages.Join(
        code.network, code.node, seed.public, key.public, seal_key, challenge.challenge, certificate, proof
    )
    faults.point("joining.before_join")
    reply, _ = await call(transport, address, "join", join_ask, messages.JoinReply, None, timeout_s)
    faults.point("joining.enrolled")
    rules = verify_chain(code.network, reply.chain)
    record = rules.record(code.node)
    if record is None or record.key != key.public or record.parent is None:
        raise JoinRefused("the hub enrolled another key than this machine's")
    return Joined(code.node, record.parent, code.network, reply.chain, address)


def _check_hub(code: joincode.JoinCode, invite: bytes, said: messages.JoinChallenge, certificate: bytes) -> None:
    """Check that the hub belongs to the network in the code, and that nobody sits on the line."""
    record = verify_chain(code.network, said.chain).record(said.hub)
    if record is None:
        raise PeerError("the hub does not show its enrolment")
    text = messages.greeting_text(code.node, invite, said.challenge, certificate, said.hub)
    keys.verify(record.key, said.signature, keys.SignedKind.GREET, code.network, text)
