-- Who administers: roles, acts that wait for a second person, and answers that are given again.

-- Immutable rows: another role is another binding. `clusters` is a JSON list, null where the role holds in all of them.
-- The seal is a MAC under the installation's key: a row that only the database knows of gives nothing.
CREATE TABLE role_binding (
    id         TEXT    PRIMARY KEY,
    principal  TEXT    NOT NULL,
    role       TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'security-officer')),
    clusters   TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    seal       BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT;
CREATE UNIQUE INDEX role_binding_once ON role_binding (principal, role, coalesce(clusters, ''));

-- An act that needs a second person, as it will be carried out, and what it would change.
CREATE TABLE proposal (
    id         TEXT    PRIMARY KEY,
    act        TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    cluster    TEXT,
    changes    TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('waiting', 'applied', 'failed', 'rejected', 'withdrawn')),
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    decided_at INTEGER,
    decided_by TEXT,
    outcome    TEXT,
    seal       BLOB    NOT NULL CHECK (length(seal) = 32),
    version    INTEGER NOT NULL,
    CHECK ((decided_at IS NULL) = (decided_by IS NULL))
) STRICT;
CREATE INDEX proposal_newest ON proposal (created_at, id);

-- What was answered to a request that carried an idempotency key. No answer yet: it is under way. The answer is sealed:
-- it may hold an enrolment token.
CREATE TABLE idempotency (
    principal TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    request   BLOB    NOT NULL CHECK (length(request) = 32),
    at        INTEGER NOT NULL,
    answer    BLOB,
    PRIMARY KEY (principal, key)
) STRICT;
CREATE INDEX idempotency_oldest ON idempotency (at);
