//! The installation, clusters and authorities.

use pki::name::{AuthorityId, ClusterName};
use pki::time::Timestamp;

use super::{Connection, Postgres};
use crate::store::StoreError;
use crate::store::model::{AuthorityRow, ClusterRow, Installation, NewAudit};
use crate::store::rows::{
    RawAuthority, RawCluster, RawInstallation, all, join_chain, write_origin,
};

impl Postgres {
    pub(in crate::store) async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        let row: Option<RawInstallation> = sqlx::query_as(
            "SELECT wrapping, salt, sealed_key, changed_at, version FROM installation",
        )
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn create_installation(
        &self,
        installation: &Installation,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO installation (wrapping, salt, sealed_key, changed_at, version) \
             VALUES ($1, $2, $3, $4, 1)",
        )
        .bind(installation.wrapping.as_str())
        .bind(installation.salt.as_slice())
        .bind(&installation.sealed_key)
        .bind(installation.changed_at.unix())
        .execute(&mut *self.writer().await?)
        .await?;
        Ok(())
    }

    pub(in crate::store) async fn rewrap_installation(
        &self,
        installation: &Installation,
        expected_version: i64,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        // Until the commit the old wrapping key opens, from then on the new one: never both, never neither.
        let mut tx = self.begin().await?;
        let updated = sqlx::query(
            "UPDATE installation SET wrapping = $2, salt = $3, sealed_key = $4, changed_at = $5, \
             version = version + 1 WHERE version = $1",
        )
        .bind(expected_version)
        .bind(installation.wrapping.as_str())
        .bind(installation.salt.as_slice())
        .bind(&installation.sealed_key)
        .bind(installation.changed_at.unix())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if updated == 0 {
            return Err(StoreError::Conflict(
                "the key-encryption key was put under another key in the meantime",
            ));
        }
        self.commit(tx, audit).await
    }

    pub(in crate::store) async fn clusters(&self) -> Result<Vec<ClusterRow>, StoreError> {
        let rows: Vec<RawCluster> = sqlx::query_as(
            "SELECT name, trust_domain, definition, version FROM cluster ORDER BY name",
        )
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn cluster(
        &self,
        name: &ClusterName,
    ) -> Result<Option<ClusterRow>, StoreError> {
        let row: Option<RawCluster> = sqlx::query_as(
            "SELECT name, trust_domain, definition, version FROM cluster WHERE name = $1",
        )
        .bind(name.as_str())
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn insert_cluster(
        &self,
        cluster: &ClusterRow,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO cluster (name, trust_domain, definition, version) VALUES ($1, $2, $3, 1)",
        )
        .bind(cluster.name.as_str())
        .bind(cluster.trust_domain.as_str())
        .bind(&cluster.definition)
        .execute(&mut *tx)
        .await?;
        changed(&mut tx).await?;
        self.commit(tx, audit).await
    }

    pub(in crate::store) async fn update_cluster(
        &self,
        cluster: &ClusterRow,
        expected_version: i64,
        audit: &[NewAudit],
    ) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let updated = sqlx::query(
            "UPDATE cluster SET trust_domain = $3, definition = $4, version = version + 1 \
             WHERE name = $1 AND version = $2",
        )
        .bind(cluster.name.as_str())
        .bind(expected_version)
        .bind(cluster.trust_domain.as_str())
        .bind(&cluster.definition)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if updated == 0 {
            return Err(StoreError::Conflict("the cluster has changed or is gone"));
        }
        changed(&mut tx).await?;
        self.commit(tx, audit).await?;
        Ok(expected_version + 1)
    }

    pub(in crate::store) async fn delete_cluster(
        &self,
        name: &ClusterName,
        audit: &[NewAudit],
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        // Its enrolments go with it; its authorities do not: the foreign key refuses.
        sqlx::query("DELETE FROM enrolment WHERE cluster = $1")
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
        let deleted = sqlx::query("DELETE FROM cluster WHERE name = $1")
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if deleted == 0 {
            return Ok(false);
        }
        changed(&mut tx).await?;
        self.commit(tx, audit).await?;
        Ok(true)
    }

    pub(in crate::store) async fn authorities(&self) -> Result<Vec<AuthorityRow>, StoreError> {
        let rows: Vec<RawAuthority> = sqlx::query_as(
            "SELECT id, cluster, generation, state, subject, spki, sealed_key, key_uri, key_origin, request, \
             chain, not_after, activate_at, created_at, revoked_at, revoked_reason, \
             crl_shards, crl_delta, published_at, public_url, version FROM authority ORDER BY cluster, generation",
        )
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn authority(
        &self,
        id: &AuthorityId,
    ) -> Result<Option<AuthorityRow>, StoreError> {
        let row: Option<RawAuthority> = sqlx::query_as(
            "SELECT id, cluster, generation, state, subject, spki, sealed_key, key_uri, key_origin, request, \
             chain, not_after, activate_at, created_at, revoked_at, revoked_reason, \
             crl_shards, crl_delta, published_at, public_url, version FROM authority WHERE id = $1",
        )
        .bind(id.as_str())
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn insert_authority(
        &self,
        authority: &AuthorityRow,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO authority (id, cluster, generation, state, subject, spki, sealed_key, \
             key_uri, key_origin, request, chain, not_after, activate_at, created_at, \
             crl_shards, crl_delta, published_at, public_url, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, 1)",
        )
        .bind(authority.id.as_str())
        .bind(authority.cluster.as_str())
        .bind(i64::from(authority.generation))
        .bind(authority.state.as_str())
        .bind(&authority.subject)
        .bind(&authority.spki)
        .bind(&authority.sealed_key)
        .bind(authority.key_uri.as_ref().map(ToString::to_string))
        .bind(authority.key_origin.map(write_origin))
        .bind(&authority.request)
        .bind(join_chain(&authority.chain))
        .bind(authority.not_after.map(Timestamp::unix))
        .bind(authority.activate_at.map(Timestamp::unix))
        .bind(authority.created_at.unix())
        .bind(i64::from(authority.crl_shape.shards))
        .bind(authority.crl_shape.delta)
        .bind(authority.published_at.map(Timestamp::unix))
        .bind(&authority.public_url)
        .execute(&mut *tx)
        .await?;
        sqlx::query("INSERT INTO issuance_log (authority, next_index) VALUES ($1, 0)")
            .bind(authority.id.as_str())
            .execute(&mut *tx)
            .await?;
        changed(&mut tx).await?;
        self.commit(tx, audit).await
    }

    pub(in crate::store) async fn update_authority(
        &self,
        authority: &AuthorityRow,
        expected_version: i64,
        audit: &[NewAudit],
    ) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let updated = sqlx::query(
            "UPDATE authority SET state = $3, sealed_key = $4, request = $5, \
             chain = $6, not_after = $7, activate_at = $8, crl_delta = $9, published_at = $10, \
             version = version + 1 \
             WHERE id = $1 AND version = $2",
        )
        .bind(authority.id.as_str())
        .bind(expected_version)
        .bind(authority.state.as_str())
        .bind(&authority.sealed_key)
        .bind(&authority.request)
        .bind(join_chain(&authority.chain))
        .bind(authority.not_after.map(Timestamp::unix))
        .bind(authority.activate_at.map(Timestamp::unix))
        .bind(authority.crl_shape.delta)
        .bind(authority.published_at.map(Timestamp::unix))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if updated == 0 {
            return Err(StoreError::Conflict("the authority has changed or is gone"));
        }
        changed(&mut tx).await?;
        self.commit(tx, audit).await?;
        Ok(expected_version + 1)
    }

    pub(in crate::store) async fn swap_active(
        &self,
        new: &AuthorityId,
        expected_version: i64,
        now: Timestamp,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        // Until the commit the old one is active for everyone; a crash anywhere before it leaves it so.
        let mut tx = self.begin().await?;
        sqlx::query(
            "UPDATE authority SET state = 'retiring', version = version + 1 \
             WHERE state = 'active' AND cluster = (SELECT cluster FROM authority WHERE id = $1)",
        )
        .bind(new.as_str())
        .execute(&mut *tx)
        .await?;
        // Who swapped a moment earlier has made another one active: the one-active index refuses ours.
        let activated = sqlx::query(
            "UPDATE authority SET state = 'active', activate_at = $3, version = version + 1 \
             WHERE id = $1 AND version = $2 AND state = 'published'",
        )
        .bind(new.as_str())
        .bind(expected_version)
        .bind(now.unix())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if activated == 0 {
            return Err(StoreError::Conflict(
                "the authority has changed, is gone or is not published",
            ));
        }
        changed(&mut tx).await?;
        self.commit(tx, audit).await
    }
}

/// Tells the running servers. The last statement of a transaction: from here to the commit no other change passes.
pub(super) async fn changed(connection: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE change_sequence SET sequence = sequence + 1")
        .execute(connection)
        .await
        .map(|_| ())
}
