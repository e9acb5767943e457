//! What days, years and wrong clocks do to CRLs and OCSP answers: certificates, authorities and lists come to their ends.

use ca_server::app::{Actor, revocation};
use pki::certificate::Certificate;
use pki::crl::Reason;
use pki::name::AuthorityId;
use pki::ocsp::Status;
use pki::time::Ttl;
use tests::fleet::Fleet;
use tests::inside::Inside;
use tests::postgres::Postgres;
use tests::process::run;

const DAY: i64 = 86_400;

fn revoke(fleet: &Fleet, act: &str, certificate: &Certificate) {
    let serial = certificate.serial().to_string();
    let mut command = fleet.ca_server(&[act, "--serial", &serial, "--yes"]);
    if act == "revoke" {
        command.args(["--reason", "keyCompromise"]);
    }
    run(&mut command);
}

#[tokio::test]
async fn what_was_revoked_or_held_is_never_good_again_after_its_end() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let inside = Inside::of(&fleet).await;
    let (bad, held, good) = (
        inside.issue().await,
        inside.issue().await,
        inside.issue().await,
    );
    revoke(&fleet, "revoke", &bad);
    revoke(&fleet, "hold", &held);
    inside.tell().await;
    let listed = inside.crl("central-1");
    assert!(listed.lists(&bad.serial()) && listed.lists(&held.serial()));
    // Past their ends by a list and another: they leave it, and stay what they are.
    inside.clock.advance(8 * DAY);
    inside.turn().await;
    inside.clock.advance(2 * DAY);
    inside.turn().await;
    let list = inside.crl("central-1");
    assert!(!list.lists(&bad.serial()) && !list.lists(&held.serial()));
    let restarted = Inside::of(&fleet).await;
    for replica in [&inside, &restarted] {
        for (certificate, reason) in [
            (&bad, Reason::KeyCompromise),
            (&held, Reason::CertificateHold),
        ] {
            let said = replica.ocsp("central-1", certificate).await;
            assert!(
                matches!(said, Status::Revoked { reason: why, .. } if why == reason),
                "{said:?}"
            );
        }
        assert_eq!(replica.ocsp("central-1", &good).await, Status::Good);
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_less_than_an_hour_holds_no_revocation_up() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let inside = Inside::of(&fleet).await;
    let (first, second) = (inside.issue().await, inside.issue().await);
    inside.clock.step(50 * 60);
    revoke(&fleet, "revoke", &first);
    inside.tell().await;
    let ahead = inside.crl("central-1");
    assert!(ahead.lists(&first.serial()));
    inside.clock.step(-50 * 60);
    revoke(&fleet, "revoke", &second);
    inside.tell().await;
    let after = inside.crl("central-1");
    assert!(after.lists(&first.serial()) && after.lists(&second.serial()));
    assert_eq!(
        after.this_update(),
        pki::time::Timestamp::from_unix(ahead.this_update().unix() + 1),
        "dates never go back, and run no further ahead than they must"
    );
    assert!(after.number() > ahead.number() && after.next_update() >= ahead.next_update());
}

#[tokio::test]
async fn a_replica_whose_clock_is_ahead_of_the_databases_dates_no_list_ahead() {
    let test = "a_replica_whose_clock_is_ahead_of_the_databases_dates_no_list_ahead";
    if Postgres::binaries().is_none() {
        return tests::parts::skip(test, "no Postgres; see tests/parts/install");
    }
    let postgres = Postgres::start().unwrap();
    let fleet = Fleet::on_postgres(&postgres.create_database().unwrap(), &["central"]);
    let inside = Inside::of(&fleet).await;
    let leaf = inside.issue().await;
    inside.clock.step(50 * 60);
    revoke(&fleet, "revoke", &leaf);
    inside.tell().await;
    let list = inside.crl("central-1");
    assert!(list.lists(&leaf.serial()));
    assert!(list.this_update() <= tests::now(), "{list:?}");
}

#[tokio::test]
async fn an_authority_that_has_ended_leaves_the_set_to_the_others() {
    for revoked in [false, true] {
        let fleet = Fleet::on_sqlite(&["central", "edge"]);
        fleet.import_root_crl(1, &[]);
        fleet.add_authority("central", Ttl::days(700));
        run(&mut fleet.ca_server(&["authority", "activate", "central-2"]));
        let inside = Inside::of(&fleet).await;
        if revoked {
            let id = AuthorityId::parse("edge-1").unwrap();
            let reason = Reason::KeyCompromise;
            let actor = Actor::local("test");
            let row = revocation::revoke_authority(inside.app.context(), &id, reason, &actor);
            row.await.unwrap();
        }
        inside.turn().await;
        // A day before its end its responder is as good as the next would be.
        inside.clock.advance(364 * DAY);
        inside.turn().await;
        let events = || async {
            let store = &inside.app.context().store;
            let records = store.status_positions().await.unwrap();
            let edge = records.iter().find(|p| p.authority.as_str() == "edge-1");
            edge.unwrap().log_size
        };
        let before = events().await;
        for _ in 0..6 {
            inside.clock.advance(DAY / 8);
            inside.turn().await;
        }
        assert_eq!(events().await, before, "certified once, not over and over");
        inside.clock.advance(DAY);
        for _ in 0..2 {
            inside.turn().await;
        }
        let served = inside.app.status().served();
        assert!(served.full.is_ok(), "revoked {revoked}: {:?}", served.full);
        let edge = AuthorityId::parse("edge-1").unwrap();
        let found = ca_server::app::authority::find(inside.app.context(), &edge).await;
        assert_eq!(found.unwrap().state.as_str(), "retired");
        assert!(
            inside
                .metrics("signet_crl_set_complete")
                .concat()
                .ends_with(" 1")
        );
        let held = inside.metrics("signet_cluster_has_authority{cluster=\"edge\"}");
        assert!(held.concat().ends_with(" 0"), "{held:?}");
    }
}

#[tokio::test]
async fn a_set_with_a_list_that_has_ended_is_not_served() {
    let fleet = Fleet::on_sqlite(&["central"]);
    fleet.import_root_crl(1, &[]);
    let inside = Inside::of(&fleet).await;
    assert!(inside.app.status().served().full.is_ok());
    // Longer than the root's list lives; the authority's own comes anew.
    inside.clock.advance(300 * DAY);
    inside.turn().await;
    assert!(inside.app.status().served().full.is_ok());
    inside.clock.advance(29 * DAY);
    inside.app.refresh_status().await.unwrap();
    assert!(inside.app.status().served().full.is_ok());
    inside.clock.advance(2 * DAY);
    inside.app.refresh_status().await.unwrap();
    let full = inside.app.status().served().full.clone();
    let why = full.map(drop).unwrap_err().to_string();
    assert!(why.contains("central-1 (its CRL has expired)"), "{why}");
    let complete = inside.metrics("signet_crl_set_complete");
    assert!(complete.concat().ends_with(" 0"), "{complete:?}");
    let changes = inside.metrics("signet_crl_set_changes_total{to=\"incomplete\"}");
    // Once for the 300 days that nobody was there, and now.
    assert!(changes.concat().ends_with(" 2"), "{changes:?}");
    inside.turn().await;
    assert!(
        inside.app.status().served().full.is_ok(),
        "the next one heals it"
    );
}

#[tokio::test]
async fn a_list_comes_to_its_end_while_the_store_is_away_too() {
    let fleet = Fleet::on_sqlite(&["central"]);
    fleet.import_root_crl(1, &[]);
    let inside = Inside::of(&fleet).await;
    inside.app.context().store.close().await;
    assert!(inside.app.refresh_status().await.is_err());
    assert!(inside.app.status().served().full.is_ok(), "served as it is");
    inside.clock.advance(31 * DAY);
    assert!(inside.app.refresh_status().await.is_err());
    assert!(inside.app.status().served().full.is_err(), "until it ends");
}

#[tokio::test]
async fn lists_and_answers_give_the_same_reason_for_a_revoked_authoritys_leaves() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let inside = Inside::of(&fleet).await;
    let leaf = inside.issue().await;
    let id = AuthorityId::parse("central-1").unwrap();
    let reason = Reason::CaCompromise;
    let actor = Actor::local("test");
    let row = revocation::revoke_authority(inside.app.context(), &id, reason, &actor);
    row.await.unwrap();
    inside.turn().await;
    let list = inside.crl("central-1");
    let listed = list.revoked().iter().find(|r| r.serial == leaf.serial());
    let listed = listed.unwrap();
    let Status::Revoked { at, reason } = inside.ocsp("central-1", &leaf).await else {
        panic!("not revoked");
    };
    assert_eq!((listed.revoked_at, listed.reason), (at, reason));
    assert_eq!(
        reason,
        Reason::Unspecified,
        "the leaf's own key is its own still"
    );
}
