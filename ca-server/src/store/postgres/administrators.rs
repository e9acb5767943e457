//! Roles, proposals, and requests that came before.

use std::collections::BTreeSet;

use pki::crypto::Digest;
use pki::name::ClusterName;
use pki::time::Timestamp;

use super::Postgres;
use super::administration::changed;
use crate::store::StoreError;
use crate::store::administrators::{BindingRow, ProposalRow, Remembering};
use crate::store::model::NewAudit;
use crate::store::rows::{RawBinding, RawProposal, all, write_scope};

const PROPOSAL: &str = "id, act, kind, cluster, changes, state, created_at, created_by, expires_at, decided_at, decided_by, outcome, seal, version";

impl Postgres {
    pub(in crate::store) async fn bindings(&self) -> Result<Vec<BindingRow>, StoreError> {
        let rows: Vec<RawBinding> = sqlx::query_as(
            "SELECT id, principal, role, clusters, created_at, created_by, seal FROM role_binding \
             ORDER BY principal, id",
        )
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn insert_binding(
        &self,
        binding: &BindingRow,
        audit: &NewAudit,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO role_binding (id, principal, role, clusters, created_at, created_by, seal) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&binding.id)
        .bind(&binding.principal)
        .bind(binding.role.as_str())
        .bind(write_scope(&binding.scope))
        .bind(binding.created_at.unix())
        .bind(&binding.created_by)
        .bind(binding.seal.as_slice())
        .execute(&mut *tx)
        .await?;
        changed(&mut tx).await?;
        self.commit(tx, std::slice::from_ref(audit)).await
    }

    pub(in crate::store) async fn delete_binding(
        &self,
        id: &str,
        audit: &NewAudit,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        // First: of two who take each other's role at once, the second waits here and finds itself the last.
        changed(&mut tx).await?;
        let deleted = sqlx::query(
            "DELETE FROM role_binding WHERE id = $1 \
             AND (role <> 'security-officer' OR clusters IS NOT NULL OR EXISTS ( \
             SELECT 1 FROM role_binding other WHERE other.id <> $1 \
             AND other.role = 'security-officer' AND other.clusters IS NULL))",
        )
        .bind(id)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if deleted == 0 {
            return Ok(false);
        }
        self.commit(tx, std::slice::from_ref(audit)).await?;
        Ok(true)
    }

    pub(in crate::store) async fn proposals(
        &self,
        among: Option<&BTreeSet<ClusterName>>,
        after: Option<(Timestamp, &str)>,
        limit: u32,
    ) -> Result<Vec<ProposalRow>, StoreError> {
        let among = among.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let (at, id) = after.map_or((i64::MAX, ""), |(at, id)| (at.unix(), id));
        let rows: Vec<RawProposal> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT {PROPOSAL} FROM proposal WHERE (created_at, id) < ($1, $2) AND ($4::text[] IS NULL OR cluster = ANY ($4)) \
             ORDER BY created_at DESC, id DESC LIMIT $3"
        )))
        .bind(at)
        .bind(id)
        .bind(i64::from(limit))
        .bind(among)
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn proposal(
        &self,
        id: &str,
    ) -> Result<Option<ProposalRow>, StoreError> {
        let row: Option<RawProposal> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT {PROPOSAL} FROM proposal WHERE id = $1"
        )))
        .bind(id)
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn insert_proposal(
        &self,
        proposal: &ProposalRow,
        audit: &NewAudit,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO proposal (id, act, kind, cluster, changes, state, created_at, created_by, \
             expires_at, seal, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1)",
        )
        .bind(&proposal.id)
        .bind(&proposal.act)
        .bind(&proposal.kind)
        .bind(proposal.cluster.as_ref().map(|cluster| cluster.as_str()))
        .bind(&proposal.changes)
        .bind(proposal.state.as_str())
        .bind(proposal.created_at.unix())
        .bind(&proposal.created_by)
        .bind(proposal.expires_at.unix())
        .bind(proposal.seal.as_slice())
        .execute(&mut *tx)
        .await?;
        self.commit(tx, std::slice::from_ref(audit)).await
    }

    pub(in crate::store) async fn decide_proposal(
        &self,
        proposal: &ProposalRow,
        audit: &NewAudit,
    ) -> Result<(), StoreError> {
        let (at, by) = proposal.decided.as_ref().map_or((None, None), |(at, by)| {
            (Some(at.unix()), Some(by.as_str()))
        });
        let mut tx = self.begin().await?;
        let updated = sqlx::query(
            "UPDATE proposal SET state = $3, decided_at = $4, decided_by = $5, outcome = $6, \
             version = version + 1 WHERE id = $1 AND version = $2",
        )
        .bind(&proposal.id)
        .bind(proposal.version)
        .bind(proposal.state.as_str())
        .bind(at)
        .bind(by)
        .bind(proposal.outcome.as_deref())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if updated == 0 {
            return Err(StoreError::Conflict(
                "the proposal was decided in the meantime",
            ));
        }
        self.commit(tx, std::slice::from_ref(audit)).await
    }

    pub(in crate::store) async fn remember(
        &self,
        principal: &str,
        key: &str,
        request: &Digest,
        now: Timestamp,
        cut_off: Timestamp,
        forget: Timestamp,
    ) -> Result<Remembering, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM idempotency WHERE at < $1")
            .bind(forget.unix())
            .execute(&mut *tx)
            .await?;
        // Whoever comes second at the same time waits here, and finds the row of the first.
        let fresh = sqlx::query(
            "INSERT INTO idempotency (principal, key, request, at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (principal, key) DO UPDATE SET at = excluded.at \
             WHERE idempotency.answer IS NULL AND idempotency.at < $5 \
             AND idempotency.request = excluded.request",
        )
        .bind(principal)
        .bind(key)
        .bind(request.as_slice())
        .bind(now.unix())
        .bind(cut_off.unix())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if fresh > 0 {
            tx.commit().await?;
            return Ok(Remembering::Fresh);
        }
        let (known, answer): (Vec<u8>, Option<Vec<u8>>) = sqlx::query_as(
            "SELECT request, answer FROM idempotency WHERE principal = $1 AND key = $2",
        )
        .bind(principal)
        .bind(key)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(match answer {
            _ if known != request => Remembering::Other,
            Some(answer) => Remembering::Answered(answer),
            None => Remembering::UnderWay,
        })
    }

    pub(in crate::store) async fn remember_answer(
        &self,
        principal: &str,
        key: &str,
        answer: &[u8],
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE idempotency SET answer = $3 WHERE principal = $1 AND key = $2")
            .bind(principal)
            .bind(key)
            .bind(answer)
            .execute(&self.writes)
            .await?;
        Ok(())
    }

    pub(in crate::store) async fn forget_request(
        &self,
        principal: &str,
        key: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM idempotency WHERE principal = $1 AND key = $2 AND answer IS NULL")
            .bind(principal)
            .bind(key)
            .execute(&self.writes)
            .await?;
        Ok(())
    }
}
