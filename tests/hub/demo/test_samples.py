"""The sample files are found beside the source and in an installed wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from hub.demo import samples
from protocol.errors import InputError
from tests.sources import ROOT


def test_the_samples_are_valid() -> None:
    """The city publishes them as they are."""
    assert {item["code"] for item in samples.catalogue()} >= {"employment-hardship", "senior-allowance-check"}
    assert [calendar["region"] for calendar in samples.calendars()] == ["000000000000", "650000000000"]


def test_the_wheel_carries_the_samples() -> None:
    """What the demo reads is among the data files of the distribution, in folders of the same names."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    files = {Path(place).name: files for place, files in tool["setuptools"]["data-files"].items()}
    assert files == {
        "catalogue": [f"configs/catalogue/{samples.CATALOGUE}"],
        "calendars": [f"configs/calendars/{name}" for name in samples.CALENDARS],
    }


def test_an_installed_sample_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the source, the file that came with the distribution is taken."""
    place = tmp_path / "share" / "tongban" / "catalogue" / "demo.toml"
    file = SimpleNamespace(parts=("..", "share", "tongban", "catalogue", "demo.toml"), locate=lambda: place)
    monkeypatch.setattr("importlib.metadata.files", lambda _name: [file])
    assert samples.locate("catalogue", "demo.toml", tmp_path / "nowhere") == place


def test_a_missing_sample_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither here nor installed: said by name."""
    monkeypatch.setattr("importlib.metadata.files", lambda _name: [])
    with pytest.raises(InputError, match=r"catalogue/demo\.toml"):
        samples.locate("catalogue", "demo.toml", tmp_path)
