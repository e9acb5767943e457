-- The audit trail: one hash chain per replica. What was in its place before is not carried over: it proved nothing.
DROP TABLE event;

-- `hash` is SHA-256 over all the rest (docs/audit.md); `detail` is JSON, kept as the text that was hashed.
CREATE TABLE audit (
    replica    text   NOT NULL,
    position   bigint NOT NULL CHECK (position >= 0),
    at         bigint NOT NULL,
    kind       text   NOT NULL,
    actor      text   NOT NULL,
    remote     text   NOT NULL,
    rule       text   NOT NULL,
    request_id text   NOT NULL,
    detail     text   NOT NULL,
    previous   bytea  NOT NULL CHECK (length(previous) = 32),
    hash       bytea  NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (replica, position)
);
-- What happened lately, on whichever replica.
CREATE INDEX audit_newest ON audit (at, replica, position);

-- Where each chain ends. Its lock orders those who append; `seal` is what the database alone cannot make.
CREATE TABLE audit_head (
    replica  text   PRIMARY KEY,
    position bigint NOT NULL CHECK (position >= 0),
    hash     bytea  NOT NULL CHECK (length(hash) = 32),
    seal     bytea  NOT NULL CHECK (length(seal) = 32),
    at       bigint NOT NULL
);

-- How far the trail was handed on to a collector: to be gone on from by whichever server does it next.
CREATE TABLE audit_export (
    sink     text NOT NULL,
    replica  text NOT NULL,
    position bigint NOT NULL CHECK (position >= 0),
    hash     bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (sink, replica)
);
