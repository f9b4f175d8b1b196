"""Settings are read strictly, and what is refused is named by file, line and key."""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import config
from node.config import Config, Uplink
from protocol.errors import InputError
from tests.sources import ROOT

EXAMPLES = ("city", "district", "department", "township", "village", "partner")


def refused(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        config.parse(text.encode(), "config.toml")
    return caught.value


def test_a_missing_or_empty_file_means_defaults(tmp_path: Path) -> None:
    """A node runs without anybody having written settings."""
    assert config.load(tmp_path / "config.toml") == Config() == config.parse(b"", "x")


def test_by_default_nothing_is_open_to_the_network() -> None:
    """Only who writes 0.0.0.0 opens a node to others; the local API is never open."""
    assert Config().listen.host == Config().local.host == "127.0.0.1"


def test_values_are_read() -> None:
    """Each kind of value arrives in its type; a whole number will do for seconds."""
    text = '\ufeff[listen]\nhost = "0.0.0.0"\nport = 0\n[uplink]\nparents = ["a.cn:1", "[::1]:2"]\nwait_s = 20\n'
    read = config.parse(text.encode(), "x")
    assert (read.listen.host, read.listen.port) == ("0.0.0.0", 0)  # noqa: S104 - a setting, not a binding
    assert read.uplink == Uplink(parents=("a.cn:1", "[::1]:2"), wait_s=20.0)
    assert isinstance(read.uplink.wait_s, float)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("[listen]\nprot = 1\n", ":2: [listen] prot", "unknown key"),
        ("# x\n\n[lissen]\nport = 1\n", ":3: [lissen]", "unknown section"),
        ("listen = 3\n", "[listen]", "not a section"),
        ("[local]\nport = 1\n[listen]\nport = 65536\n", ":4: [listen] port", "not within 0 to 65535"),
        ("[listen]\nport = true\n", ":2: [listen] port", "not a whole number"),
        ("[listen]\nport = 7.5\n", ":2: [listen] port", "not a whole number"),
        ("[listen]\nhost = 7\n", ":2: [listen] host", "not a text"),
        ('[listen]\nhost = ""\n', ":2: [listen] host", "empty"),
        ("[uplink]\nwait_s = nan\n", ":2: [uplink] wait_s", "not within"),
        ('[uplink]\nwait_s = "5"\n', ":2: [uplink] wait_s", "not a number"),
        ('[uplink]\nparents = "a:1"\n', ":2: [uplink] parents", "not a list of texts"),
        ('[uplink]\nparents = ["a"]\n', ":2: [uplink] parents", "not HOST:PORT"),
        ('[uplink]\nparents = [""]\n', ":2: [uplink] parents", "not HOST:PORT"),
        ('[uplink]\nproxy = "10.1.1.1:80"\n', ":2: [uplink] proxy", "not http://HOST:PORT"),
        ("[uplink]\nretry_max_s = 2\nretry_min_s = 3\n", ":3: [uplink] retry_min_s", "above retry_max_s"),
        ('[advertise]\naddress = "a:0"\n', ":2: [advertise] address", "not HOST:PORT"),
        ('[local]\nhost = "0.0.0.0"\n', ":2: [local] host", "not a loopback address"),
        ('[log]\nlevel = "loud"\n', ":2: [log] level", "not one of"),
        ('[log]\nfile = "../x.log"\n', ":2: [log] file", "not a path inside"),
        ('[log]\nfile = "C:x.log"\n', ":2: [log] file", "not a path inside"),
    ],
)
def test_what_is_refused_is_named(text: str, place: str, problem: str) -> None:
    """The message holds file, line, section, key, and what is wrong with it."""
    message = refused(text).message
    assert message.startswith("config.toml")
    assert place in message
    assert problem in message


def test_an_unknown_key_is_answered_with_the_known_ones() -> None:
    """Who mistyped sees the right spelling."""
    assert "port" in refused("[listen]\nprot = 1\n").hint


@pytest.mark.parametrize("data", [b"\xff\xfe", b"[listen", b"a = 1\na = 2\n", b"#" * 70_000])
def test_broken_files_are_refused(data: bytes) -> None:
    """Other encodings, broken TOML, doubled keys and huge files are the user's mistake, not a crash."""
    with pytest.raises(InputError, match=r"config\.toml"):
        config.parse(data, "config.toml")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """What cannot be read is named."""
    with pytest.raises(InputError, match="cannot be read"):
        config.load(tmp_path)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_random_files_raise_nothing_else(data: bytes) -> None:
    """Whatever stands in the file, the answer is values or InputError."""
    with contextlib.suppress(InputError):
        assert isinstance(config.parse(data, "x"), Config)


def test_the_written_file_reads_back() -> None:
    """`init` and `join` write what `run` reads; every setting is there with its meaning."""
    changed = config.with_addresses(
        Config(),
        listen="[::1]:0",
        advertise="hub.example.cn:7650",
        parents=("10.0.0.1:7650",),
        proxy="http://u:p@10.0.0.9:80",
    )
    text = config.render(changed)
    assert config.parse(text.encode(), "x") == changed
    assert changed.listen.host == "::1"
    for setting in config.settings():
        assert re.search(rf"# {re.escape(setting.about)}\n(# )?{setting.key} = ", text)


def test_defaults_are_written_as_comments() -> None:
    """A later version's better default reaches those who never chose another."""
    lines = config.render(Config()).splitlines()
    assert all(line.startswith(("#", "[")) or not line for line in lines)
    assert config.parse("\n".join(re.sub(r"^# (\w+ = )", r"\1", line) for line in lines).encode(), "x") == Config()


@given(st.text(max_size=30))
def test_any_text_survives_the_written_file(text: str) -> None:
    """Quotation marks, backslashes and control characters are escaped."""
    changed = Config(listen=config.Listen(host=text or "x"))
    if "\ud800" <= max(text, default="") <= "\udfff":
        return
    assert config.parse(config.render(changed).encode(), "x") == changed


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "a:b", "a:65536", "a b:1", "http://a:1", "a:1\n", "a:0"])
def test_wrong_addresses_are_refused(text: str) -> None:
    """An address has a host and a port from 1 to 65535."""
    with pytest.raises(InputError, match="--listen"):
        config.parse_address(text, "--listen")


def test_addresses_split_and_join() -> None:
    """An IPv6 host stands in brackets outside and without them inside."""
    for text, parts in {"a.cn:1": ("a.cn", 1), "[::1]:65535": ("::1", 65535), "10.0.0.1:80": ("10.0.0.1", 80)}.items():
        assert config.parse_address(text, "x") == parts
        assert config.join_address(*parts) == text
    assert config.parse_address("a:0", "x", port_min=0) == ("a", 0)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_load_and_explain_themselves(name: str) -> None:
    """Each tier has a ready example in which every key has a comment."""
    path = ROOT / "configs" / f"node-{name}.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert config.load(path) != Config()
    assert lines[0].startswith("# ")
    for before, line in itertools.pairwise(lines):
        assert not re.match(r"\w+ = ", line) or before.startswith("# ") or "  # " in line, line


def test_every_example_is_tested() -> None:
    """No example is left to rot."""
    assert {path.stem for path in (ROOT / "configs").glob("node-*.toml")} == {f"node-{name}" for name in EXAMPLES}
