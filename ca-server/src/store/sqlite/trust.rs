//! Bundles.

use pki::crypto::{Digest, sha256};
use pki::name::TrustDomain;
use pki::time::Timestamp;

use super::Sqlite;
use super::administration::changed;
use crate::store::StoreError;
use crate::store::model::{BundleRow, NewAudit};
use crate::store::rows::{RawBundleRoot, bundles, number, signed};

impl Sqlite {
    pub(in crate::store) async fn bundle(
        &self,
        trust_domain: &TrustDomain,
    ) -> Result<BundleRow, StoreError> {
        // One statement: the sequence and the roots belong together.
        let rows: Vec<RawBundleRoot> = sqlx::query_as(
            "SELECT b.trust_domain, b.sequence, r.der FROM bundle b \
             LEFT JOIN bundle_root r ON r.trust_domain = b.trust_domain \
             WHERE b.trust_domain = $1 ORDER BY r.added_at, r.sha256",
        )
        .bind(trust_domain.as_str())
        .fetch_all(&self.reads)
        .await?;
        Ok(bundles(rows)?.pop().unwrap_or_else(|| BundleRow {
            trust_domain: trust_domain.clone(),
            sequence: 0,
            roots: Vec::new(),
        }))
    }

    pub(in crate::store) async fn bundles(&self) -> Result<Vec<BundleRow>, StoreError> {
        let rows: Vec<RawBundleRoot> = sqlx::query_as(
            "SELECT b.trust_domain, b.sequence, r.der FROM bundle b \
             LEFT JOIN bundle_root r ON r.trust_domain = b.trust_domain \
             ORDER BY b.trust_domain, r.added_at, r.sha256",
        )
        .fetch_all(&self.reads)
        .await?;
        bundles(rows)
    }

    pub(in crate::store) async fn add_root(
        &self,
        trust_domain: &TrustDomain,
        der: &[u8],
        now: Timestamp,
        audit: &[NewAudit],
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO bundle (trust_domain, sequence) VALUES ($1, 0) \
             ON CONFLICT (trust_domain) DO NOTHING",
        )
        .bind(trust_domain.as_str())
        .execute(&mut *tx)
        .await?;
        let added = sqlx::query(
            "INSERT INTO bundle_root (trust_domain, sha256, der, added_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (trust_domain, sha256) DO NOTHING",
        )
        .bind(trust_domain.as_str())
        .bind(sha256(der).as_slice())
        .bind(der)
        .bind(now.unix())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        let sequence: i64 = sqlx::query_scalar(
            "UPDATE bundle SET sequence = sequence + $2 WHERE trust_domain = $1 RETURNING sequence",
        )
        .bind(trust_domain.as_str())
        .bind(signed(added))
        .fetch_one(&mut *tx)
        .await?;
        if added > 0 {
            changed(&mut tx).await?;
        }
        self.commit(tx, if added > 0 { audit } else { &[] }).await?;
        number("bundle", "sequence", sequence)
    }

    pub(in crate::store) async fn remove_root(
        &self,
        trust_domain: &TrustDomain,
        sha256: &Digest,
        audit: &[NewAudit],
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let removed =
            sqlx::query("DELETE FROM bundle_root WHERE trust_domain = $1 AND sha256 = $2")
                .bind(trust_domain.as_str())
                .bind(sha256.as_slice())
                .execute(&mut *tx)
                .await?
                .rows_affected();
        let sequence: Option<i64> = sqlx::query_scalar(
            "UPDATE bundle SET sequence = sequence + $2 WHERE trust_domain = $1 RETURNING sequence",
        )
        .bind(trust_domain.as_str())
        .bind(signed(removed))
        .fetch_optional(&mut *tx)
        .await?;
        if removed > 0 {
            changed(&mut tx).await?;
        }
        self.commit(tx, if removed > 0 { audit } else { &[] })
            .await?;
        number("bundle", "sequence", sequence.unwrap_or(0))
    }
}
