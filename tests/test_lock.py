"""The locked dependencies serve every machine that we promise, shown from the lock files alone."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

from tests.sources import ROOT

LOCKS: Final = ("requirements.lock", "requirements-dev.lock")
PYTHONS: Final = ("3.11", "3.12", "3.13")
PLATFORMS: Final = {
    "win_amd64": r"win_amd64",
    "x86_64": r"(manylinux_2_([0-9]|1[0-9]|2[0-8])|manylinux(1|2010|2014))_x86_64",
    "aarch64": r"(manylinux_2_([0-9]|1[0-9]|2[0-8])|manylinux2014)_aarch64",
}


@dataclass(frozen=True)
class Locked:
    """One package of a lock file: its version, marker, hashes, and (first digits of hash, wheel name) of each file."""

    version: str
    marker: str
    hashes: tuple[str, ...]
    files: tuple[tuple[str, str], ...]


def read(name: str) -> dict[str, Locked]:
    """Parse a lock file strictly: every line has one of the known forms."""
    found: dict[str, Locked] = {}
    for block in re.split(r"\n(?=[a-z0-9])", (ROOT / name).read_text(encoding="utf-8"))[1:]:
        head, *lines = block.rstrip("\n").split("\n")
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; (.+?))? \\", head)
        assert match, head
        hashes = [re.fullmatch(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?", line) for line in lines]
        files = [re.fullmatch(r"    # ([0-9a-f]{16}) (\S+\.whl)", line) for line in lines]
        assert all(one or other for one, other in zip(hashes, files, strict=True)), block
        found[match[1]] = Locked(
            match[2],
            match[3] or "",
            tuple(one[1] for one in hashes if one),
            tuple((other[1], other[2]) for other in files if other),
        )
    return found


def tags(locked: Locked) -> set[Tag]:
    return {tag for _, file in locked.files for tag in parse_wheel_filename(file)[3]}


def fits(tag: Tag, python: str, platform: str) -> bool:
    """Whether CPython of this version on this platform takes a wheel with this tag."""
    minor = int(python.partition(".")[2])
    own = tag.interpreter == f"cp3{minor}" and tag.abi == f"cp3{minor}"
    stable = tag.abi == "abi3" and re.fullmatch(r"cp3([0-9]+)", tag.interpreter) and int(tag.interpreter[3:]) <= minor
    plain = tag.abi == "none" and tag.interpreter in {"py3", f"py3{minor}"}
    return bool(own or stable or plain) and (
        tag.platform == "any" or re.fullmatch(PLATFORMS[platform], tag.platform) is not None
    )


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_has_a_wheel_for(name: str, platform: str, python: str) -> None:
    """No machine that we serve needs a compiler."""
    lacking = [
        package
        for package, locked in read(name).items()
        if not (locked.marker and platform != "win_amd64")
        if not any(fits(tag, python, platform) for tag in tags(locked))
    ]
    assert not lacking


def test_compiled_packages_are_really_compiled() -> None:
    """The check above looks at something: the known compiled packages come as one wheel for each platform."""
    locked = read("requirements.lock")
    compiled = {name for name, package in locked.items() if all(tag.platform != "any" for tag in tags(package))}
    assert compiled >= {
        "aiohttp",
        "cffi",
        "cryptography",
        "frozenlist",
        "msgpack",
        "msgspec",
        "multidict",
        "yarl",
        "zstandard",
    }


@pytest.mark.parametrize("name", LOCKS)
def test_each_hash_has_its_file(name: str) -> None:
    """Each hash stands beside the wheel that it is of, and the wheel is of the package and version."""
    for package, locked in read(name).items():
        assert [digest[:16] for digest in locked.hashes] == [digits for digits, _ in locked.files]
        for _, file in locked.files:
            wheel, version, _, _ = parse_wheel_filename(file)
            assert (wheel, str(version)) == (package, locked.version)


def test_the_lock_satisfies_the_project() -> None:
    """What pyproject.toml asks for is locked, in a version that it allows."""
    runtime = project()["project"]["dependencies"] + project()["build-system"]["requires"]
    develop = project()["project"]["optional-dependencies"]["dev"]
    for name, wanted in (("requirements.lock", runtime), ("requirements-dev.lock", runtime + develop)):
        locked = read(name)
        for need in map(Requirement, wanted):
            assert need.specifier.contains(locked[canonicalize_name(need.name)].version), (name, str(need))


def test_the_checks_run_on_what_is_shipped() -> None:
    """The development lock holds the very packages of the other one, hash by hash."""
    develop = read("requirements-dev.lock")
    assert {name: develop[name] for name in read("requirements.lock")} == read("requirements.lock")


@pytest.mark.parametrize("system", ["win32", "linux"])
def test_nothing_needed_is_missing(system: str) -> None:
    """Everything that a locked package needs on Windows or Linux is locked too, else pip would refuse the whole file."""
    seen = {"sys_platform": system, "platform_system": {"win32": "Windows", "linux": "Linux"}[system], "extra": ""}
    for name in LOCKS:
        locked = read(name)
        for package in locked:
            if locked[package].marker and system not in locked[package].marker:
                continue
            for need in map(Requirement, metadata.requires(package) or ()) if _installed(package) else ():
                if need.marker is None or need.marker.evaluate(seen):
                    assert canonicalize_name(need.name) in locked, (package, str(need))


def test_what_is_installed_is_what_is_locked() -> None:
    """The tests speak about the versions in the lock."""
    locked = read("requirements-dev.lock")
    installed = {name: metadata.version(name) for name in locked if _installed(name)}
    assert installed == {name: locked[name].version for name in installed}
    assert {name for name in locked if not locked[name].marker} == installed.keys()


@pytest.mark.parametrize("name", LOCKS)
def test_no_index_is_named(name: str) -> None:
    """A lock names no server: where wheels come from is each site's own matter."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
