//! Roles, proposals, and requests that came before.

use std::collections::BTreeSet;

use ca_server::app::roles::{Role, Scope};
use ca_server::store::Store;
use ca_server::store::administrators::{BindingRow, ProposalRow, ProposalState, Remembering};
use pki::name::ClusterName;
use pki::time::Timestamp;

use super::audit::told;
use super::{NOW, is_conflict, later};

fn binding(id: &str, principal: &str, role: Role, clusters: &[&str]) -> BindingRow {
    let names: BTreeSet<_> = clusters
        .iter()
        .map(|name| ClusterName::parse(name).unwrap())
        .collect();
    BindingRow {
        id: id.to_owned(),
        principal: principal.to_owned(),
        role,
        scope: match names.is_empty() {
            true => Scope::All,
            false => Scope::Clusters(names),
        },
        created_at: NOW,
        created_by: "cli:0".to_owned(),
        seal: [7; 32],
    }
}

pub(crate) async fn a_role_is_given_once_and_the_last_officer_stays(store: Store) {
    let audit = &told("role.bind", 0)[0];
    let first = binding("a", "cert:a", Role::SecurityOfficer, &[]);
    let second = binding("b", "cert:b", Role::SecurityOfficer, &[]);
    let scoped = binding("c", "cert:c", Role::SecurityOfficer, &["edge"]);
    for row in [&first, &second, &scoped] {
        store.insert_binding(row, audit).await.unwrap();
    }
    let again = BindingRow {
        id: "d".to_owned(),
        ..first.clone()
    };
    assert!(is_conflict(store.insert_binding(&again, audit).await));
    assert_eq!(store.bindings().await.unwrap(), [first, second, scoped]);
    // Two who take each other's at once: one of them does.
    let (one, other) = tokio::join!(
        store.delete_binding("a", audit),
        store.delete_binding("b", audit)
    );
    assert_eq!(u8::from(one.unwrap()) + u8::from(other.unwrap()), 1);
    assert!(
        store.delete_binding("c", audit).await.unwrap(),
        "one of some clusters goes"
    );
    assert!(
        !store.delete_binding("c", audit).await.unwrap(),
        "and is gone"
    );
    assert_eq!(store.bindings().await.unwrap().len(), 1);
}

pub(crate) async fn a_proposal_is_decided_once(store: Store) {
    let audit = &told("proposal.create", 0)[0];
    let row = |id: &str, seconds| ProposalRow {
        id: id.to_owned(),
        act: "{}".to_owned(),
        kind: "role".to_owned(),
        cluster: None,
        changes: "[]".to_owned(),
        state: ProposalState::Waiting,
        created_at: later(seconds),
        created_by: "cert:a".to_owned(),
        expires_at: later(seconds + 60),
        decided: None,
        outcome: None,
        seal: [1; 32],
        version: 1,
    };
    for (id, seconds) in [("a", 1), ("b", 1), ("c", 2)] {
        store
            .insert_proposal(&row(id, seconds), audit)
            .await
            .unwrap();
    }
    let first = store.proposals(None, None, 2).await.unwrap();
    assert_eq!(first, [row("c", 2), row("b", 1)], "newest first");
    let rest = store
        .proposals(None, Some((later(1), "b")), 2)
        .await
        .unwrap();
    assert_eq!(rest, [row("a", 1)]);
    let decided = ProposalRow {
        state: ProposalState::Rejected,
        decided: Some((later(3), "cert:b".to_owned())),
        outcome: Some("no".to_owned()),
        ..row("a", 1)
    };
    store.decide_proposal(&decided, audit).await.unwrap();
    assert!(is_conflict(store.decide_proposal(&decided, audit).await));
    let kept = store.proposal("a").await.unwrap().unwrap();
    assert_eq!(
        kept,
        ProposalRow {
            version: 2,
            ..decided
        }
    );
    assert_eq!(store.proposal("none").await.unwrap(), None);
}

/// So many seconds from now on, or before.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOW.unix() + seconds)
}

pub(crate) async fn a_request_is_remembered_with_its_answer(store: Store) {
    let remember = async |key: &str, request: u8, seconds: i64| {
        let (now, hour) = (at(seconds), 3600);
        let (cut_off, forget) = (at(seconds - hour), at(seconds - 24 * hour));
        let request = [request; 32];
        let found = store.remember("cert:a", key, &request, now, cut_off, forget);
        found.await.unwrap()
    };
    assert_eq!(remember("k", 1, 0).await, Remembering::Fresh);
    assert_eq!(remember("k", 1, 10).await, Remembering::UnderWay);
    assert_eq!(remember("k", 2, 10).await, Remembering::Other);
    store
        .remember_answer("cert:a", "k", b"answer")
        .await
        .unwrap();
    assert_eq!(
        remember("k", 1, 7200).await,
        Remembering::Answered(b"answer".to_vec())
    );
    store.forget_request("cert:a", "k").await.unwrap();
    assert_eq!(
        remember("k", 1, 7200).await,
        Remembering::Answered(b"answer".to_vec()),
        "it was answered"
    );
    // Refused: as if it had never been. Cut off: begun again by whoever asks for the same.
    assert_eq!(remember("l", 1, 0).await, Remembering::Fresh);
    store.forget_request("cert:a", "l").await.unwrap();
    assert_eq!(remember("l", 2, 0).await, Remembering::Fresh);
    assert_eq!(remember("l", 1, 7200).await, Remembering::Other);
    assert_eq!(remember("l", 2, 7200).await, Remembering::Fresh);
    // A day later nobody knows.
    assert_eq!(remember("k", 2, 200_000).await, Remembering::Fresh);
    let mut at_once = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        at_once.spawn(async move {
            let (now, before) = (at(200_000), at(100_000));
            let request = [1; 32];
            let found = store.remember("cert:a", "m", &request, now, before, before);
            found.await.unwrap()
        });
    }
    let found = at_once.join_all().await;
    let fresh = found.iter().filter(|it| **it == Remembering::Fresh);
    assert_eq!(fresh.count(), 1);
}
