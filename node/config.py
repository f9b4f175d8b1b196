"""A node's settings: `config.toml` in its folder, read into frozen values.

Who the node is stands in the store, not here: this file holds what an administrator of the machine may change. An unknown
section or key, a wrong type and a number out of its range are refused with file, line and key. Each setting is declared
once, below, with its default (fit for a weak PC), range and meaning; the commented file that `init` and `join` write,
and the table in README, come from that.

    config = config_module.load(folder.config)
    config.uplink.wait_s
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from protocol.errors import InputError

CONFIG_BYTES_MAX: Final = 64 << 10
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
PORT_DEFAULT: Final = 7650

_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")

T = TypeVar("T")


def _setting(
    default: object, about: str, *, low: float | None = None, high: float | None = None, form: str = ""
) -> Any:  # noqa: ANN401 - like dataclasses.field, it stands for a value of the attribute's type
    """Declare one setting: default, meaning, inclusive range of a number, form of a text ("host", "address", …)."""
    return field(default=default, metadata={"about": about, "low": low, "high": high, "form": form})


@dataclass(frozen=True, slots=True)
class Listen:
    """Where this node answers other nodes: its children, and those that look for their parent."""

    host: str = _setting("127.0.0.1", "network interface; 0.0.0.0 for all: a hub with children on other machines")
    port: int = _setting(PORT_DEFAULT, "0 takes a free one at each start", low=0, high=65_535)


@dataclass(frozen=True, slots=True)
class Advertise:
    """What children are told."""

    address: str = _setting("", "HOST:PORT at which others reach this node; empty: the listen address", form="address")


@dataclass(frozen=True, slots=True)
class Uplink:
    """How this node reaches its parent."""

    parents: tuple[str, ...] = _setting(
        (), "HOST:PORT of the parent, tried in order before those in the topology", form="address"
    )
    proxy: str = _setting("", "http://HOST:PORT of a proxy on the way; empty: none", form="proxy")
    connect_timeout_s: float = _setting(10.0, "until a connection stands", low=0.1, high=300)
    request_timeout_s: float = _setting(60.0, "for one request and its answer; slow lines need more", low=1, high=3_600)
    wait_s: float = _setting(
        50.0, "how long the parent may hold a question for news; below the proxy's limit", low=1, high=300
    )
    retry_min_s: float = _setting(1.0, "first pause after a failure, drawn at random below it", low=0.01, high=60)
    retry_max_s: float = _setting(300.0, "longest pause; retrying never ends", low=0.05, high=3_600)


@dataclass(frozen=True, slots=True)
class Local:
    """Where people and commands on this machine reach the node; never open to the network."""

    host: str = _setting("127.0.0.1", "a loopback address", form="loopback")
    port: int = _setting(0, "0 takes a free one at each start; commands find it in run/api.json", low=0, high=65_535)


@dataclass(frozen=True, slots=True)
class Limits:
    """What this machine can bear."""

    connections_max: int = _setting(4_096, "open at once, of all other nodes together", low=8, high=65_536)
    connections_per_host_max: int = _setting(
        64, "of strangers at one address: open at once, and new ones a second; more behind one NAT", low=1, high=65_536
    )
    intake_waiting_max: int = _setting(
        2_048, "pushes that wait for the store; more are told to come later", low=1, high=65_536
    )


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The disk under the store."""

    ballast_mb: int = _setting(64, "held free by a file without content, for a disk that fills up; 0 for none", low=0, high=65_536)
    reserve_mb: int = _setting(32, "free space below which no new work is begun", low=0, high=65_536)
    wal_alarm_mb: int = _setting(256, "size of the write-ahead log that is worth a warning", low=16, high=65_536)
    scrub_every_h: float = _setting(
        24.0, "so often all entries are read and hashed again, in small slices; 0 for never", low=0, high=8_760
    )


@dataclass(frozen=True, slots=True)
class Log:
    """What is written down about the running of the program; never personal data."""

    level: str = _setting("info", "one of: " + ", ".join(LOG_LEVELS), form="level")
    file: str = _setting(
        "logs/tongban.log", "inside the node's folder; - for none: the error stream only", form="inside"
    )
    file_bytes_max: int = _setting(
        5_000_000, "then the file is put aside and a new one begun", low=10_000, high=1 << 30
    )
    files_max: int = _setting(5, "put-aside files kept", low=1, high=100)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where watching programs of other machines may ask; the local API answers those of this machine in any case."""

    listen: str = _setting(
        "", "HOST:PORT of this machine for /metrics and /health, without a token; empty: nowhere else", form="address"
    )


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one node."""

    listen: Listen = field(default_factory=Listen)
    advertise: Advertise = field(default_factory=Advertise)
    uplink: Uplink = field(default_factory=Uplink)
    local: Local = field(default_factory=Local)
    limits: Limits = field(default_factory=Limits)
    store: StoreSettings = field(default_factory=StoreSettings)
    log: Log = field(default_factory=Log)
    metrics: Metrics = field(default_factory=Metrics)


SECTIONS: Final[Mapping[str, type]] = {
    "listen": Listen,
    "advertise": Advertise,
    "uplink": Uplink,
    "local": Local,
    "limits": Limits,
    "store": StoreSettings,
    "log": Log,
    "metrics": Metrics,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting, for the written file and the docs."""

    section: str
    key: str
    default: object
    about: str


def settings() -> Iterator[Setting]:
    """List every setting in the order of the file."""
    for section, kind in SECTIONS.items():
        for item in fields(kind):
            yield Setting(section, item.name, item.default, item.metadata["about"])


def load(path: Path) -> Config:
    """Read a configuration file; a missing file means all defaults.

    Raises:
        InputError: not readable, not TOML, or a section, key or value that is refused; with file, line and key.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Config()
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}") from exc
    return parse(data, str(path))


def parse(data: bytes, name: str) -> Config:
    """Read the bytes of a configuration file.

    Args:
        data: UTF-8 text, a byte-order mark allowed.
        name: of the file, for messages.

    Raises:
        InputError: see `load`.
    """
    if len(data) > CONFIG_BYTES_MAX:
        raise InputError(f"{name}: {len(data)} bytes; at most {CONFIG_BYTES_MAX}")
    try:
        text = data.decode("utf-8-sig")
        tables = tomllib.loads(text)
    except UnicodeDecodeError as exc:
        raise InputError(f"{name}: not UTF-8 at byte {exc.start}", hint="Save the file as UTF-8.") from exc
    except tomllib.TOMLDecodeError as exc:
        raise InputError(
            f"{name}: not TOML: {exc}", hint="Texts stand in quotation marks; a comment begins with #."
        ) from exc
    return _Reader(name, text).config(tables)


def render(config: Config) -> str:
    """Write a configuration as a commented file: settings at their default are commented out, the others stand."""
    lines = ["# Tongban node settings. A line that begins with # shows a default; remove the # to change it."]
    for section, kind in SECTIONS.items():
        values = getattr(config, section)
        lines += ["", f"# {(kind.__doc__ or '').splitlines()[0]}", f"[{section}]"]
        for item in fields(kind):
            value = getattr(values, item.name)
            mark = "# " if value == item.default else ""
            lines += [f"# {item.metadata['about']}", f"{mark}{item.name} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def with_addresses(
    config: Config,
    *,
    listen: str | None = None,
    advertise: str | None = None,
    parents: tuple[str, ...] | None = None,
    proxy: str | None = None,
) -> Config:
    """Put the addresses that `init` and `join` were given into a configuration; None leaves a value as it is.

    Raises:
        InputError: an address is not HOST:PORT.
    """
    if listen is not None:
        host, port = parse_address(listen, "--listen", port_min=0)
        config = replace(config, listen=Listen(host, port))
    if advertise is not None:
        parse_address(advertise, "--advertise")
        config = replace(config, advertise=Advertise(advertise))
    if parents is not None:
        config = replace(config, uplink=replace(config.uplink, parents=parents))
    if proxy is not None:
        config = replace(config, uplink=replace(config.uplink, proxy=proxy))
    return parse(render(config).encode(), "given options")  # the same checks as for a file


def parse_address(text: str, what: str, *, port_min: int = 1) -> tuple[str, int]:
    """Split "HOST:PORT"; an IPv6 host stands in brackets, which are taken off.

    Args:
        text: as the user wrote it.
        what: the option or key, for the message.
        port_min: 0 where a free port may be asked for.

    Raises:
        InputError: another form, or a port out of range.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or not port_min <= int(match["port"]) <= 65_535:
        raise InputError(f"{what}: {text!r} is not HOST:PORT", hint="For example 10.1.2.3:7650 or hub.example.cn:7650.")
    return match["host"].strip("[]"), int(match["port"])


def join_address(host: str, port: int) -> str:
    """Write "HOST:PORT", with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Reader:
    """Turns one parsed file into values; knows the text, to name lines."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._lines = text.splitlines()

    def config(self, tables: Mapping[str, object]) -> Config:
        sections: dict[str, Any] = {}
        for section, table in tables.items():
            if section not in SECTIONS:
                raise self._refused(section, "", "unknown section", f"Sections: {', '.join(SECTIONS)}.")
            if not isinstance(table, dict):
                raise self._refused(section, "", "not a section", f"Write [{section}] on a line of its own.")
            sections[section] = self._section(section, SECTIONS[section], table)
        config = Config(**sections)
        if config.uplink.retry_min_s > config.uplink.retry_max_s:
            raise self._refused("uplink", "retry_min_s", "above retry_max_s", "")
        return config

    def _section(self, section: str, kind: type[T], table: Mapping[str, object]) -> T:
        declared = {item.name: item for item in fields(kind)}  # type: ignore[arg-type] # every kind in SECTIONS is a dataclass
        values: dict[str, object] = {}
        for key, value in table.items():
            if key not in declared:
                raise self._refused(section, key, "unknown key", f"Keys of [{section}]: {', '.join(declared)}.")
            values[key] = self._value(section, declared[key], value)
        return kind(**values)

    def _value(self, section: str, item: Field[Any], value: object) -> object:
        if isinstance(item.default, tuple):
            if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
                raise self._refused(section, item.name, "not a list of texts", 'For example ["10.1.2.3:7650"].')
            for part in value:
                self._check_text(section, item, part, may_be_empty=False)
            return tuple(value)
        if isinstance(item.default, str):
            if not isinstance(value, str):
                raise self._refused(section, item.name, "not a text", "Put it in quotation marks.")
            self._check_text(section, item, value, may_be_empty=item.default == "")
            return value
        return self._number(section, item, value)

    def _number(self, section: str, item: Field[Any], value: object) -> int | float:
        whole = isinstance(item.default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise self._refused(section, item.name, "not a whole number" if whole else "not a number", "")
        low, high = item.metadata["low"], item.metadata["high"]
        if not low <= value <= high:  # also refuses nan
            raise self._refused(section, item.name, f"{value} is not within {low} to {high}", "")
        return value if whole else float(value)

    def _check_text(self, section: str, item: Field[Any], value: str, *, may_be_empty: bool) -> None:
        problem = "" if may_be_empty and not value else _FORMS[item.metadata["form"]](value)
        if problem:
            raise self._refused(section, item.name, problem, "")

    def _refused(self, section: str, key: str, problem: str, hint: str) -> InputError:
        line = self._line(section, key)
        place = f"{self._name}:{line}" if line else self._name
        return InputError(f"{place}: [{section}] {key}".rstrip() + f": {problem}", hint=hint)

    def _line(self, section: str, key: str) -> int:
        """Find the line of a key, 1-based; of its section when it has none of its own; 0 when the form is unusual."""
        found, inside = 0, False
        for number, line in enumerate(self._lines, start=1):
            stripped = line.strip()
            if stripped.startswith("["):
                inside = stripped.strip("[] ").startswith(section)
                found = number if inside and not found else found
            elif key and inside and re.match(rf"[\"']?{re.escape(key)}[\"']?\s*=", stripped):
                return number
        return found


def _check_address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    return "" if match and 1 <= int(match["port"]) <= 65_535 else f"{value!r} is not HOST:PORT"


def _check_proxy(value: str) -> str:
    scheme, _, rest = value.partition("://")
    host = rest.rstrip("/").rpartition("@")[2]
    return "" if scheme in {"http", "https"} and not _check_address(host) else f"{value!r} is not http://HOST:PORT"


def _check_loopback(value: str) -> str:
    return "" if value in {"localhost", "::1"} or value.startswith("127.") else f"{value!r} is not a loopback address"


def _check_level(value: str) -> str:
    return "" if value in LOG_LEVELS else f"{value!r} is not one of {', '.join(LOG_LEVELS)}"


def _check_inside(value: str) -> str:
    parts = re.split(r"[/\\]", value)
    outside = not value or ".." in parts or value.startswith(("/", "\\")) or ":" in value
    return f"{value!r} is not a path inside the node's folder" if outside else ""


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    if isinstance(value, str):
        escaped = "".join(_TOML_ESCAPES.get(c, c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}") for c in value)
        return f'"{escaped}"'
    return str(value)


_TOML_ESCAPES: Final = {'"': '\\"', "\\": "\\\\"}
_FORMS: Final = {
    "": lambda value: "" if value else "empty",
    "address": _check_address,
    "proxy": _check_proxy,
    "loopback": _check_loopback,
    "level": _check_level,
    "inside": _check_inside,
}
