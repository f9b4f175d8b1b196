"""A new machine's side of joining: only a hub of its own network is told anything, and an interruption costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.app import Hub
from hub.enrolment import invite
from node.joining import join
from node.ports import Response
from protocol import joincode, keys, messages
from protocol.errors import JoinRefused, LinkError, PeerError, ProofInvalid, SignatureInvalid, TongbanError
from tests.hub.calling import CERTIFICATE, count
from tests.node.building import EAST, WEST, found

KEY, SEALING = keys.SigningKey(bytes([7]) * 32), keys.SealingKey(bytes([8]) * 32).public


class Line:
    """A line to hubs by address, which may be twisted."""

    def __init__(self, hubs: dict[str, Hub]) -> None:
        self.hubs = hubs
        self.asked: list[tuple[str, str]] = []
        self.change: dict[str, dict[str, Any]] = {}
        self.certificate = CERTIFICATE
        self.lose: set[str] = set()

    async def request(self, address: str, path: str, body: bytes, **_: Any) -> Response:
        name = path.rsplit("/", 1)[1]
        self.asked.append((address, name))
        if address not in self.hubs:
            raise LinkError("nobody there")
        answer = await self.hubs[address].handle(name, None, body)
        if name in self.lose:
            self.lose.remove(name)
            raise LinkError("lost")
        data = answer.body
        if answer.status == 200 and name in self.change:
            kind = messages.JoinChallenge if name == "ask" else messages.JoinReply
            data = messages.encode(msgspec.structs.replace(messages.decode(data, kind), **self.change[name]))  # type: ignore[type-var]
        return Response(answer.status, data, self.certificate, None)

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
async def line(tmp_path: Path) -> Line:
    """A line to one hub."""
    return Line({"hub:1": Hub(await found(tmp_path / "city"), CERTIFICATE)})


async def code(line: Line, *addresses: str) -> joincode.JoinCode:
    hub = line.hubs["hub:1"].node
    made = await invite(hub, EAST, "天山区", parent=None, expires_h=24, addresses=addresses or ("hub:1",))
    return joincode.parse_code(made.code)


async def test_a_machine_becomes_the_node_of_its_code(line: Line) -> None:
    """It learns its place, its network, and the chain of keys to itself."""
    joined = await join(await code(line), KEY, SEALING, line)
    hub = line.hubs["hub:1"].node
    assert (joined.node, joined.parent, joined.network) == (EAST, hub.id, hub.ledger.identity.network)
    assert hub.rules.now.node(EAST) is not None


async def test_the_seed_never_travels(line: Line) -> None:
    """Only its public half and signatures go over the line."""
    made = await code(line)
    sent: list[bytes] = []
    honest = line.request

    async def listen(address: str, path: str, body: bytes, **rest: Any) -> Response:
        sent.append(body)
        return await honest(address, path, body, **rest)

    line.request = listen  # type: ignore[method-assign]
    await join(made, KEY, SEALING, line)
    from protocol import codec

    unpacked = b"".join(codec.decompress(body, bytes_max=1 << 20) for body in sent)
    assert made.seed not in unpacked
    assert keys.SigningKey(made.seed).public in unpacked


async def test_a_lost_answer_is_asked_for_again(line: Line) -> None:
    """With the same keys the machine gets the same enrolment; the hub wrote it once."""
    made = await code(line)
    line.lose = {"join"}
    with pytest.raises(LinkError):
        await join(made, KEY, SEALING, line)
    before = await count(line.hubs["hub:1"].node, "entries")
    await join(made, KEY, SEALING, line)
    assert await count(line.hubs["hub:1"].node, "entries") == before


async def test_the_next_address_is_tried(line: Line) -> None:
    """A hub that moved is found under the addresses of the code, in their order."""
    await join(await code(line, "away:1", "hub:1"), KEY, SEALING, line)
    assert line.asked[:2] == [("away:1", "ask"), ("hub:1", "ask")]


async def test_nobody_there_is_no_refusal(line: Line) -> None:
    """The parent is not up yet: try later, nothing is lost."""
    with pytest.raises(LinkError):
        await join(await code(line, "away:1"), KEY, SEALING, line)


async def test_a_hub_of_another_network_is_told_nothing(line: Line, tmp_path: Path) -> None:
    """Its chain does not begin with the genesis in the code: no keys, no proof go to it."""
    other = Hub(await found(tmp_path / "other", seed=99), CERTIFICATE)
    made = await code(line)
    line.hubs["hub:1"] = other
    with pytest.raises(PeerError):
        await join(made, KEY, SEALING, line)
    assert [name for _, name in line.asked] == ["ask"]


@pytest.mark.parametrize(
    ("name", "changes", "error"),
    [
        ("ask", {"signature": bytes(64)}, SignatureInvalid),
        ("ask", {"challenge": bytes(32)}, SignatureInvalid),
        ("ask", {"hub": WEST}, PeerError),
        ("ask", {"chain": ()}, ProofInvalid),
        ("join", {"chain": ()}, ProofInvalid),
    ],
)
async def test_what_a_hub_cannot_prove_is_not_believed(line: Line, name: str, changes: dict[str, Any], error: type[TongbanError]) -> None:
    """A signature, challenge, identity or chain that does not hold ends the joining."""
    made = await code(line)
    line.change[name] = changes
    with pytest.raises(error):
        await join(made, KEY, SEALING, line)


async def test_somebody_on_the_line_is_found(line: Line) -> None:
    """With another certificate on the line than the hub's, its signature does not fit."""
    made = await code(line)
    line.certificate = bytes(32)
    with pytest.raises(SignatureInvalid):
        await join(made, KEY, SEALING, line)


async def test_another_machines_enrolment_is_refused(line: Line) -> None:
    """A code used elsewhere stays used."""
    made = await code(line)
    await join(made, KEY, SEALING, line)
    with pytest.raises(JoinRefused):
        await join(made, keys.SigningKey(bytes([9]) * 32), SEALING, line)
