-- Who administers: roles, acts that wait for a second person, and answers that are given again.

-- Immutable rows: another role is another binding. `clusters` is a JSON list, null where the role holds in all of them.
-- The seal is a MAC under the installation's key: a row that only the database knows of gives nothing.
CREATE TABLE role_binding (
    id         text   PRIMARY KEY,
    principal  text   NOT NULL,
    role       text   NOT NULL CHECK (role IN ('viewer', 'operator', 'security-officer')),
    clusters   text,
    created_at bigint NOT NULL,
    created_by text   NOT NULL,
    seal       bytea  NOT NULL CHECK (length(seal) = 32)
);
CREATE UNIQUE INDEX role_binding_once ON role_binding (principal, role, coalesce(clusters, ''));

-- An act that needs a second person, as it will be carried out, and what it would change.
CREATE TABLE proposal (
    id         text   PRIMARY KEY,
    act        text   NOT NULL,
    kind       text   NOT NULL,
    cluster    text,
    changes    text   NOT NULL,
    state      text   NOT NULL CHECK (state IN ('waiting', 'applied', 'failed', 'rejected', 'withdrawn')),
    created_at bigint NOT NULL,
    created_by text   NOT NULL,
    expires_at bigint NOT NULL,
    decided_at bigint,
    decided_by text,
    outcome    text,
    seal       bytea  NOT NULL CHECK (length(seal) = 32),
    version    bigint NOT NULL,
    CHECK ((decided_at IS NULL) = (decided_by IS NULL))
);
CREATE INDEX proposal_newest ON proposal (created_at, id);

-- What was answered to a request that carried an idempotency key. No answer yet: it is under way. The answer is sealed:
-- it may hold an enrolment token.
CREATE TABLE idempotency (
    principal text   NOT NULL,
    key       text   NOT NULL,
    request   bytea  NOT NULL CHECK (length(request) = 32),
    at        bigint NOT NULL,
    answer    bytea,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_oldest ON idempotency (at);
