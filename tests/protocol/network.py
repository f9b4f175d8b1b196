"""A small network's logs in memory: who stated what, sealed, bundled and numbered as real nodes do it. Nothing is drawn.

net = Net()
net.join(EAST, parent=CITY)
net.register()                           # takes in all that waits
net.rules.now.above(CITY, EAST)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocol import keys, merkle
from protocol.log import (
    FORMAT,
    SCHEME_PLAIN,
    Bundle,
    BundleEntry,
    ChangeSet,
    Checkpoint,
    Entry,
    Header,
    Known,
    LogId,
    Signed,
    Stored,
    encode_body,
    encode_header,
    hash_body,
    shorten,
    sign_checkpoint,
)
from protocol.register import Fact, Register, Rules, join_message, read_register
from protocol.rekeying import recovery_message, rotate_message

CITY = "650100000000"
EAST = "650102000000"
WEST = "650103000000"
WEST_DEPT = "650103000000-a"
TOWN = "650102001000"
VILLAGE = "650102001001"
START = 1_790_000_000_000
HUB = ("enrol", "supervise", "publish")


def seed_of(name: str) -> bytes:
    return keys.sha256(b"seed of " + name.encode())


def key_of(name: str) -> keys.SigningKey:
    return keys.SigningKey(seed_of(name))


def seal_key_of(name: str) -> bytes:
    return keys.SealingKey(keys.sha256(b"sealing seed of " + name.encode())).public


@dataclass(frozen=True)
class Stated:
    """An entry as its author keeps it. salt: of its case, or empty."""

    entry: Entry
    header: Header
    index: int
    salt: bytes

    @property
    def leaf(self) -> bytes:
        return self.entry.leaf

    @property
    def link(self) -> bytes:
        return self.leaf[:16]

    @property
    def fact(self) -> Fact:
        return Fact(self.leaf, self.header, self.entry.body)


@dataclass
class Log:
    """One log and its author's key."""

    node: str
    key: keys.SigningKey
    network: bytes = b"\0" * 32
    incarnation: bytes = b""
    entries: list[Stated] = field(default_factory=list)
    now: int = START

    def __post_init__(self) -> None:
        self.incarnation = self.incarnation or keys.sha256(b"incarnation of " + self.node.encode())[:16]

    @property
    def id(self) -> LogId:
        return LogId(self.node, self.incarnation)

    def state(
        self,
        type_: str,
        fields: Mapping[str, Any] | None = None,
        body: Mapping[str, object] | None = None,
        /,
        *,
        salt: bytes = b"",
        **header: Any,
    ) -> Stated:
        """Append an entry; `header` overrides single values of it."""
        self.now += 60_000
        packed = None if body is None else encode_body({**({"salt": salt} if type_ == "open" else {}), **body})
        values: dict[str, Any] = {
            "format": FORMAT,
            "suite": 1,
            "node": self.node,
            "type": type_,
            "officer": None,
            "window": None,
            "claimed_at": self.now,
            "basis": None,
            "count": 0,
            "body": None if packed is None else (SCHEME_PLAIN, len(packed), hash_body(salt, SCHEME_PLAIN, packed)),
            "case": None,
            "epoch": None,
            "prev": None,
            "rests": (),
            "saw": (),
            "fields": dict(fields or {}),
        }
        made = Header(**{**values, **header})
        stated = Stated(Entry(encode_header(made), packed), made, len(self.entries), salt)
        self.entries.append(stated)
        return stated

    @property
    def leaves(self) -> list[bytes]:
        return [stated.leaf for stated in self.entries]

    def checkpoint(self, start: int = 0, size: int | None = None) -> Checkpoint:
        size = len(self.entries) if size is None else size
        leaves = self.leaves[:size]
        root, run = merkle.root(leaves), merkle.root(leaves[start:])
        return Checkpoint(FORMAT, 1, self.node, self.incarnation, start, size, root, run, self.key.id)

    def seal(self, start: int = 0, size: int | None = None) -> Signed:
        return sign_checkpoint(self.checkpoint(start, size), self.key, self.network)

    def bundle(self, indexes: Sequence[int], start: int = 0, size: int | None = None) -> Bundle:
        """Return some entries of a run with their paths."""
        checkpoint = self.checkpoint(start, size)
        run = self.leaves[start : checkpoint.size]
        paths = merkle.paths(run, [index - start for index in indexes])
        entries = [
            BundleEntry(index, self.entries[index].entry.raw, self.entries[index].entry.body, path)
            for index, path in zip(indexes, paths, strict=True)
        ]
        return Bundle(self.seal(start, size), tuple(entries))

    def stored(self, start: int = 0, size: int | None = None) -> list[Stored]:
        """Return a run as a store gives it to `shorten`."""
        places = {stated.link: stated for stated in self.entries}
        return [self._stored(stated, places) for stated in self.entries[start:size]]

    def _stored(self, stated: Stated, places: Mapping[bytes, Stated]) -> Stored:
        header = stated.header
        before = places.get(header.prev) if header.prev is not None else None
        back = None
        if before is not None and before.index < stated.index and key_in(before) == header.case is not None:
            back = stated.index - before.index
        opening = places.get(header.case) if header.case is not None else None
        known = opening is not None and opening.entry.body is not None and opening.header.type == "open"
        salt = opening.salt if opening is not None and known and opening.index < stated.index else None
        return Stored(stated.entry.raw, stated.entry.body, header, back, salt)

    def known(self, before: int) -> dict[int, Known]:
        """Return what a holder of the first entries knows of them."""
        stored = self.stored(0, before)
        found = {}
        for index, one in enumerate(stored):
            stated = self.entries[index]
            key = key_in(stated)
            if key is None:
                continue
            opens = stated.header.type == "open" and stated.entry.body is not None
            found[index] = Known(stated.link, key, stated.salt if opens else one.salt)
        return found

    def change_set(self, start: int = 0, size: int | None = None) -> ChangeSet:
        return ChangeSet(self.seal(start, size), shorten(self.node, 1, self.stored(start, size)))


def key_in(stated: Stated) -> bytes | None:
    """Return the key of the case to which an entry belongs, if to any."""
    header = stated.header
    return stated.link if header.type == "open" and header.case is None else header.case


@dataclass
class Net:
    """Logs of several nodes, and the rules as the root numbers them."""

    rules: Rules = field(default_factory=Rules)
    logs: dict[str, Log] = field(default_factory=dict)
    registers: list[tuple[Register, list[Fact]]] = field(default_factory=list)
    enrolments: dict[str, tuple[Stated, Stated]] = field(default_factory=dict)  # (invitation, enrolment)
    waiting: list[Fact] = field(default_factory=list)

    def __post_init__(self) -> None:
        root = self.logs[CITY] = Log(CITY, key_of(CITY))
        genesis = root.state("network.genesis", genesis_fields())
        root.network = genesis.leaf
        self.rules.open(genesis.fact)

    @property
    def root(self) -> Log:
        return self.logs[CITY]

    def fact(
        self, author: str, type_: str, fields: Mapping[str, Any], body: Mapping[str, object] | None = None
    ) -> Fact:
        """State a rule; the next `register` takes it in."""
        log = self.logs[author]
        stated = log.state(type_, fields, body, basis=self.rules.basis)
        self.waiting.append(stated.fact)
        return stated.fact

    def invite(self, node: str, parent: str, /, *, author: str = "", **changes: Any) -> Stated:
        """State an invitation; the seed of its code is that of "code of NODE"."""
        author = author or parent
        fields = {
            "node": node,
            "name": node,
            "parent": parent,
            "key": key_of(f"code of {node}").public,
            "expires": START + 10**9,
            "rights": list(HUB),
        }
        self.fact(author, "node.invite", {**fields, **changes})
        return self.logs[author].entries[-1]

    def enrol(self, node: str, invite: Stated, /, *, author: str = "", code: str = "", **changes: Any) -> Stated:
        """State an enrolment for an invitation, signed by the seed of its code."""
        fields = self.enrol_fields(node, invite.link, code or f"code of {node}")
        author = author or invite.header.fields["parent"]
        self.fact(author, "node.enrol", {**fields, **changes})
        return self.logs[author].entries[-1]

    def enrol_fields(self, node: str, invite: bytes, code: str) -> dict[str, Any]:
        public, seal_key = key_of(node).public, seal_key_of(node)
        challenge, certificate = keys.sha256(b"challenge"), keys.sha256(b"certificate")
        message = join_message(node, public, seal_key, challenge, certificate)
        return {
            "node": node,
            "invite": invite,
            "key": public,
            "seal_key": seal_key,
            "suite": 1,
            "challenge": challenge,
            "certificate": certificate,
            "proof": key_of(code).sign(keys.SignedKind.JOIN, self.root.network, message),
        }

    def join(self, node: str, parent: str, /, **changes: Any) -> Log:
        """Invite and enrol a node, and begin its log; nothing is numbered yet."""
        invite = self.invite(node, parent, **changes)
        self.enrolments[node] = (invite, self.enrol(node, invite))
        log = self.logs[node] = Log(node, key_of(node), self.root.network)
        return log

    def register(self, facts: Sequence[Fact] | None = None) -> Register:
        """Write a register of the facts given, or of all that wait, and fold it."""
        taken = list(self.waiting if facts is None else facts)
        if facts is None:
            self.waiting.clear()
        stated = self.write_register(self.rules.number + 1, self.rules.registers[-1].leaf, taken)
        register = read_register(stated.leaf, stated.header, stated.entry.body or b"")
        self.rules.take(register, taken)
        self.registers.append((register, taken))
        return register

    def write_register(self, number: int, before: bytes, facts: Sequence[Fact], author: str = CITY) -> Stated:
        heads = [[[log.node, log.incarnation], len(log.entries), merkle.root(log.leaves)] for log in self.logs.values()]
        body = {"logs": heads, "facts": [fact.leaf for fact in facts]}
        fields = {"number": number, "before": before}
        return self.logs[author].state("register", fields, body, basis=self.rules.basis)

    def void(self, fact: Fact) -> str:
        """Number a fact alone and return why it has no effect; "" when it has."""
        self.waiting.remove(fact)
        self.register([fact])
        return self.rules.voids.get(fact.leaf, "")

    def item(self, code: str, owner: str, /, *, author: str = "", **changes: Any) -> Fact:
        fields = {
            "code": code,
            "version": 1,
            "title": code,
            "owner": owner,
            "receive": [f"{CITY}/*"],
            "decide": [owner],
        }
        return self.fact(author or owner, "catalogue.item", {**fields, **changes}, {"text": code})


def rotation_fields(net: Net, node: str, old: str, new: str, closes: Sequence[tuple[bytes, int]]) -> dict[str, Any]:
    """Return what a node states when its key `old` is followed by `new`, signed by both."""
    before, after, listed = key_of(old), key_of(new), [list(one) for one in closes]
    message = rotate_message(node, before.public, after.public, seal_key_of(new), closes)
    signatures = [key.sign(keys.SignedKind.ROTATE, net.root.network, message) for key in (before, after)]
    return {
        "old": before.public,
        "key": after.public,
        "seal_key": seal_key_of(new),
        "suite": 1,
        "closes": listed,
        "by_old": signatures[0],
        "by_new": signatures[1],
    }


def recovery_fields(
    net: Net, new: str, closes: Sequence[tuple[bytes, int]], *, number: int = 1, signers: Sequence[str] = ("recovery 0", "recovery 2")
) -> dict[str, Any]:
    """Return what the root states when recovery keys give it a new key."""
    after = key_of(new)
    message = recovery_message(CITY, number, after.public, seal_key_of(new), closes)

    def signed(name: str) -> bytes:
        return key_of(name).sign(keys.SignedKind.RECOVERY, net.root.network, message)

    return {
        "number": number,
        "key": after.public,
        "seal_key": seal_key_of(new),
        "suite": 1,
        "closes": [list(one) for one in closes],
        "proof": signed(new),
        "signatures": [[key_of(name).public, signed(name)] for name in signers],
    }


def successor(log: Log, name: str) -> Log:
    """Return a node's next log, under another key."""
    return Log(log.node, key_of(name), log.network, keys.sha256(f"incarnation of {name}".encode())[:16])


def genesis_fields(**changes: Any) -> dict[str, Any]:
    """Return the fields of the network's genesis."""
    fields = {
        "name": "测试网",
        "node": CITY,
        "key": key_of(CITY).public,
        "seal_key": seal_key_of(CITY),
        "recovery": [key_of(f"recovery {n}").public for n in range(3)],
        "threshold": 2,
    }
    return {**fields, **changes}


def city() -> Net:
    """Return a network of a city, two districts, a department, a township and a village, all numbered."""
    net = Net()
    for node, parent in ((EAST, CITY), (WEST, CITY), (WEST_DEPT, WEST), (TOWN, EAST), (VILLAGE, TOWN)):
        net.join(node, parent, rights=[] if node in {WEST_DEPT, VILLAGE} else list(HUB))
        net.register()
    return net
