//! The audit trail: an entry and what it tells of are one change, and a chain has no gap.

use std::collections::BTreeSet;

use ca_server::store::model::{AuditCursor, AuditFilter, NewAudit};
use ca_server::store::{Auditor, Store, StoreError, StoreUrl};
use hsm::audit::AuditKey;
use hsm::sealed::KeyEncryptionKey;
use pki::audit::{Walk, verify};

use sqlx::{Connection, PgConnection, SqliteConnection};

use super::{NOW, URL, cluster, is_conflict, later};

pub(crate) const REPLICA: &str = "replica-1";

/// Who writes as `replica`, under a key of its own.
pub(crate) fn auditor(replica: &str) -> Auditor {
    let key = AuditKey::derive(&KeyEncryptionKey::generate().unwrap()).unwrap();
    Auditor::new(replica.parse().unwrap(), key)
}

/// One entry of this kind, some seconds later.
pub(crate) fn told(kind: &str, seconds: i64) -> Vec<NewAudit> {
    vec![NewAudit {
        at: if seconds == 0 { NOW } else { later(seconds) },
        kind: kind.to_owned(),
        actor: "admin".to_owned(),
        remote: "local".to_owned(),
        rule: "local".to_owned(),
        request_id: "r".to_owned(),
        detail: r#"{"x":1}"#.to_owned(),
    }]
}

/// Does what someone does who has the database, and not the program.
async fn tamper(store: &Store, statement: &'static str) {
    let url = URL.with(Clone::clone);
    let changed = match store {
        Store::Postgres(_) => {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let done = sqlx::query(statement).execute(&mut connection).await;
            done.unwrap().rows_affected()
        }
        Store::Sqlite(_) => {
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            let done = sqlx::query(statement).execute(&mut connection).await;
            done.unwrap().rows_affected()
        }
    };
    assert!(changed > 0, "{statement}");
}

async fn kinds(store: &Store) -> Vec<String> {
    let entries = store.audit_entries(REPLICA, 0, 1_000).await.unwrap();
    entries.into_iter().map(|entry| entry.kind).collect()
}

pub(crate) async fn an_entry_is_written_with_its_change_or_not_at_all(store: Store) {
    let row = cluster("central");
    store
        .insert_cluster(&row, &told("insert", 0))
        .await
        .unwrap();
    assert!(is_conflict(
        store.insert_cluster(&row, &told("again", 1)).await
    ));
    assert!(is_conflict(
        store.update_cluster(&row, 9, &told("stale", 1)).await
    ));
    store
        .update_cluster(&row, 1, &told("update", 1))
        .await
        .unwrap();
    let domain = row.trust_domain.clone();
    for kind in ["root", "the same root"] {
        let added = store.add_root(&domain, b"a", NOW, &told(kind, 2)).await;
        assert_eq!(added.unwrap(), 1);
    }
    let deleted = store.delete_cluster(&row.name, &told("delete", 3)).await;
    assert!(deleted.unwrap());
    let deleted = store.delete_cluster(&row.name, &told("nothing", 3)).await;
    assert!(!deleted.unwrap());
    let entries = store.audit_entries(REPLICA, 0, 10).await.unwrap();
    assert_eq!(kinds(&store).await, ["insert", "update", "root", "delete"]);
    let head = store.audit_heads().await.unwrap().remove(0);
    assert_eq!(verify(&entries, &head.mark), Ok(4));
    assert_eq!(head.at, later(3));
    assert!(store.auditor().unwrap().has_sealed(&head));
    assert!(!auditor(REPLICA).has_sealed(&head), "another installation");
}

pub(crate) async fn a_chain_is_gapless_from_many_writers(store: Store) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..5 {
                let kind = format!("{writer}.{n}");
                store.append_audit(&told(&kind, n)).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let entries = store.audit_entries(REPLICA, 0, 1_000).await.unwrap();
    let heads = store.audit_heads().await.unwrap();
    assert_eq!(verify(&entries, &heads[0].mark), Ok(40));
    let different: BTreeSet<_> = entries.iter().map(|entry| &entry.kind).collect();
    assert_eq!(different.len(), 40);
    assert_eq!(store.audit_replicas().await.unwrap(), [REPLICA]);
}

pub(crate) async fn nothing_is_audited_before_the_key_is_open(store: Store) {
    let url = URL.with(|url| StoreUrl::parse(url).unwrap());
    let closed = Store::open(&url).await.unwrap();
    let error = closed.append_audit(&told("a", 0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Audit(_)), "{error}");
    let refused = closed
        .insert_cluster(&cluster("central"), &told("b", 0))
        .await;
    assert!(refused.is_err());
    assert!(store.clusters().await.unwrap().is_empty());
    assert!(store.audit_heads().await.unwrap().is_empty());
    closed.close().await;
}

pub(crate) async fn a_chain_that_was_touched_is_not_gone_on_from(store: Store) {
    store.append_audit(&told("a", 0)).await.unwrap();
    store.append_audit(&told("b", 1)).await.unwrap();
    tamper(&store, "UPDATE audit_head SET position = 0").await;
    let error = store.append_audit(&told("c", 2)).await.unwrap_err();
    assert!(matches!(error, StoreError::Audit(_)), "{error}");
    // Nor is what has to be audited done.
    let refused = store
        .insert_cluster(&cluster("central"), &told("d", 2))
        .await;
    assert!(refused.is_err());
    assert!(store.clusters().await.unwrap().is_empty());
    tamper(&store, "DELETE FROM audit_head").await;
    let error = store.append_audit(&told("c", 2)).await.unwrap_err();
    assert!(matches!(error, StoreError::Audit(_)), "{error}");
    assert_eq!(kinds(&store).await, ["a", "b"]);
}

pub(crate) async fn the_trail_is_read_in_pages(store: Store) {
    for n in 1..=7 {
        let kind = if n % 2 == 0 { "even" } else { "odd" };
        store.append_audit(&told(kind, n)).await.unwrap();
    }
    let read = async |mut filter: AuditFilter| {
        let mut positions = Vec::new();
        loop {
            let page = store.search_audit(&filter).await.unwrap();
            let Some(last) = page.last() else { break };
            filter.after = Some(AuditCursor::of(last));
            positions.extend(page.iter().map(|row| row.position));
        }
        positions
    };
    let all = AuditFilter {
        limit: 3,
        ..AuditFilter::default()
    };
    assert_eq!(read(all.clone()).await, [6, 5, 4, 3, 2, 1, 0]);
    let of_one = AuditFilter {
        replica: Some(REPLICA.to_owned()),
        ..all.clone()
    };
    assert_eq!(read(of_one.clone()).await, [0, 1, 2, 3, 4, 5, 6]);
    let even = AuditFilter {
        kind: Some("even".to_owned()),
        from: Some(later(3)),
        to: Some(later(6)),
        ..of_one.clone()
    };
    assert_eq!(read(even).await, [3]);
    let by_another = AuditFilter {
        actor: Some("nobody".to_owned()),
        ..all
    };
    assert!(read(by_another).await.is_empty());
    let elsewhere = AuditFilter {
        replica: Some("replica-2".to_owned()),
        ..of_one
    };
    assert!(read(elsewhere).await.is_empty());
    let mut walk = Walk::of(REPLICA);
    for from in [0, 4] {
        for entry in store.audit_entries(REPLICA, from, 4).await.unwrap() {
            walk.take(&entry).unwrap();
        }
    }
    assert_eq!(walk.next(), 7);
}
