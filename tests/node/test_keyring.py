"""The keys in a folder: which are here, which one is drafted, what is destroyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import faults
from node.folder import Folder
from node.keyring import Keyring
from protocol import keys
from protocol.errors import StoreError
from tests.node.building import SeededEntropy


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    """A folder with its first pair."""
    folder = Folder(tmp_path)
    folder.create()
    folder.save_seed("signing", b"1" * 32)
    folder.save_seed("sealing", b"2" * 32)
    return Keyring(folder)


def publics(ring: Keyring) -> list[bytes]:
    return [key.public for key in ring.signing()]


def test_a_draft_is_on_disk_and_taken_again_until_it_is_used(ring: Keyring) -> None:
    """An interrupted rotation leaves one pair, not one with each try; once the node spoke with it the next one follows."""
    first = keys.SigningKey(b"1" * 32).public
    key, sealing = ring.draft({first}, SeededEntropy())
    again, same = ring.draft({first}, SeededEntropy(9))
    assert (again.public, same.public) == (key.public, sealing.public)
    assert publics(ring) == [key.public, first]
    assert ring.sealing(sealing.public).public == sealing.public
    third, _ = ring.draft({first, key.public}, SeededEntropy(3))
    assert publics(ring) == [third.public, key.public, first]
    assert len(ring.folder.load_seed("signing-3")) == 32


@pytest.mark.parametrize("passes", [1, 2])
def test_a_crash_in_a_draft_leaves_what_the_next_one_uses(ring: Keyring, passes: int) -> None:
    """Killed behind either file: the draft that follows is whole, and no more keys lie about than pairs."""
    first, left = keys.SigningKey(b"1" * 32).public, [passes]

    def hook(label: str) -> None:
        left[0] -= label == "keyring.drafted"
        if left[0] == 0:
            raise faults.Crash(label)

    with faults.hooked(hook), pytest.raises(faults.Crash):
        ring.draft({first}, SeededEntropy())
    key, sealing = ring.draft({first}, SeededEntropy(5))
    assert ring.sealing(sealing.public).public == sealing.public
    assert publics(ring) == [key.public, first]


def test_a_destroyed_key_is_gone_and_its_sealing_key_stays(ring: Keyring) -> None:
    """What was sealed for the old pair can still be opened; destroying again is no error."""
    first = keys.SigningKey(b"1" * 32).public
    key, _ = ring.draft({first}, SeededEntropy())
    for _ in range(2):
        ring.destroy(first)
    assert publics(ring) == [key.public]
    assert not ring.folder.seed("signing").exists()
    assert ring.sealing(keys.SealingKey(b"2" * 32).public)
    with pytest.raises(StoreError):
        ring.sealing(bytes(32))
    following, _ = ring.draft({first, key.public}, SeededEntropy(4))
    assert publics(ring) == [following.public, key.public]
