"""Every error that Tongban raises on purpose, with the code that crosses the wire and the command line.

    TongbanError
    ├── PeerError            what another machine sent is wrong; our state is unchanged
    │   ├── DecodeError          not the bytes of this format
    │   ├── LimitExceeded        over a bound of `limits`
    │   ├── SignatureInvalid     signature missing, wrong, or made for another kind of thing or network
    │   ├── UnknownSigner        no enrolment of this node is known here
    │   ├── NotPermitted         authentic, but not this peer's to ask
    │   ├── ProofInvalid         a tree proof or root does not fit
    │   ├── GapFound             entries before these are missing; carries the size held
    │   ├── VersionUnsupported   no common protocol version
    │   ├── WrongNetwork         another network's message
    │   ├── SessionEnded         greet again
    │   ├── JoinRefused          joining code used, expired or forged
    │   ├── RollbackDetected     a peer shows less than it signed before (alarm)
    │   └── ForkDetected         two signed histories under one index (alarm)
    ├── CommandRefused       the user's wish cannot be done now; nothing was written
    │   ├── NotFound
    │   ├── TransitionRefused
    │   ├── EditConflict
    │   ├── CloneSuspected       another machine may be at work under this node's name
    │   └── MachineRetired       somebody chose that this machine takes no more entries
    ├── LinkError            the network's fault; try again
    ├── StoreError           the disk's or the folder's fault
    │   ├── PortTaken            a port or address of this machine cannot be had now
    │   ├── StoreBusy            another process has the folder
    │   ├── StoreFull            no room on the disk
    │   ├── DiskFailed           the disk did not take, or give, what it should
    │   └── StoreDamaged         what is in the file is not what was written
    └── InputError           a file, setting or option that the user gave is wrong
        └── InputProblems        several such faults of one file, each with its place
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class TongbanError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: one sentence, whose fault and what; never personal data.
        hint: what to do next.
        data_safe: whether everything that was called saved is still safe.
    """

    code = "error"
    retryable = False
    http_status = 500
    exit_code = 1
    default_hint = ""

    def __init__(self, message: str, *, hint: str = "", data_safe: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.data_safe = data_safe

    def as_dict(self) -> dict[str, object]:
        """Return the form that `--json` and the APIs show."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "data_safe": self.data_safe,
        }


class PeerError(TongbanError):
    """What another machine sent is wrong; nothing here has changed."""

    code = "peer"
    http_status = 400


class DecodeError(PeerError):
    """The bytes are not of this format, not canonical, or cut off."""

    code = "decode"
    default_hint = "The sender is damaged or of another version; update it, then sync again."


class LimitExceeded(PeerError):
    """A message, list or nesting is over its bound."""

    code = "limit"
    http_status = 413
    default_hint = "Send less at once."


class SignatureInvalid(PeerError):
    """A signature is missing, wrong, or was made for something else."""

    code = "signature"
    http_status = 403
    default_hint = "Check that the sender belongs to this network and that its key was not replaced."


class UnknownSigner(PeerError):
    """No enrolment of the signing node is known here."""

    code = "unknown_signer"
    http_status = 403
    retryable = True
    default_hint = "The enrolment may still be on its way: sync the hub that enrolled the node, then try again."

    def __init__(self, message: str, *, node: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.node = node


class NotPermitted(PeerError):
    """Authentic, but this peer may not ask for it."""

    code = "not_permitted"
    http_status = 403


class ProofInvalid(PeerError):
    """A tree proof, run or root does not fit what was signed."""

    code = "proof"


class GapFound(PeerError):
    """Entries before the pushed ones are missing; `size_held` tells from where to send."""

    code = "gap"
    http_status = 409
    retryable = True

    def __init__(self, message: str, *, size_held: int, log: object = None, hint: str = "") -> None:
        super().__init__(message, hint=hint or "Send the log from the size held.")
        self.size_held = size_held
        self.log = log  # a `protocol.log.LogId`


class VersionUnsupported(PeerError):
    """The two programs have no protocol version in common."""

    code = "version"
    http_status = 426
    default_hint = "Update the older of the two programs."


class WrongNetwork(PeerError):
    """The message belongs to another network."""

    code = "wrong_network"
    http_status = 403


class SessionEnded(PeerError):
    """The session is unknown or over; greet again."""

    code = "session"
    http_status = 401
    retryable = True


class JoinRefused(PeerError):
    """The joining code was used, has expired, or is not genuine."""

    code = "join_refused"
    http_status = 403
    default_hint = "Ask the administrator of the hub for a new joining code."


class RollbackDetected(PeerError):
    """A peer shows less than it signed before."""

    code = "rollback"
    http_status = 409


class ForkDetected(PeerError):
    """Two signed histories exist under one index; both are kept as evidence."""

    code = "fork"
    http_status = 409


class CommandRefused(TongbanError):
    """The command cannot be done now; nothing was written."""

    code = "refused"
    http_status = 409


class NotFound(CommandRefused):
    """No such case, node, item, officer or entry here."""

    code = "not_found"
    http_status = 404


class TransitionRefused(CommandRefused):
    """The case is not in a state, or not in the hands, that allows this."""

    code = "transition"


class EditConflict(CommandRefused):
    """Somebody else wrote to the case in the meantime."""

    code = "conflict"


class CloneSuspected(CommandRefused):
    """Another machine seems to be at work under this node's name; what advances a case waits until somebody chooses."""

    code = "clone"
    default_hint = (
        "Taking in, material and notes go on. Look at `tongban clones`; then give `tongban clones keep` on the machine that goes "
        "on, and `tongban clones retire` on the other."
    )


class MachineRetired(CommandRefused):
    """Somebody chose that this machine takes no more entries; what it holds can be read."""

    code = "retired"
    default_hint = "Work on the machine that was kept; `tongban clones keep` lets this one go on after all."


class LinkError(TongbanError):
    """The network or the other machine did not answer."""

    code = "link"
    http_status = 503
    retryable = True
    exit_code = 3
    default_hint = "Nothing is lost; it is sent when the line is back."


class Overloaded(LinkError):
    """The hub has too much to do; `retry_after_s` is the slot it gives."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, hint="Wait for the given time, then try again.")
        self.retry_after_s = retry_after_s


class StoreError(TongbanError):
    """The disk or the folder refuses."""

    code = "store"
    http_status = 507


class StoreBusy(StoreError):
    """Another process has this folder open."""

    code = "store_busy"
    retryable = True
    exit_code = 3
    default_hint = "Another Tongban process uses this folder: stop it, or give the command while it runs."


class StoreFull(StoreError):
    """The disk has no room; nothing of this was written, and what was saved before is safe."""

    code = "store_full"
    retryable = True
    exit_code = 3
    default_hint = "Free some space on the disk of the --data folder, then do it again; reading still works."


class DiskFailed(StoreError):
    """The disk did not take or give what it should; this was not saved, what was called saved before is."""

    code = "disk_failed"
    retryable = True
    exit_code = 3
    default_hint = "Look whether it is there before you enter it again; have the disk checked, and make a backup now."


class StoreDamaged(StoreError):
    """The store's file is not what this program wrote; nothing was changed in it."""

    code = "store_damaged"
    default_hint = (
        "Keep a copy of the folder. `tongban restore FILE` puts a backup in its place; the parent then gives back what it has."
    )

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, data_safe=False)


class PortTaken(StoreError):
    """An address of this machine cannot be had now; nothing was changed."""

    code = "port_taken"
    retryable = True
    exit_code = 3


class InputError(TongbanError):
    """A file, setting or option is wrong; the message names file, line or item, and field."""

    code = "input"
    http_status = 400
    exit_code = 2


class InputProblems(InputError):
    """A file has one or more faults; `problems` lists each with line or item, and field.

    Args:
        where: the file, as the user named it.
        problems: one sentence each, without the file's name; at least one.
    """

    default_hint = "Correct these places, then give the command again; nothing was changed."
    shown_max = 20

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(self._joined())

    def _joined(self) -> str:
        """Return one line for one fault, else a count and one line each, the first `shown_max` of them."""
        if len(self.problems) == 1:
            return f"{self.where}: {self.problems[0]}"
        lines = [f"{self.where}: {len(self.problems)} problems", *self.problems[: self.shown_max]]
        if len(self.problems) > self.shown_max:
            lines.append(f"… and {len(self.problems) - self.shown_max} more")
        return "\n  ".join(lines)

    def as_dict(self) -> dict[str, object]:
        """Return the form of `InputError` with the list of faults added."""
        return {**super().as_dict(), "problems": list(self.problems)}
