-- Revocation that an edge can live on: revocations are entries of their authority's log, and CRLs say up to which one
-- they go.

-- Why and when an authority's own certificate was revoked, and how its CRLs are cut: 0 shards is one complete list.
ALTER TABLE authority
    ADD COLUMN revoked_at     bigint,
    ADD COLUMN revoked_reason bigint CHECK (revoked_reason BETWEEN 0 AND 10 AND revoked_reason NOT IN (6, 7, 8)),
    ADD COLUMN crl_shards     bigint  NOT NULL DEFAULT 0 CHECK (crl_shards BETWEEN 0 AND 256),
    ADD COLUMN crl_delta      boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT authority_revoked_since CHECK ((state = 'revoked') = (revoked_at IS NOT NULL)
        AND (revoked_at IS NULL) = (revoked_reason IS NULL));

-- Closed when the authority is revoked: whoever records holds this row's lock, so that nothing is recorded after.
-- The index of its last revocation tells replicas that there is something new; -1 means none.
ALTER TABLE issuance_log
    ADD COLUMN closed          boolean NOT NULL DEFAULT false,
    ADD COLUMN last_revocation bigint  NOT NULL DEFAULT -1;

-- The last second of the certificate: a CRL lists it until one past that.
ALTER TABLE revocation ADD COLUMN not_after bigint NOT NULL DEFAULT 253402300799;

-- What happened to certificates after they were issued, at its place in the authority's log. No serial number: the
-- authority itself was revoked.
CREATE TABLE revocation_log (
    authority text   NOT NULL REFERENCES authority (id),
    log_index bigint NOT NULL,
    kind      text   NOT NULL CHECK (kind IN ('revoked', 'held', 'lifted', 'authority-revoked')),
    serial    bytea,
    at        bigint NOT NULL,
    reason    bigint NOT NULL CHECK (reason BETWEEN 0 AND 10 AND reason NOT IN (7, 8)),
    not_after bigint NOT NULL,
    actor     text   NOT NULL,
    leaf_hash bytea  NOT NULL CHECK (length(leaf_hash) = 32),
    PRIMARY KEY (authority, log_index),
    CHECK ((serial IS NULL) = (kind = 'authority-revoked'))
);

-- The log index up to which the list goes; -1 before the first revocation.
ALTER TABLE crl ADD COLUMN covers bigint NOT NULL DEFAULT -1;

-- Shards and the delta that belong to the complete list, replaced with it.
CREATE TABLE crl_part (
    authority text  NOT NULL REFERENCES authority (id),
    part      text  NOT NULL,
    der       bytea NOT NULL,
    PRIMARY KEY (authority, part)
);

-- The offline roots' CRLs, as they came back from their ceremonies.
CREATE TABLE root_crl (
    root        bytea  PRIMARY KEY CHECK (length(root) = 32),
    number      bigint NOT NULL CHECK (number >= 0),
    der         bytea  NOT NULL,
    this_update bigint NOT NULL,
    next_update bigint NOT NULL,
    imported_at bigint NOT NULL
);

-- A key that is in other hands: everything that was issued for it.
CREATE INDEX certificate_key ON certificate (key_digest);

-- The certificate that an enrolment was used for: who asks again, because the answer was lost, gets the same one.
ALTER TABLE enrolment ADD COLUMN authority text;
ALTER TABLE enrolment ADD COLUMN serial bytea;
