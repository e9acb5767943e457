-- Searching among a million: each condition that few records may fit has an index that gives them newest first, day of
-- expiry by day of expiry, so that a page costs the same wherever it is.

DROP INDEX certificate_issued;
CREATE INDEX certificate_expires ON certificate (expires_day, issued_at, serial);
DROP INDEX certificate_key;
CREATE INDEX certificate_key ON certificate (key_digest, expires_day, issued_at, serial);
CREATE INDEX certificate_caller ON certificate (caller, expires_day, issued_at, serial);
CREATE INDEX certificate_authority ON certificate (authority, expires_day, issued_at, serial);
CREATE INDEX certificate_cluster ON certificate (cluster, expires_day, issued_at, serial);
-- Not of what nearly every certificate has: recording those costs nothing more, and looking through all finds them.
CREATE INDEX certificate_profile ON certificate (profile, expires_day, issued_at, serial)
    WHERE profile <> 'workload' AND profile <> 'workload-ephemeral';

-- The certificate's time of issue: revocations are listed in the order of the certificates.
ALTER TABLE revocation ADD COLUMN issued_at INTEGER NOT NULL DEFAULT 0;
UPDATE revocation SET issued_at = c.issued_at FROM certificate c
    WHERE c.authority = revocation.authority AND c.serial = revocation.serial
    AND hex(substr(revocation.serial, 1, 3)) = printf('01%04X', c.expires_day);
CREATE INDEX revocation_revoked ON revocation (issued_at, serial) WHERE reason <> 6;
CREATE INDEX revocation_held ON revocation (issued_at, serial) WHERE reason = 6;
