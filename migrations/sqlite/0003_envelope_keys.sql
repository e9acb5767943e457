-- Keys: the installation's key-encryption key is random and rests under a wrapping key from outside; authorities whose
-- keys are in tokens say how they came there. An installation of before is begun anew.

-- One row. Replaced by a compare-and-set on its version when the wrapping key changes.
DROP TABLE installation;
CREATE TABLE installation (
    one        INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    wrapping   TEXT    NOT NULL CHECK (wrapping IN ('credential', 'passphrase', 'token')),
    salt       BLOB    NOT NULL CHECK (length(salt) = 16),
    sealed_key BLOB    NOT NULL,
    changed_at INTEGER NOT NULL,
    version    INTEGER NOT NULL
) STRICT;

-- Of a key in a token: what the token said of it when the authority was requested.
ALTER TABLE authority ADD COLUMN key_origin TEXT;
