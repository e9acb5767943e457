-- Authorities come into force when everyone has heard of them.

-- Since when an authority and its first CRL are in everyone's bundles; and where readers of its shards find them: both
-- are written into its leaves, and stay as they are.
ALTER TABLE authority ADD COLUMN published_at INTEGER;
ALTER TABLE authority ADD COLUMN public_url TEXT;
