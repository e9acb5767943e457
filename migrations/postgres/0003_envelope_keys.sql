-- Keys: the installation's key-encryption key is random and rests under a wrapping key from outside; authorities whose
-- keys are in tokens say how they came there. An installation of before is begun anew.

-- One row. Replaced by a compare-and-set on its version when the wrapping key changes.
DROP TABLE installation;
CREATE TABLE installation (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    wrapping   text    NOT NULL CHECK (wrapping IN ('credential', 'passphrase', 'token')),
    salt       bytea   NOT NULL CHECK (length(salt) = 16),
    sealed_key bytea   NOT NULL,
    changed_at bigint  NOT NULL,
    version    bigint  NOT NULL
);

-- Of a key in a token: what the token said of it when the authority was requested.
ALTER TABLE authority ADD COLUMN key_origin text;
