"""Every bound on what comes from outside, in one place; the unit is the last word of the name."""

from __future__ import annotations

from typing import Final

# --- messages
MESSAGE_BYTES_MAX: Final = 1 << 20  # unpacked; the packed form is never longer
MESSAGE_DEPTH_MAX: Final = 16
MESSAGE_ITEMS_MAX: Final = 200_000  # values in one message, all levels together
ZSTD_WINDOW_BYTES_MAX: Final = 1 << 22
CARRY_PIECE_BYTES_MAX: Final = MESSAGE_BYTES_MAX + 1_024  # of a file that travels by hand: a message, sealed and signed

# --- entries
HEADER_BYTES_MAX: Final = 16 << 10
BODY_BYTES_MAX: Final = 64 << 10
LINKS_MAX: Final = 64  # of `rests`, of `saw`
TEXT_CHARS_MAX: Final = 4_000
NAME_CHARS_MAX: Final = 200
LIST_ITEMS_MAX: Final = 500  # names, tasks, files in one header field
CASE_ENTRIES_MAX: Final = 4_096  # then: continue in a new case
TIME_MS_MAX: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

# --- logs and proofs
SET_ENTRIES_MAX: Final = 1_024  # of one checkpoint's run: paths stay within 10 hashes
SET_ENTRIES: Final = 500  # what we seal at once
SET_BYTES_MAX: Final = 512 << 10  # headers and bodies of one set: whoever holds it can pass it on in one message
LOG_SIZE_MAX: Final = 1 << 48
PROOF_HASHES_MAX: Final = 64
SETS_PER_PUSH_MAX: Final = 4_096
PUSH_LOGS_MAX: Final = 500  # of one push: its receipt names each

# --- topology
NODES_MAX: Final = 100_000
DEPTH_MAX: Final = 16  # of the tree of nodes
ITEMS_MAX: Final = 20_000
RECOVERY_KEYS_MAX: Final = 16
INVITE_HOURS_MAX: Final = 24 * 365

# --- time
CLAIM_SLACK_MS: Final = 5 * 60 * 1000  # a claimed time this far outside the receipt window still counts
OFFLINE_AFTER_MS: Final = 5 * 60 * 1000  # receipted later than this after the claim: shown as entered offline (离线录入)

# --- files that people give us
INPUT_FILE_BYTES_MAX: Final = 64 << 20
INPUT_LINE_BYTES_MAX: Final = 1 << 20
INPUT_PROBLEMS_MAX: Final = 200  # named in one report
DIVISIONS_MAX: Final = 1_000_000  # rows of a division file; the whole country has 664,924
CALENDAR_DAYS_MAX: Final = 1_500  # dates in one list of a calendar: two lists fit a body
WORKING_DAYS_MAX: Final = 5_000  # of a limit or an extension: about twenty years
STAGES_MAX: Final = 50  # of a catalogue item
PATTERNS_MAX: Final = 200  # of `receive`, of `decide`: both fit a header

# --- cases
CASE_PARTIES_MAX: Final = 256
CASE_STAGES_MAX: Final = 64  # dispatches on one line
CASE_SPANS_MAX: Final = 64  # suspensions, and notices answered by material, on one line
CASE_FRESH_MAX: Final = 128  # side entries and the names they carry, kept in a context for the next step

# --- rules
ADDRESSES_MAX: Final = 8  # of one hub
INCARNATIONS_MAX: Final = 200  # of one node, in one admission or revocation: fits a header
LISTED_MAX: Final = 64  # short lists in messages: versions, capabilities

# --- lines
LINE_BYTES_PER_SECOND_MIN: Final = 1 << 10  # slower than this, either way, a request or its answer is given up
