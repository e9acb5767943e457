-- The first schema. Times are whole seconds since 1970, lists of text are JSON, digests are raw SHA-256.

-- One row: how the installation's key-encryption key is derived and recognized.
CREATE TABLE installation (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    kek_salt  bytea   NOT NULL CHECK (length(kek_salt) = 16),
    kek_check bytea   NOT NULL
);

-- One row. It grows in the transaction of each change that running servers must notice; whoever holds its lock is
-- the only one who changes, so a reader never sees a number before the change that it stands for.
CREATE TABLE change_sequence (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    sequence bigint  NOT NULL
);
INSERT INTO change_sequence (one, sequence) VALUES (true, 0);

CREATE TABLE cluster (
    name         text   PRIMARY KEY,
    trust_domain text   NOT NULL,
    definition   text   NOT NULL,
    version      bigint NOT NULL
);

CREATE TABLE authority (
    id          text   PRIMARY KEY,
    cluster     text   NOT NULL REFERENCES cluster (name),
    generation  bigint NOT NULL CHECK (generation > 0),
    state       text   NOT NULL CHECK (state IN
        ('requested', 'imported', 'published', 'active', 'retiring', 'retired', 'revoked')),
    subject     text   NOT NULL,
    spki        bytea  NOT NULL UNIQUE,
    sealed_key  bytea,
    key_uri     text,
    request     bytea  NOT NULL,
    chain       bytea  NOT NULL,
    not_after   bigint,
    activate_at bigint,
    created_at  bigint NOT NULL,
    version     bigint NOT NULL,
    UNIQUE (cluster, generation)
);
-- Two replicas that rotate at once: one of them fails here.
CREATE UNIQUE INDEX authority_one_active ON authority (cluster) WHERE state = 'active';

-- The next index of each authority's issuance log. Made with its authority; its lock orders all who record.
CREATE TABLE issuance_log (
    authority  text   PRIMARY KEY REFERENCES authority (id),
    next_index bigint NOT NULL CHECK (next_index >= 0)
);

CREATE TABLE bundle (
    trust_domain text   PRIMARY KEY,
    sequence     bigint NOT NULL
);

CREATE TABLE bundle_root (
    trust_domain text   NOT NULL REFERENCES bundle (trust_domain),
    sha256       bytea  NOT NULL CHECK (length(sha256) = 32),
    der          bytea  NOT NULL,
    added_at     bigint NOT NULL,
    PRIMARY KEY (trust_domain, sha256)
);

CREATE TABLE crl (
    authority   text   PRIMARY KEY REFERENCES authority (id),
    number      bigint NOT NULL CHECK (number >= 0),
    der         bytea  NOT NULL,
    this_update bigint NOT NULL,
    next_update bigint NOT NULL
);

CREATE TABLE enrolment (
    id          text   PRIMARY KEY,
    hash        bytea  NOT NULL UNIQUE CHECK (length(hash) = 32),
    cluster     text   NOT NULL REFERENCES cluster (name),
    pattern     text   NOT NULL,
    profile     text   NOT NULL,
    expires_at  bigint NOT NULL,
    created_at  bigint NOT NULL,
    created_by  text   NOT NULL,
    consumed_at bigint,
    key_digest  bytea  CHECK (length(key_digest) = 32),
    revoked_at  bigint,
    CHECK ((consumed_at IS NULL) = (key_digest IS NULL))
);

-- The records. No default partition: a record for a day that has none is refused, not misplaced. No foreign key to it
-- or from it: the one would stop partitions from being dropped, the other would lock the authority for each record.
CREATE TABLE certificate (
    authority          text    NOT NULL,
    expires_day        integer NOT NULL,
    serial             bytea   NOT NULL,
    cluster            text    NOT NULL,
    log_index          bigint  NOT NULL,
    leaf_hash          bytea   NOT NULL,
    issued_at          bigint  NOT NULL,
    not_before         bigint  NOT NULL,
    not_after          bigint  NOT NULL,
    names              text    NOT NULL,
    key_digest         bytea   NOT NULL,
    request_digest     bytea   NOT NULL,
    certificate_digest bytea   NOT NULL,
    der                bytea   NOT NULL,
    caller_kind        text    NOT NULL,
    caller             text    NOT NULL,
    caller_detail      text,
    profile            text    NOT NULL,
    asked_names        text    NOT NULL,
    asked_ttl          bigint,
    granted_ttl        bigint  NOT NULL,
    rule               text    NOT NULL,
    bundle_sequence    bigint  NOT NULL,
    request_id         text    NOT NULL,
    PRIMARY KEY (authority, expires_day, serial),
    CONSTRAINT certificate_serial_layout CHECK (
        length(serial) = 19 AND get_byte(serial, 0) = 1
        AND expires_day = get_byte(serial, 1) * 256 + get_byte(serial, 2))
) PARTITION BY RANGE (expires_day);
-- Newest first within a window of expiry; it only ever grows at its end.
CREATE INDEX certificate_issued ON certificate (issued_at, serial);

-- Where a name's records lie. Not partitioned: a search by name that probed each partition would lock them all,
-- which is what this table is there to avoid.
CREATE TABLE certificate_name (
    name        text    NOT NULL,
    authority   text    NOT NULL,
    expires_day integer NOT NULL,
    serial      bytea   NOT NULL,
    issued_at   bigint  NOT NULL
);
CREATE INDEX certificate_name_newest ON certificate_name (name, issued_at, serial);
-- For retention alone, which deletes whole days: the rows lie nearly in that order.
CREATE INDEX certificate_name_expires ON certificate_name USING brin (expires_day);

CREATE TABLE revocation (
    authority  text     NOT NULL REFERENCES authority (id),
    serial     bytea    NOT NULL,
    revoked_at bigint   NOT NULL,
    reason     bigint   NOT NULL CHECK (reason BETWEEN 0 AND 10 AND reason <> 7),
    PRIMARY KEY (authority, serial)
);

-- One row: the latest time that this installation has seen. 0 means none yet.
CREATE TABLE clock (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    high_water bigint  NOT NULL
);
INSERT INTO clock (one, high_water) VALUES (true, 0);

-- Each time that an operator accepted the clock after a step.
CREATE TABLE clock_acceptance (
    sequence    bigint PRIMARY KEY,
    accepted_at bigint NOT NULL,
    accepted_by text   NOT NULL
);

CREATE TABLE event (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     bigint NOT NULL,
    actor  text   NOT NULL,
    kind   text   NOT NULL,
    detail text   NOT NULL
);

CREATE TABLE lease (
    name       text   PRIMARY KEY,
    holder     text   NOT NULL,
    expires_at bigint NOT NULL
);
