-- The audit trail: one hash chain per replica. What was in its place before is not carried over: it proved nothing.
DROP TABLE event;

-- `hash` is SHA-256 over all the rest (docs/audit.md); `detail` is JSON, kept as the text that was hashed.
CREATE TABLE audit (
    replica    TEXT   NOT NULL,
    position   INTEGER NOT NULL CHECK (position >= 0),
    at         INTEGER NOT NULL,
    kind       TEXT   NOT NULL,
    actor      TEXT   NOT NULL,
    remote     TEXT   NOT NULL,
    rule       TEXT   NOT NULL,
    request_id TEXT   NOT NULL,
    detail     TEXT   NOT NULL,
    previous   BLOB  NOT NULL CHECK (length(previous) = 32),
    hash       BLOB  NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (replica, position)
) STRICT;
-- What happened lately, on whichever replica.
CREATE INDEX audit_newest ON audit (at, replica, position);

-- Where each chain ends. Its lock orders those who append; `seal` is what the database alone cannot make.
CREATE TABLE audit_head (
    replica  TEXT   PRIMARY KEY,
    position INTEGER NOT NULL CHECK (position >= 0),
    hash     BLOB  NOT NULL CHECK (length(hash) = 32),
    seal     BLOB  NOT NULL CHECK (length(seal) = 32),
    at       INTEGER NOT NULL
) STRICT;

-- How far the trail was handed on to a collector: to be gone on from by whichever server does it next.
CREATE TABLE audit_export (
    sink     TEXT NOT NULL,
    replica  TEXT NOT NULL,
    position INTEGER NOT NULL CHECK (position >= 0),
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (sink, replica)
) STRICT;
