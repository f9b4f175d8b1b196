"""The private keys in a node's folder: one pair at the beginning, another with each rotation.

    signing.seed    sealing.seed        the first pair
    signing-2.seed  sealing-2.seed      the pair after the first rotation, and so on

Which of them is the node's says the store: the key of its own log. A pair that no log names was drafted by a rotation that
was interrupted, and is used by the next one. A signing key is destroyed once nobody needs it any more; sealing keys stay, for
what was sealed for them and is still on its way.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from node import faults
from node.folder import Folder
from node.ports import Entropy
from protocol import keys
from protocol.errors import StoreError

SIGNING: Final = "signing"
SEALING: Final = "sealing"
_NUMBERED: Final = re.compile(r"signing(?:-([2-9]|[1-9][0-9]{1,3}))?")


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in a folder; nothing is kept in memory."""

    folder: Folder

    def signing(self) -> list[keys.SigningKey]:
        """Return the signing keys that are here, the newest first."""
        return [self._signing(number) for number in sorted(self._numbers(), reverse=True)]

    def sealing(self, public: bytes) -> keys.SealingKey:
        """Return a sealing key by its public part; raises StoreError when it is not here."""
        for number in sorted(self._all_numbers(SEALING), reverse=True):
            key = keys.SealingKey(self.folder.load_seed(_name(SEALING, number)))
            if key.public == public:
                return key
        raise StoreError("the sealing key of this node is not in its folder", hint="Restore it from the key backup.")

    def draft(self, used: Collection[bytes], entropy: Entropy) -> tuple[keys.SigningKey, keys.SealingKey]:
        """Return the pair to go on with: durable in the folder before this returns.

        Args:
            used: public signing keys that the node had; a pair that is here and was never used is taken first.
        """
        number = max((*self._numbers(), *self._all_numbers(SEALING)), default=0)
        if number not in self._numbers() or self._signing(number).public in used:
            number += 1
        for kind in (SEALING, SIGNING):  # a crash in between leaves a sealing key that the next draft finds
            if not self.folder.seed(_name(kind, number)).exists():
                self.folder.save_seed(_name(kind, number), entropy.bytes(keys.SEED_BYTES))
            faults.point("keyring.drafted")
        return self._signing(number), keys.SealingKey(self.folder.load_seed(_name(SEALING, number)))

    def destroy(self, public: bytes) -> None:
        """Destroy a signing key; one that is not here is no error."""
        for number in self._numbers():
            if self._signing(number).public == public:
                self.folder.destroy_seed(_name(SIGNING, number))

    def _signing(self, number: int) -> keys.SigningKey:
        return keys.SigningKey(self.folder.load_seed(_name(SIGNING, number)))

    def _numbers(self) -> set[int]:
        return self._all_numbers(SIGNING)

    def _all_numbers(self, kind: str) -> set[int]:
        names = (path.name.removesuffix(".seed").replace(kind, SIGNING, 1) for path in self.folder.keys.glob(f"{kind}*.seed"))
        found = (_NUMBERED.fullmatch(name) for name in names)
        return {int(match.group(1) or 1) for match in found if match is not None}


def _name(kind: str, number: int) -> str:
    return kind if number == 1 else f"{kind}-{number}"
