-- Revocation that an edge can live on: revocations are entries of their authority's log, and CRLs say up to which one
-- they go.

-- Why and when an authority's own certificate was revoked, and how its CRLs are cut: 0 shards is one complete list.
ALTER TABLE authority ADD COLUMN revoked_at INTEGER;
ALTER TABLE authority ADD COLUMN revoked_reason INTEGER
    CHECK (revoked_reason BETWEEN 0 AND 10 AND revoked_reason NOT IN (6, 7, 8));
ALTER TABLE authority ADD COLUMN crl_shards INTEGER NOT NULL DEFAULT 0 CHECK (crl_shards BETWEEN 0 AND 256);
ALTER TABLE authority ADD COLUMN crl_delta INTEGER NOT NULL DEFAULT 0 CHECK (crl_delta IN (0, 1));

-- Closed when the authority is revoked: nothing is recorded after. The index of its last revocation tells replicas
-- that there is something new; -1 means none.
ALTER TABLE issuance_log ADD COLUMN closed INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1));
ALTER TABLE issuance_log ADD COLUMN last_revocation INTEGER NOT NULL DEFAULT -1;

-- The last second of the certificate: a CRL lists it until one past that.
ALTER TABLE revocation ADD COLUMN not_after INTEGER NOT NULL DEFAULT 253402300799;

-- What happened to certificates after they were issued, at its place in the authority's log. No serial number: the
-- authority itself was revoked.
CREATE TABLE revocation_log (
    authority TEXT    NOT NULL REFERENCES authority (id),
    log_index INTEGER NOT NULL,
    kind      TEXT    NOT NULL CHECK (kind IN ('revoked', 'held', 'lifted', 'authority-revoked')),
    serial    BLOB,
    at        INTEGER NOT NULL,
    reason    INTEGER NOT NULL CHECK (reason BETWEEN 0 AND 10 AND reason NOT IN (7, 8)),
    not_after INTEGER NOT NULL,
    actor     TEXT    NOT NULL,
    leaf_hash BLOB    NOT NULL CHECK (length(leaf_hash) = 32),
    PRIMARY KEY (authority, log_index),
    CHECK ((serial IS NULL) = (kind = 'authority-revoked'))
) STRICT;

-- The log index up to which the list goes; -1 before the first revocation.
ALTER TABLE crl ADD COLUMN covers INTEGER NOT NULL DEFAULT -1;

-- Shards and the delta that belong to the complete list, replaced with it.
CREATE TABLE crl_part (
    authority TEXT NOT NULL REFERENCES authority (id),
    part      TEXT NOT NULL,
    der       BLOB NOT NULL,
    PRIMARY KEY (authority, part)
) STRICT;

-- The offline roots' CRLs, as they came back from their ceremonies.
CREATE TABLE root_crl (
    root        BLOB    PRIMARY KEY CHECK (length(root) = 32),
    number      INTEGER NOT NULL CHECK (number >= 0),
    der         BLOB    NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    imported_at INTEGER NOT NULL
) STRICT;

-- A key that is in other hands: everything that was issued for it.
CREATE INDEX certificate_key ON certificate (key_digest);

-- The certificate that an enrolment was used for: who asks again, because the answer was lost, gets the same one.
ALTER TABLE enrolment ADD COLUMN authority TEXT;
ALTER TABLE enrolment ADD COLUMN serial BLOB;
