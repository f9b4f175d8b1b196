"""What the documents say is what the program does."""

from __future__ import annotations

import re

import pytest

from node.config import SECTIONS
from protocol.errors import TongbanError
from tests.sources import ROOT
from tools import tables


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["settings", "errors"])
def test_tables_of_readme_are_fresh(name: str) -> None:
    """Settings and error codes in README follow from the code; `make tables` writes them."""
    assert tables.found(readme(), name) == "\n".join(tables.TABLES[name]())


def test_commands_in_readme_are_the_commands() -> None:
    """README lists every command with its own help; `make tables` writes the list."""
    pytest.importorskip("hub.cli")
    assert tables.found(readme(), "commands") == "\n".join(tables.TABLES["commands"]())


def test_tables_are_put_at_their_place_only() -> None:
    """Text around a table stays; a missing place is named."""
    text = "a\n<!-- table: x -->\nold\n<!-- end -->\nb\n"
    assert tables.replaced(text, "x", "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match="table: y"):
        tables.replaced(text, "y", "new")


def test_error_codes_are_words_and_exits_are_the_known_four() -> None:
    """Scripts can rely on them: 0 done, 1 refused, 2 input, 3 try later; what can be retried says so."""
    waiting: list[type[TongbanError]] = [TongbanError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        assert re.fullmatch(r"[a-z_]+", kind.code)
        assert kind.exit_code in {1, 2, 3}
        assert 400 <= kind.http_status <= 599
        assert kind.retryable or kind.exit_code != 3
        assert kind.__doc__


def test_every_file_of_a_nodes_folder_is_explained() -> None:
    """An administrator finds what each file holds and what losing it costs."""
    text = readme()
    for name in ("config.toml", "tongban.sqlite3", "keys/", "tls/node.pem", "run/api.json", "logs/", "lock"):
        assert f"| `{name}" in text


def test_links_of_readme_lead_somewhere() -> None:
    """Every file that README points at is there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", readme())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_each_example_is_named_in_readme() -> None:
    """Who looks for a start finds the example of his tier."""
    for path in (ROOT / "configs").glob("node-*.toml"):
        assert path.name in readme()
    assert set(SECTIONS) >= {"listen", "uplink"}
