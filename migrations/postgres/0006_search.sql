-- Searching among a million: each condition that few records may fit has an index that gives them newest first, so that a
-- page costs the same wherever it is.

-- In the order of a page: a key that is used over and over is read page by page too.
DROP INDEX certificate_key;
CREATE INDEX certificate_key ON certificate (key_digest, issued_at, serial);
CREATE INDEX certificate_caller ON certificate (caller, issued_at, serial);
CREATE INDEX certificate_authority ON certificate (authority, issued_at, serial);
CREATE INDEX certificate_cluster ON certificate (cluster, issued_at, serial);
-- Not of what nearly every certificate has: recording those costs nothing more, and looking through all finds them.
CREATE INDEX certificate_profile ON certificate (profile, issued_at, serial)
    WHERE profile <> 'workload' AND profile <> 'workload-ephemeral';

-- The certificate's time of issue: revocations are listed in the order of the certificates.
ALTER TABLE revocation ADD COLUMN issued_at bigint NOT NULL DEFAULT 0;
UPDATE revocation v SET issued_at = c.issued_at FROM certificate c
    WHERE c.authority = v.authority AND c.serial = v.serial
    AND c.expires_day = get_byte(v.serial, 1) * 256 + get_byte(v.serial, 2);
CREATE INDEX revocation_revoked ON revocation (issued_at, serial) WHERE reason <> 6;
CREATE INDEX revocation_held ON revocation (issued_at, serial) WHERE reason = 6;
