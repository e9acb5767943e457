//! CRLs: each authority's own, and the offline roots'.

use pki::crypto::Digest;
use pki::name::AuthorityId;

use super::Sqlite;
use super::administration::changed;
use crate::store::StoreError;
use crate::store::model::{CrlRow, NewAudit, RootCrlRow};
use crate::store::rows::{RawCrl, RawRootCrl, all, from_position, signed};

impl Sqlite {
    pub(in crate::store) async fn crl(
        &self,
        authority: &AuthorityId,
    ) -> Result<Option<CrlRow>, StoreError> {
        // One transaction: the list and its parts belong together.
        let mut tx = self.read().await?;
        let row: Option<RawCrl> = sqlx::query_as(
            "SELECT number, der, this_update, next_update, covers FROM crl WHERE authority = $1",
        )
        .bind(authority.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let parts: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT part, der FROM crl_part WHERE authority = $1 ORDER BY part")
                .bind(authority.as_str())
                .fetch_all(&mut *tx)
                .await?;
        row.with(parts).map(Some)
    }

    pub(in crate::store) async fn put_crl(
        &self,
        authority: &AuthorityId,
        crl: &CrlRow,
        expected_number: Option<u64>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let written =
            match expected_number {
                None => sqlx::query(
                    "INSERT INTO crl (authority, number, der, this_update, next_update, covers) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (authority) DO NOTHING",
                )
                .bind(authority.as_str())
                .bind(signed(crl.number))
                .bind(&crl.der)
                .bind(crl.this_update.unix())
                .bind(crl.next_update.unix())
                .bind(from_position(crl.covers))
                .execute(&mut *tx)
                .await?,
                // A holder of the lease who wakes late fails here: its number is taken, or its list is shorter.
                Some(expected) => {
                    sqlx::query(
                        "UPDATE crl SET number = $2, der = $3, this_update = $4, next_update = $5, \
                     covers = $7 \
                     WHERE authority = $1 AND number = $6 AND number < $2 AND covers <= $7",
                    )
                    .bind(authority.as_str())
                    .bind(signed(crl.number))
                    .bind(&crl.der)
                    .bind(crl.this_update.unix())
                    .bind(crl.next_update.unix())
                    .bind(signed(expected))
                    .bind(from_position(crl.covers))
                    .execute(&mut *tx)
                    .await?
                }
            };
        if written.rows_affected() == 0 {
            return Err(StoreError::Conflict(
                "another CRL was stored meanwhile, or the number or the revocations go back",
            ));
        }
        sqlx::query("DELETE FROM crl_part WHERE authority = $1")
            .bind(authority.as_str())
            .execute(&mut *tx)
            .await?;
        for (part, der) in &crl.parts {
            sqlx::query("INSERT INTO crl_part (authority, part, der) VALUES ($1, $2, $3)")
                .bind(authority.as_str())
                .bind(part)
                .bind(der)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    pub(in crate::store) async fn root_crls(&self) -> Result<Vec<RootCrlRow>, StoreError> {
        let rows: Vec<RawRootCrl> = sqlx::query_as(
            "SELECT root, number, der, this_update, next_update, imported_at FROM root_crl \
             ORDER BY root",
        )
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn root_crl(
        &self,
        root: &Digest,
    ) -> Result<Option<RootCrlRow>, StoreError> {
        let row: Option<RawRootCrl> = sqlx::query_as(
            "SELECT root, number, der, this_update, next_update, imported_at FROM root_crl \
             WHERE root = $1",
        )
        .bind(root.as_slice())
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn put_root_crls(
        &self,
        crls: &[RootCrlRow],
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for crl in crls {
            let written = sqlx::query(
                "INSERT INTO root_crl (root, number, der, this_update, next_update, imported_at) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (root) DO UPDATE \
                 SET number = excluded.number, der = excluded.der, \
                 this_update = excluded.this_update, next_update = excluded.next_update, \
                 imported_at = excluded.imported_at \
                 WHERE root_crl.number < excluded.number \
                 AND root_crl.this_update <= excluded.this_update",
            )
            .bind(crl.root.as_slice())
            .bind(signed(crl.number))
            .bind(&crl.der)
            .bind(crl.this_update.unix())
            .bind(crl.next_update.unix())
            .bind(crl.imported_at.unix())
            .execute(&mut *tx)
            .await?;
            if written.rows_affected() == 0 {
                return Err(StoreError::Conflict(
                    "a CRL of this root with the same or a higher number, or a later date, is here already",
                ));
            }
        }
        changed(&mut tx).await?;
        self.commit(tx, audit).await
    }
}
