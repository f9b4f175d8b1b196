"""What the command line does beyond a node's own use cases: founding, inviting, joining, synchronising.

`init` and `join` make a folder; the others are operations, carried out by the running node or on the opened store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hub import carrying as _carrying  # noqa: F401 - registers the operations `carry.out` and `carry.in`
from hub import enrolment
from hub import evidence as _evidence  # noqa: F401 - registers the operations `evidence.list` and `evidence.export`
from node import anew as _anew  # noqa: F401 - registers the operation `vouch`
from node import config as configuration
from node import faults, moving, operations, rekeying, setup
from node import logs as lines
from node import replay as _replay  # noqa: F401 - registers the operation `replay`
from node.config import Config, join_address
from node.folder import Folder, sync_folder, write_private
from node.joining import join as join_network
from node.keyring import Keyring
from node.ledger import Ledger
from node.node import Node
from node.office.desk import Act
from node.ports import Clock, Entropy
from node.store import logs
from node.store.checking import check_file
from node.store.database import Connection, Database, Store
from node.transport import HttpsTransport
from node.uplink import Settings, Uplink
from protocol import divisions, joincode, keys, limits
from protocol.errors import InputError, LinkError, TongbanError
from protocol.problems import Fields
from protocol.text import clean

EXPIRES_H: Final = 168
SYNC_TIMEOUT_S: Final = 60.0
SYNC_TIMEOUT_MAX_S: Final = 7 * 24 * 3_600.0  # as the command line allows

_uplinks: dict[int, Uplink] = {}  # by id of a running node, while it runs; owner: the event loop


@contextmanager
def attached(node: Node, uplink: Uplink | None) -> Iterator[None]:
    """Let the running node's commands use its uplink until the block ends; a root has none."""
    if uplink is not None:
        _uplinks[id(node)] = uplink
    try:
        yield
    finally:
        _uplinks.pop(id(node), None)


# --- folders


async def init(
    folder: Folder,
    clock: Clock,
    entropy: Entropy,
    *,
    division: str,
    name: str,
    listen: str | None,
    advertise: str | None,
    recovery: int = setup.RECOVERY_KEYS,
    threshold: int = setup.THRESHOLD,
    show: Callable[[Mapping[str, object]], None] = lambda _: None,
) -> dict[str, object]:
    """Found a new network; this machine is its root. Given again after an interruption, it begins again with the same keys.

    Args:
        recovery: how many recovery keys to draw. threshold: how many of them replace the root's key.
        show: told the answer before the folder has a store: recovery keys that nobody saw are of no network.

    Raises:
        InputError: not a division code, no name, a wrong address or number, or the folder has a node already. Nothing was
            written.
    """
    if not 1 <= threshold <= recovery <= limits.RECOVERY_KEYS_MAX:
        raise InputError(
            f"{threshold} of {recovery} recovery keys cannot be asked for", hint="Advised are 3 keys, of which 2 are needed."
        )
    if not divisions.is_node_id(division):
        raise InputError(f"{division!r} is not a division code", hint="12 digits, with -suffix for a department.")
    named = clean(name, limits.NAME_CHARS_MAX)
    if not named:
        raise InputError("the network needs a name")
    settings = configuration.with_addresses(Config(), listen=listen, advertise=advertise)
    folder.create()
    with folder.locked():
        _check_free(folder)
        return await _found(folder, clock, entropy, (division, named), settings, (recovery, threshold), show)


def _check_free(folder: Folder) -> None:
    """Refuse a folder with a node, or with one that a hub has enrolled: keys alone are left of an `init` that was killed."""
    if folder.store.exists():
        raise InputError(f"{folder.root}: a node lives here already", hint="Use another --data folder.")
    if configuration.load(folder.config).uplink.parents:
        raise InputError(f"{folder.root}: joining was not finished", hint="Give the `join` command again.")


async def _found(
    folder: Folder,
    clock: Clock,
    entropy: Entropy,
    named: tuple[str, str],
    settings: Config,
    wanted: tuple[int, int],
    show: Callable[[Mapping[str, object]], None],
) -> dict[str, object]:
    key, sealing = _own_keys(folder, entropy)
    recovery = setup.new_recovery(entropy, wanted[0])
    public = [keys.SigningKey(seed).public for seed in recovery]
    write_private(folder.config, configuration.render(settings).encode("utf-8"))
    answer: dict[str, object] = {}

    def tell(ledger: Ledger) -> None:
        answer["node"], answer["network"] = named[0], ledger.identity.network.hex()
        answer["root_fingerprint"] = keys.key_id(ledger.identity.key.public).hex()
        answer["recovery"] = [seed.hex() for seed in recovery]
        show(answer)
        faults.point("commands.shown")  # a crash here leaves keys of no network: `init` given again shows others

    await _lay_down(
        folder,
        lambda store: setup.found(store, *named, key, sealing.public, public, clock, entropy, wanted[1]),
        before=tell,
    )
    return answer


async def recover(folder: Folder, clock: Clock, entropy: Entropy, *, seeds: Sequence[str]) -> dict[str, object]:
    """Give the root a new key, signed by recovery keys, in the folder of the root as it was or as its backup has it.

    Args:
        seeds: recovery keys as `init` printed them, in hex.

    Raises:
        InputError: one is no key. CommandRefused: too few, others than the network's, or not the root's folder.
    """
    signers = [_recovery_key(number, text) for number, text in enumerate(seeds, start=1)]
    folder.require()
    with folder.locked():
        check_file(folder.store)
        store = await Database.open(folder.store)
        try:
            key = await rekeying.recover(store, Keyring(folder), signers, clock, entropy)
        finally:
            await store.close()
        node = await setup.open_node(folder, clock, entropy)  # the old key's file is destroyed there
        await node.close()
    return {"node": node.id, "fingerprint": key.id.hex(), "register": node.rules.number}


async def move_out(
    folder: Folder, clock: Clock, entropy: Entropy, *, file: Path, passphrase: str, timeout_s: float
) -> dict[str, object]:
    """Seal this machine's store, and write all of it into a file for the new machine; what could not be sent goes along.

    Raises:
        InputError: a short passphrase, or the file is there. StoreBusy: the node runs. StoreError: a disk refuses.
    """
    folder.require()
    with folder.locked():
        node = await setup.open_node(folder, clock, entropy)
        try:
            if not node.moved and node.parent is not None:
                await _send_first(node, configuration.load(folder.config), timeout_s)
            return await moving.move_out(node, folder, file, passphrase)
        finally:
            await node.close()


async def _send_first(node: Node, settings: Config, timeout_s: float) -> None:
    """Send what waits, if the line lets us: the new machine would send it, too."""
    async with HttpsTransport(proxy=settings.uplink.proxy) as transport:
        uplink = Uplink(node, transport, Settings(settings.uplink.parents, settings.uplink.request_timeout_s))
        try:
            await uplink.sync(timeout_s)
        except TongbanError as exc:
            lines.failure("move.unsent", exc)
        finally:
            uplink.close()


def move_in(folder: Folder, clock: Clock, *, file: Path, passphrase: str) -> dict[str, object]:
    """Make this machine the node that a file of `move out` holds.

    Raises:
        InputError: another passphrase, a damaged file, or a node lives here already. StoreError: a disk refuses.
    """
    folder.create()
    with folder.locked():
        return moving.move_in(folder, file, passphrase, clock)


def _recovery_key(number: int, text: str) -> keys.SigningKey:
    """Read one recovery key; what was typed is never repeated."""
    try:
        return keys.SigningKey(bytes.fromhex(text.strip()))
    except ValueError:
        raise InputError(f"line {number} is no recovery key", hint="64 hex digits, as `tongban init` printed them.") from None


async def join(
    folder: Folder,
    clock: Clock,
    entropy: Entropy,
    *,
    code: str,
    listen: str | None,
    advertise: str | None,
    proxy: str | None,
    timeout_s: float,
) -> dict[str, object]:
    """Make this machine the node that a joining code names. Given again after an interruption, it goes on.

    Raises:
        JoinRefused: the code is used, expired or not genuine. LinkError: the parent is not there yet.
    """
    parsed = joincode.parse_code(code)
    settings = configuration.with_addresses(Config(), listen=listen, advertise=advertise, proxy=proxy)
    folder.create()
    with folder.locked():
        if folder.store.exists():
            return await _joined_before(folder, parsed, clock, entropy)
        return await _join(folder, clock, entropy, parsed, settings, timeout_s)


async def _joined_before(
    folder: Folder, code: joincode.JoinCode, clock: Clock, entropy: Entropy
) -> dict[str, object]:
    """Answer again for a machine that joined with this code and was stopped before it could say so."""
    node = await setup.open_node(folder, clock, entropy)
    try:
        identity = node.ledger.identity
        if (identity.node, identity.network) != (code.node, code.network):
            raise InputError(f"{folder.root}: another node lives here", hint="Use another --data folder.")
        return {"node": node.id, "parent": node.parent, "network": identity.network.hex()}
    finally:
        await node.close()


async def _join(
    folder: Folder, clock: Clock, entropy: Entropy, parsed: joincode.JoinCode, settings: Config, timeout_s: float
) -> dict[str, object]:
    key, sealing = _own_keys(folder, entropy)
    async with HttpsTransport(proxy=settings.uplink.proxy) as transport:
        joined = await join_network(parsed, key, sealing.public, transport, timeout_s)
        parents = (joined.address, *(one for one in parsed.addresses if one != joined.address))
        settings = configuration.with_addresses(settings, parents=parents)
        write_private(folder.config, configuration.render(settings).encode("utf-8"))
        await _lay_down(
            folder, lambda store: setup.begin(store, joined.node, joined.network, key, joined.chain, clock, entropy)
        )
        await _first_sync(folder, clock, entropy, transport, parents, timeout_s)
    return {"node": joined.node, "parent": joined.parent, "network": joined.network.hex()}


def _own_keys(folder: Folder, entropy: Entropy) -> tuple[keys.SigningKey, keys.SealingKey]:
    for name in ("signing", "sealing"):
        if not folder.seed(name).exists():
            folder.save_seed(name, entropy.bytes(32))
    return keys.SigningKey(folder.load_seed("signing")), keys.SealingKey(folder.load_seed("sealing"))


async def _lay_down(
    folder: Folder, work: Callable[[Store], Awaitable[Ledger]], before: Callable[[Ledger], None] = lambda _: None
) -> Ledger:
    """Lay the store down under another name, then give it its own: a folder has a whole store, or none.

    Args:
        before: called when all is written, before the folder has a store.
    """
    draft = folder.store.with_name("draft.sqlite3")
    for leftover in (draft, draft.with_name(draft.name + "-wal"), draft.with_name(draft.name + "-shm")):
        leftover.unlink(missing_ok=True)
    store = await Database.open(draft)
    try:
        ledger = await work(store)
    finally:
        await store.close()
    before(ledger)
    draft.replace(folder.store)
    sync_folder(folder.root)  # what is answered now, recovery keys say, is never shown again
    return ledger


async def _first_sync(
    folder: Folder,
    clock: Clock,
    entropy: Entropy,
    transport: HttpsTransport,
    addresses: tuple[str, ...],
    timeout_s: float,
) -> None:
    """Fetch the rules at once, so that the counter can work; when the line fails now, `run` does it later."""
    node = await setup.open_node(folder, clock, entropy)
    try:
        await Uplink(node, transport, Settings(addresses, timeout_s)).sync(timeout_s)
    except LinkError:
        return
    finally:
        await node.close()


# --- operations


async def _invite(node: Node, params: Mapping[str, Any], act: Act) -> dict[str, object]:
    wish = operations.read_params("invite", params, _wish)
    done = await enrolment.invite(node, **wish, officer=act.officer)
    return {"node": done.node, "parent": done.parent, "code": done.code, "expires": operations.time_text(done.expires)}


def _wish(fields: Fields) -> dict[str, Any]:
    """Read an invitation: the keywords of `enrolment.invite`."""
    again = fields.flag("again", default=False)
    return {
        "invited": fields.text("node"),
        "again": again,
        "name": fields.optional_text("name") if again else fields.checked("name", clean),
        "parent": fields.optional_text("parent"),
        "expires_h": fields.integer("expires_h", 1, limits.INVITE_HOURS_MAX, default=EXPIRES_H),
        "addresses": fields.texts("addresses", lambda text: configuration.parse_address(text, "addresses")),
    }


async def _sync(node: Node, params: Mapping[str, Any], _: Act) -> dict[str, object]:
    timeout_s, settings = operations.read_params("sync", params, _how)
    if node.parent is None:
        return {"acked": 0, "pulled": 0, "pending": 0}
    running = _uplinks.get(id(node))
    if running is not None:
        return await _sync_with(Uplink(node, running.line.transport, running.line.settings), timeout_s)
    async with HttpsTransport(proxy=settings.uplink.proxy) as transport:
        told = Settings(settings.uplink.parents, settings.uplink.request_timeout_s)
        return await _sync_with(Uplink(node, transport, told), timeout_s)


def _how(fields: Fields) -> tuple[float, Config]:
    """Read how long to try, seconds, and where no node runs the settings of this machine."""
    timeout_s, settings = fields.raw("timeout_s", SYNC_TIMEOUT_S), fields.raw("settings", Config())
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= SYNC_TIMEOUT_MAX_S:
        fields.fault("timeout_s", f"must be a number of seconds up to {SYNC_TIMEOUT_MAX_S:.0f}")
        timeout_s = SYNC_TIMEOUT_S
    if not isinstance(settings, Config):
        fields.fault("settings", "is not to be given from outside")
        settings = Config()
    return float(timeout_s), settings


async def _sync_with(uplink: Uplink, timeout_s: float) -> dict[str, object]:
    try:
        progress = await uplink.sync(timeout_s)
    finally:
        uplink.close()
    pending = await uplink.node.read(_pending)
    if pending:
        raise LinkError(f"{pending} entries are not acknowledged yet", hint="Give the command again; nothing is lost.")
    return {"acked": progress.acked, "pulled": progress.pulled, "pending": pending}


def _pending(conn: Connection) -> int:
    acked = logs.acks(conn)
    return sum(max(row.size - acked.get(row.id, 0), 0) for row in logs.load_logs(conn) if not row.branch)


def default_address(config: Config) -> tuple[str, ...]:
    """Return the address that a configuration gives a hub, if it is one that others can call."""
    if config.advertise.address:
        return (config.advertise.address,)
    return (join_address(config.listen.host, config.listen.port),) if config.listen.port else ()


operations.register("invite", _invite)
operations.register("sync", _sync)
