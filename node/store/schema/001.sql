-- Tongban store, schema 1. Integer ids everywhere: a hash as primary key writes four times the pages.
BEGIN IMMEDIATE;

-- Facts about this store itself: node, network, incarnation, serials. One row a name.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- A log, or a rival branch of one. A node's own log is one of them.
CREATE TABLE logs (
    id          INTEGER PRIMARY KEY,
    node        TEXT NOT NULL,
    incarnation BLOB NOT NULL CHECK (length(incarnation) = 16),
    branch      BLOB NOT NULL DEFAULT x'',  -- link of the first differing leaf, for a rival branch; else empty
    suite       INTEGER NOT NULL DEFAULT 1,
    key         BLOB NOT NULL,              -- public key that signs it, 32 bytes
    start       INTEGER NOT NULL DEFAULT 0, -- first index held here (a branch starts where it differs)
    size        INTEGER NOT NULL,           -- entries held without a gap from the beginning; 0 where only bundles came
    peaks       BLOB NOT NULL,              -- compact range over [0, size), 32 bytes a peak
    root        BLOB NOT NULL,              -- root over [0, size), x'' where only bundles came
    receipted   INTEGER NOT NULL DEFAULT 0, -- at its author's hub: newest time at which the author was heard, ms
    committed   INTEGER NOT NULL DEFAULT 0, -- … the largest size to which the author committed itself by a signed head
    heads       BLOB,                       -- … such heads, not reached yet: msgpack of [[size, root, heard before it, ms]]
    UNIQUE (node, incarnation, branch)
) STRICT;

-- Every entry held, as its author wrote it. Append-only: no code updates raw.
CREATE TABLE entries (
    id      INTEGER PRIMARY KEY,            -- order of arrival here
    log     INTEGER NOT NULL REFERENCES logs (id),
    idx     INTEGER NOT NULL,               -- 0-based index in the log
    case_id INTEGER,                        -- cases.id, NULL outside cases
    raw     BLOB NOT NULL,                  -- header bytes
    body    BLOB,                           -- body bytes, NULL where withheld or none
    UNIQUE (log, idx)
) STRICT;
CREATE INDEX entries_case ON entries (case_id, id) WHERE case_id IS NOT NULL;

-- Signed checkpoints, as they came: what is relayed. Two histories of one log may seal the same span.
CREATE TABLE checkpoints (
    id        INTEGER PRIMARY KEY,
    log       INTEGER NOT NULL REFERENCES logs (id),
    start     INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    raw       BLOB NOT NULL,
    signature BLOB NOT NULL,
    whole     INTEGER NOT NULL,             -- 1: its root is ours at this size; 0: it came with a bundle and proves its entries only
    UNIQUE (log, size, start, signature)
) STRICT;

-- For entries that came in bundles: their checkpoint, and their path inside its run (32 bytes a hash).
CREATE TABLE paths (
    entry      INTEGER PRIMARY KEY REFERENCES entries (id),
    checkpoint INTEGER NOT NULL REFERENCES checkpoints (id),
    path       BLOB NOT NULL
) STRICT;

-- What hubs have receipted, the newest per hub and log and every step on the way for logs that began here.
CREATE TABLE receipts (
    log   INTEGER NOT NULL REFERENCES logs (id),
    hub   TEXT NOT NULL,
    size  INTEGER NOT NULL,
    at    INTEGER NOT NULL,                 -- received_at of the hub, ms
    entry INTEGER NOT NULL REFERENCES entries (id),
    PRIMARY KEY (log, hub, size)
) STRICT, WITHOUT ROWID;

-- Two signed histories under one index: evidence against the author or a relay. Never deleted.
CREATE TABLE evidence (
    id     INTEGER PRIMARY KEY,
    log    INTEGER NOT NULL REFERENCES logs (id),
    idx    INTEGER NOT NULL,                -- first index at which they differ
    first  BLOB NOT NULL,                   -- signed checkpoint held, msgpack
    second BLOB NOT NULL,                   -- signed checkpoint that disagrees, msgpack
    seen_at INTEGER NOT NULL,
    UNIQUE (log, idx, second)
) STRICT;

-- Registers held, in their order, and the facts that they take in.
CREATE TABLE registers (
    number INTEGER PRIMARY KEY,
    entry  INTEGER NOT NULL REFERENCES entries (id)
) STRICT;

CREATE TABLE facts (
    entry  INTEGER PRIMARY KEY REFERENCES entries (id),
    leaf   BLOB NOT NULL UNIQUE,
    number INTEGER                          -- register that takes it in, NULL until one does
) STRICT;
CREATE INDEX facts_number ON facts (number);

-- PROJECTION. A case as its entries make it; dropped and rebuilt by `tongban rebuild`.
CREATE TABLE cases (
    id        INTEGER PRIMARY KEY,
    key       BLOB NOT NULL UNIQUE CHECK (length(key) = 16),
    number    TEXT,                         -- printed label; NULL until the opening is here
    item      TEXT,
    state     TEXT NOT NULL DEFAULT 'waiting',
    holder    TEXT,
    opener    TEXT,
    opened_at INTEGER,
    delivered INTEGER NOT NULL DEFAULT 0,
    simple    INTEGER NOT NULL DEFAULT 0,   -- 1: the fast path may extend it
    waiting   INTEGER NOT NULL DEFAULT 0,   -- 1: something it rests on is not here yet
    entries   INTEGER NOT NULL DEFAULT 0,   -- entries held
    salt      BLOB,                         -- the case salt, where the opening's body is here
    open_log  INTEGER,                      -- log of the opening
    context   BLOB                          -- the fold's context, encoded
) STRICT;
CREATE INDEX cases_number ON cases (number);
CREATE INDEX cases_holder ON cases (holder, state);
CREATE INDEX cases_waiting ON cases (id) WHERE waiting = 1;

-- PROJECTION. Names, for search: single characters and bigrams; rowid = cases.id.
CREATE VIRTUAL TABLE names USING fts5 (grams, content='', tokenize="unicode61 remove_diacritics 0", detail=full);

-- PROJECTION. Events taken in from other systems, by their own ids.
CREATE TABLE sources (
    source TEXT PRIMARY KEY,
    entry  INTEGER NOT NULL REFERENCES entries (id)
) STRICT, WITHOUT ROWID;

-- What each child still has to be told: one row per transaction, child and case. Positions only grow.
CREATE TABLE feed (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    child       TEXT NOT NULL,
    case_id     INTEGER NOT NULL,
    entry_first INTEGER NOT NULL,           -- entries.id from which on; 0 = the whole case
    entry_last  INTEGER NOT NULL
) STRICT;
CREATE INDEX feed_child ON feed (child, position);

-- Which start of the program gave out which positions: after a restore the same positions are given out again.
CREATE TABLE feed_runs (
    start INTEGER PRIMARY KEY,              -- first position of the run; it reaches to the next one's
    run   BLOB NOT NULL UNIQUE              -- 16 random bytes
) STRICT;

-- At a child: what its parent has acknowledged of each log.
CREATE TABLE acks (
    log  INTEGER PRIMARY KEY REFERENCES logs (id),
    size INTEGER NOT NULL
) STRICT;

-- At a child: how far it has pulled. One row a cursor.
CREATE TABLE cursors (
    name        TEXT PRIMARY KEY,
    incarnation BLOB NOT NULL,
    position    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- At a hub: when each child was last heard, and the trail of its sessions (`protocol.trail`).
CREATE TABLE contacts (
    node  TEXT PRIMARY KEY,
    at    INTEGER NOT NULL,
    trail BLOB                              -- NULL before its first session
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 1;
COMMIT;
