-- Authorities come into force when everyone has heard of them, and go out of it when they end.

-- Since when an authority and its first CRL are in everyone's bundles; and where readers of its shards find them: both
-- are written into its leaves, and stay as they are.
ALTER TABLE authority
    ADD COLUMN published_at bigint,
    ADD COLUMN public_url   text;

-- A revoked authority retires too, once it has ended.
ALTER TABLE authority
    DROP CONSTRAINT authority_revoked_since,
    ADD CONSTRAINT authority_revoked_since CHECK ((state <> 'revoked' OR revoked_at IS NOT NULL)
        AND (revoked_at IS NULL OR state IN ('revoked', 'retired'))
        AND (revoked_at IS NULL) = (revoked_reason IS NULL));
