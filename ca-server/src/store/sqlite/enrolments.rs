//! Enrolments: making, finding and withdrawing them. They are consumed where records are written.

use pki::crypto::Digest;
use pki::time::Timestamp;

use super::Sqlite;
use super::administration::changed;
use crate::store::StoreError;
use crate::store::model::{EnrolmentRow, NewAudit};
use crate::store::rows::{RawEnrolment, all};

impl Sqlite {
    pub(in crate::store) async fn insert_enrolment(
        &self,
        enrolment: &EnrolmentRow,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO enrolment (id, hash, cluster, pattern, profile, expires_at, created_at, \
             created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&enrolment.id)
        .bind(enrolment.hash.as_slice())
        .bind(enrolment.cluster.as_str())
        .bind(enrolment.pattern.as_str())
        .bind(enrolment.profile.as_str())
        .bind(enrolment.expires_at.unix())
        .bind(enrolment.created_at.unix())
        .bind(&enrolment.created_by)
        .execute(&mut *tx)
        .await?;
        self.commit(tx, audit).await
    }

    pub(in crate::store) async fn enrolment_by_hash(
        &self,
        hash: &Digest,
    ) -> Result<Option<EnrolmentRow>, StoreError> {
        let row: Option<RawEnrolment> = sqlx::query_as(
            "SELECT id, hash, cluster, pattern, profile, expires_at, created_at, created_by, \
             consumed_at, key_digest, revoked_at, authority, serial FROM enrolment WHERE hash = $1",
        )
        .bind(hash.as_slice())
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn enrolment(
        &self,
        id: &str,
    ) -> Result<Option<EnrolmentRow>, StoreError> {
        let row: Option<RawEnrolment> = sqlx::query_as(
            "SELECT id, hash, cluster, pattern, profile, expires_at, created_at, created_by, \
             consumed_at, key_digest, revoked_at, authority, serial FROM enrolment WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn enrolments(&self) -> Result<Vec<EnrolmentRow>, StoreError> {
        let rows: Vec<RawEnrolment> = sqlx::query_as(
            "SELECT id, hash, cluster, pattern, profile, expires_at, created_at, created_by, \
             consumed_at, key_digest, revoked_at, authority, serial FROM enrolment ORDER BY created_at DESC, id",
        )
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn revoke_enrolment(
        &self,
        id: &str,
        now: Timestamp,
        audit: &[NewAudit],
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let revoked = sqlx::query(
            "UPDATE enrolment SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
        )
        .bind(id)
        .bind(now.unix())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if revoked > 0 {
            changed(&mut tx).await?;
        }
        self.commit(tx, if revoked > 0 { audit } else { &[] })
            .await?;
        Ok(revoked > 0)
    }
}
