//! Revocations, holds and CRLs.

use ca_server::store::model::{
    AuthorityRevocation, AuthorityRow, AuthorityState, CrlRow, Revocation, RootCrlRow,
    StatusChange, StatusEvent, StatusOutcome,
};
use ca_server::store::{RecordError, Store};
use pki::crypto::sha256;
use pki::name::AuthorityId;
use pki::time::Ttl;

use super::{NOW, authority, furnish, is_conflict, join_all, later, record};

const HOLD: u8 = 6;

pub(super) async fn crl_numbers_only_grow(store: Store) {
    let id = furnish(&store).await;
    let crl = |number: u64, covers| CrlRow {
        number,
        der: vec![u8::try_from(number).unwrap()],
        this_update: NOW,
        next_update: later(60),
        covers,
        parts: vec![(format!("shard-{number}"), vec![1, 2])],
    };
    assert_eq!(store.crl(&id).await.unwrap(), None);
    assert!(is_conflict(
        store.put_crl(&id, &crl(2, None), Some(1)).await
    ));
    store.put_crl(&id, &crl(1, None), None).await.unwrap();
    assert!(is_conflict(store.put_crl(&id, &crl(2, None), None).await));
    store.put_crl(&id, &crl(5, Some(0)), Some(1)).await.unwrap();
    for (number, expected) in [(6, 1), (5, 5), (4, 5)] {
        assert!(is_conflict(
            store
                .put_crl(&id, &crl(number, Some(0)), Some(expected))
                .await
        ));
    }
    // One that wakes late with a list from before: the number would do, the revocations would go back.
    assert!(is_conflict(
        store.put_crl(&id, &crl(6, None), Some(5)).await
    ));
    assert_eq!(store.crl(&id).await.unwrap(), Some(crl(5, Some(0))));
    let positions = store.status_positions().await.unwrap();
    assert_eq!((positions.len(), positions[0].crl_number), (1, Some(5)));
    let stranger = AuthorityId::parse("stranger-1").unwrap();
    assert!(is_conflict(
        store.put_crl(&stranger, &crl(1, None), None).await
    ));
}

pub(super) async fn a_root_crl_gives_way_to_a_higher_number_alone(store: Store) {
    let crl = |number: u64| RootCrlRow {
        root: sha256(b"root"),
        number,
        der: vec![u8::try_from(number).unwrap()],
        this_update: NOW,
        next_update: later(60),
        imported_at: NOW,
    };
    let before = store.change_sequence().await.unwrap();
    store.put_root_crls(&[crl(3)], &[]).await.unwrap();
    for number in [3, 2] {
        assert!(is_conflict(store.put_root_crls(&[crl(number)], &[]).await));
    }
    // All or none.
    let other = RootCrlRow {
        root: sha256(b"third"),
        ..crl(9)
    };
    assert!(is_conflict(
        store.put_root_crls(&[other, crl(2)], &[]).await
    ));
    let early = RootCrlRow {
        this_update: crl(3).this_update.minus(Ttl::minutes(1)),
        ..crl(9)
    };
    assert!(is_conflict(store.put_root_crls(&[early], &[]).await));
    store.put_root_crls(&[crl(4)], &[]).await.unwrap();
    assert_eq!(store.root_crls().await.unwrap(), [crl(4)]);
    assert_eq!(
        store.root_crl(&sha256(b"root")).await.unwrap(),
        Some(crl(4))
    );
    assert_eq!(store.root_crl(&sha256(b"other")).await.unwrap(), None);
    assert_eq!(store.change_sequence().await.unwrap(), before + 2);
}

fn change(authority: &AuthorityId, n: u64, seconds: i64, reason: u8) -> StatusChange {
    StatusChange {
        authority: authority.clone(),
        serial: record(authority, n).serial,
        at: later(seconds),
        reason,
        actor: "security".to_owned(),
        leaf_hash: sha256(format!("{n} {seconds}").as_bytes()),
    }
}

async fn with_records(store: &Store, many: u64) -> AuthorityId {
    let id = furnish(store).await;
    let records: Vec<_> = (0..many).map(|n| record(&id, n)).collect();
    for result in store.record_batch(&records).await.unwrap() {
        result.unwrap();
    }
    id
}

pub(super) async fn revocations_are_final_and_holds_are_not(store: Store) {
    use StatusOutcome as O;
    let id = with_records(&store, 3).await;
    let standing = |n, seconds, reason| Revocation {
        serial: record(&id, n).serial,
        revoked_at: later(seconds),
        reason,
        not_after: record(&id, n).not_after,
    };
    let first = [
        change(&id, 0, 5, 1),
        change(&id, 1, 5, HOLD),
        change(&id, 9, 5, 1),
    ];
    let outcomes = store.revoke(&first, &[]).await.unwrap();
    assert_eq!(outcomes, [O::Done(3), O::Done(4), O::NotOnRecord]);
    // Again, with other reasons: what is revoked stays as it is, a hold becomes a revocation.
    let again = [change(&id, 0, 7, 4), change(&id, 0, 7, HOLD)];
    for change in again {
        let outcome = store.revoke(&[change], &[]).await.unwrap();
        assert_eq!(outcome, [O::Standing(standing(0, 5, 1))]);
    }
    assert_eq!(
        store.revoke(&[change(&id, 1, 8, HOLD)], &[]).await.unwrap(),
        [O::Standing(standing(1, 5, HOLD))]
    );
    assert_eq!(
        store.revoke(&[change(&id, 1, 8, 4)], &[]).await.unwrap(),
        [O::Done(5)]
    );
    assert_eq!(
        store.revocation(&id, &record(&id, 1).serial).await.unwrap(),
        Some(standing(1, 8, 4))
    );

    let outcomes = store.revoke(&[change(&id, 2, 9, HOLD)], &[]).await.unwrap();
    assert_eq!(outcomes, [O::Done(6)]);
    assert!(store.is_revoked(&id, &record(&id, 2).serial).await.unwrap());
    let lifts = [0, 1, 2, 9].map(|n| change(&id, n, 10, 0));
    let outcomes = store.lift_holds(&lifts, &[]).await.unwrap();
    assert_eq!(
        outcomes,
        [
            O::Standing(standing(0, 5, 1)),
            O::Standing(standing(1, 8, 4)),
            O::Done(7),
            O::NotOnRecord
        ]
    );
    assert!(!store.is_revoked(&id, &record(&id, 2).serial).await.unwrap());
    assert_eq!(
        store.lift_holds(&lifts[2..3], &[]).await.unwrap(),
        [O::NotHeld]
    );

    let stored = store.record(&record(&id, 0).serial).await.unwrap().unwrap();
    assert_eq!(stored.revoked, Some((later(5), 1)));
    let mut all = [standing(0, 5, 1), standing(1, 8, 4)];
    all.sort_by_key(|revocation| revocation.serial);
    assert_eq!(store.revocations(&id, None, 10).await.unwrap(), all);
    assert_eq!(
        store
            .revocations(&id, Some(&all[0].serial), 10)
            .await
            .unwrap(),
        all[1..]
    );
    let stranger = AuthorityId::parse("stranger-1").unwrap();
    assert_eq!(
        store
            .revoke(&[change(&stranger, 0, 5, 1)], &[])
            .await
            .unwrap(),
        [O::NotOnRecord]
    );
}

pub(super) async fn a_revocation_has_its_place_in_the_log(store: Store) {
    let id = with_records(&store, 2).await;
    let position = async || store.status_positions().await.unwrap()[0].last;
    assert_eq!(position().await, None);
    let changes = [change(&id, 0, 5, HOLD), change(&id, 1, 5, 1)];
    store.revoke(&changes, &[]).await.unwrap();
    store
        .lift_holds(&[change(&id, 0, 6, 0)], &[])
        .await
        .unwrap();
    assert_eq!(position().await, Some(4));
    let indices = store.record_batch(&[record(&id, 7)]).await.unwrap();
    assert_eq!(
        indices[0].as_ref().unwrap(),
        &5,
        "the log goes on after revocations"
    );

    let events = store.status_events(&id, None, 10).await.unwrap();
    let revoked = |n, reason| {
        StatusEvent::Revoked(Revocation {
            serial: record(&id, n).serial,
            revoked_at: later(5),
            reason,
            not_after: record(&id, n).not_after,
        })
    };
    let lifted = StatusEvent::Lifted(record(&id, 0).serial);
    assert_eq!(
        events,
        [(2, revoked(0, HOLD)), (3, revoked(1, 1)), (4, lifted)]
    );
    assert_eq!(
        store.status_events(&id, Some(2), 1).await.unwrap(),
        events[1..2]
    );
}

pub(super) async fn of_many_that_revoke_one_does(store: Store) {
    let id = with_records(&store, 1).await;
    let calls = (0..10).map(|n| {
        let (store, change) = (store.clone(), change(&id, 0, n + 1, 1));
        async move { store.revoke(&[change], &[]).await.unwrap()[0] }
    });
    let outcomes = join_all(calls).await;
    let done = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, StatusOutcome::Done(1)));
    assert_eq!(done.count(), 1, "{outcomes:?}");
    let index = store.record_batch(&[record(&id, 5)]).await.unwrap();
    assert_eq!(index[0].as_ref().unwrap(), &2, "an attempt takes no index");
}

pub(super) async fn a_revoked_authority_records_nothing_more(store: Store) {
    let id = with_records(&store, 1).await;
    let revocation = AuthorityRevocation {
        at: later(5),
        reason: 2,
        not_after: later(1000),
        actor: "security".to_owned(),
        leaf_hash: sha256(b"leaf"),
    };
    assert!(is_conflict(
        store.revoke_authority(&id, 7, &revocation, &[]).await
    ));
    store
        .revoke_authority(&id, 1, &revocation, &[])
        .await
        .unwrap();
    assert!(is_conflict(
        store.revoke_authority(&id, 2, &revocation, &[]).await
    ));

    let row = store.authority(&id).await.unwrap().unwrap();
    assert_eq!(
        (row.state, row.revoked),
        (AuthorityState::Revoked, Some((later(5), 2)))
    );
    let refused = store.record_batch(&[record(&id, 1)]).await.unwrap();
    assert!(
        matches!(refused[0], Err(RecordError::LogClosed)),
        "{refused:?}"
    );
    assert_eq!(store.record(&record(&id, 1).serial).await.unwrap(), None);
    let responder = store.record_responder(&record(&id, 2)).await;
    assert_eq!(
        responder.unwrap(),
        2,
        "who answers for it still gets a certificate"
    );
    let events = store.status_events(&id, None, 10).await.unwrap();
    let at = later(5);
    assert_eq!(
        events,
        [(1, StatusEvent::AuthorityRevoked { at, reason: 2 })]
    );
    // Its neighbour goes on.
    let mut other = authority("central", 2);
    other.state = AuthorityState::Active;
    store.insert_authority(&other, &[]).await.unwrap();
    let batch = [record(&id, 3), record(&other.id, 4)];
    let results = store.record_batch(&batch).await.unwrap();
    assert!(matches!(results[0], Err(RecordError::LogClosed)));
    assert_eq!(results[1].as_ref().unwrap(), &0);

    // Once it has ended it is retired like any other, and stays revoked.
    let row = store.authority(&id).await.unwrap().unwrap();
    let retired = AuthorityRow {
        state: AuthorityState::Retired,
        published_at: Some(later(1)),
        ..row.clone()
    };
    store
        .update_authority(&retired, row.version, &[])
        .await
        .unwrap();
    let after = store.authority(&id).await.unwrap().unwrap();
    assert_eq!((after.state, after.revoked), (retired.state, row.revoked));
    assert_eq!(after.published_at, Some(later(1)));
}

pub(super) async fn what_lives_is_listed_in_pages(store: Store) {
    let id = with_records(&store, 25).await;
    let mut all: Vec<_> = (0..25)
        .map(|n| (record(&id, n).serial, record(&id, n).not_after))
        .collect();
    all.sort();
    let mut listed = Vec::new();
    loop {
        let after = listed.last().map(|(serial, _)| *serial);
        let page = store.live(&id, NOW, after.as_ref(), 10).await.unwrap();
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, all);
    let last = all.iter().map(|(_, end)| *end).max();
    assert_eq!(store.last_expiry(&id).await.unwrap(), last);
    let still = all.iter().filter(|(_, end)| Some(*end) >= last).count();
    assert_eq!(
        store
            .live(&id, last.unwrap(), None, 100)
            .await
            .unwrap()
            .len(),
        still
    );
    let stranger = AuthorityId::parse("stranger-1").unwrap();
    assert_eq!(store.last_expiry(&stranger).await.unwrap(), None);
}

pub(super) async fn what_is_on_record_is_told_apart(store: Store) {
    let id = with_records(&store, 2).await;
    let serials = [0, 1, 2].map(|n| record(&id, n).serial);
    let day = serials[0].expires_day().unwrap();
    let mut found = store.on_record(&id, day, &serials).await.unwrap();
    found.sort_unstable();
    assert_eq!(found, serials[..2]);
    assert_eq!(store.on_record(&id, day + 1, &serials).await.unwrap(), []);
    let stranger = AuthorityId::parse("stranger-1").unwrap();
    assert_eq!(store.on_record(&stranger, day, &serials).await.unwrap(), []);
    let mut whose = store.issuers_of(day, &serials).await.unwrap();
    whose.sort_unstable();
    assert_eq!(whose, [(serials[0], id.clone()), (serials[1], id)]);
    assert_eq!(store.issuers_of(day + 1, &serials).await.unwrap(), []);
}
