-- The first schema. Times are whole seconds since 1970, lists of text are JSON, digests are raw SHA-256.

-- One row: how the installation's key-encryption key is derived and recognized.
CREATE TABLE installation (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    kek_salt  BLOB   NOT NULL CHECK (length(kek_salt) = 16),
    kek_check BLOB   NOT NULL
) STRICT;

-- One row. It grows in the transaction of each change that running servers must notice.
CREATE TABLE change_sequence (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    sequence INTEGER  NOT NULL
) STRICT;
INSERT INTO change_sequence (one, sequence) VALUES (1, 0);

CREATE TABLE cluster (
    name         TEXT   PRIMARY KEY,
    trust_domain TEXT   NOT NULL,
    definition   TEXT   NOT NULL,
    version      INTEGER NOT NULL
) STRICT;

CREATE TABLE authority (
    id          TEXT   PRIMARY KEY,
    cluster     TEXT   NOT NULL REFERENCES cluster (name),
    generation  INTEGER NOT NULL CHECK (generation > 0),
    state       TEXT   NOT NULL CHECK (state IN
        ('requested', 'imported', 'published', 'active', 'retiring', 'retired', 'revoked')),
    subject     TEXT   NOT NULL,
    spki        BLOB  NOT NULL UNIQUE,
    sealed_key  BLOB,
    key_uri     TEXT,
    request     BLOB  NOT NULL,
    chain       BLOB  NOT NULL,
    not_after   INTEGER,
    activate_at INTEGER,
    created_at  INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    UNIQUE (cluster, generation)
) STRICT;
-- Two replicas that rotate at once: one of them fails here.
CREATE UNIQUE INDEX authority_one_active ON authority (cluster) WHERE state = 'active';

-- The next index of each authority's issuance log. Made with its authority.
CREATE TABLE issuance_log (
    authority  TEXT   PRIMARY KEY REFERENCES authority (id),
    next_index INTEGER NOT NULL CHECK (next_index >= 0)
) STRICT;

CREATE TABLE bundle (
    trust_domain TEXT   PRIMARY KEY,
    sequence     INTEGER NOT NULL
) STRICT;

CREATE TABLE bundle_root (
    trust_domain TEXT   NOT NULL REFERENCES bundle (trust_domain),
    sha256       BLOB  NOT NULL CHECK (length(sha256) = 32),
    der          BLOB  NOT NULL,
    added_at     INTEGER NOT NULL,
    PRIMARY KEY (trust_domain, sha256)
) STRICT;

CREATE TABLE crl (
    authority   TEXT   PRIMARY KEY REFERENCES authority (id),
    number      INTEGER NOT NULL CHECK (number >= 0),
    der         BLOB  NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL
) STRICT;

CREATE TABLE enrolment (
    id          TEXT   PRIMARY KEY,
    hash        BLOB  NOT NULL UNIQUE CHECK (length(hash) = 32),
    cluster     TEXT   NOT NULL REFERENCES cluster (name),
    pattern     TEXT   NOT NULL,
    profile     TEXT   NOT NULL,
    expires_at  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    created_by  TEXT   NOT NULL,
    consumed_at INTEGER,
    key_digest  BLOB  CHECK (length(key_digest) = 32),
    revoked_at  INTEGER,
    CHECK ((consumed_at IS NULL) = (key_digest IS NULL))
) STRICT;

-- The records: a rowid table, which is written more than twice as fast as one without.
CREATE TABLE certificate (
    authority          TEXT    NOT NULL,
    expires_day        INTEGER NOT NULL,
    serial             BLOB   NOT NULL,
    cluster            TEXT    NOT NULL,
    log_index          INTEGER  NOT NULL,
    leaf_hash          BLOB   NOT NULL,
    issued_at          INTEGER  NOT NULL,
    not_before         INTEGER  NOT NULL,
    not_after          INTEGER  NOT NULL,
    names              TEXT    NOT NULL,
    key_digest         BLOB   NOT NULL,
    request_digest     BLOB   NOT NULL,
    certificate_digest BLOB   NOT NULL,
    der                BLOB   NOT NULL,
    caller_kind        TEXT    NOT NULL,
    caller             TEXT    NOT NULL,
    caller_detail      TEXT,
    profile            TEXT    NOT NULL,
    asked_names        TEXT    NOT NULL,
    asked_ttl          INTEGER,
    granted_ttl        INTEGER  NOT NULL,
    rule               TEXT    NOT NULL,
    bundle_sequence    INTEGER  NOT NULL,
    request_id         TEXT    NOT NULL,
    PRIMARY KEY (authority, expires_day, serial),
    CONSTRAINT certificate_serial_layout CHECK (
        length(serial) = 19 AND hex(substr(serial, 1, 3)) = printf('01%04X', expires_day))
) STRICT;
-- Newest first within a window of expiry; it only ever grows at its end.
CREATE INDEX certificate_issued ON certificate (issued_at, serial);

-- Where a name's records lie.
CREATE TABLE certificate_name (
    name        TEXT    NOT NULL,
    authority   TEXT    NOT NULL,
    expires_day INTEGER NOT NULL,
    serial      BLOB   NOT NULL,
    issued_at   INTEGER  NOT NULL
) STRICT;
CREATE INDEX certificate_name_newest ON certificate_name (name, issued_at, serial);
CREATE INDEX certificate_name_expires ON certificate_name (expires_day);

CREATE TABLE revocation (
    authority  TEXT     NOT NULL REFERENCES authority (id),
    serial     BLOB    NOT NULL,
    revoked_at INTEGER   NOT NULL,
    reason     INTEGER   NOT NULL CHECK (reason BETWEEN 0 AND 10 AND reason <> 7),
    PRIMARY KEY (authority, serial)
) STRICT;

-- One row: the latest time that this installation has seen. 0 means none yet.
CREATE TABLE clock (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    high_water INTEGER  NOT NULL
) STRICT;
INSERT INTO clock (one, high_water) VALUES (1, 0);

-- Each time that an operator accepted the clock after a step.
CREATE TABLE clock_acceptance (
    sequence    INTEGER PRIMARY KEY,
    accepted_at INTEGER NOT NULL,
    accepted_by TEXT   NOT NULL
) STRICT;

CREATE TABLE event (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    actor  TEXT   NOT NULL,
    kind   TEXT   NOT NULL,
    detail TEXT   NOT NULL
) STRICT;

CREATE TABLE lease (
    name       TEXT   PRIMARY KEY,
    holder     TEXT   NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
