//! What a store promises, on SQLite and on a real Postgres alike: every case runs on both. One list, so that it is the
//! contract and no case can be left out of an engine.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod administrators;
mod audit;
mod search;
mod status;

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, OnceLock};

use ca_server::store::model::{
    AuditFilter, AuthorityRow, AuthorityState, ClusterRow, CrlShape, EnrolmentRow, Installation,
    NewRecord, RecordFilter,
};
use ca_server::store::{RecordError, Recorder, Store, StoreError, StoreUrl};
use hsm::pkcs11::KeyOrigin;
use hsm::wrapping::WrappingKind;
use pki::crypto::sha256;
use pki::name::{AuthorityId, ClusterName, KeyUri, ProfileName, SpiffePattern, TrustDomain};
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};
use tests::postgres::Postgres;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use administrators::*;
use audit::*;
use search::*;
use status::*;

/// 2026-11-25T02:53:00Z, a Wednesday.
const NOW: Timestamp = Timestamp::from_unix(1_795_575_180);

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::with_sqlite(super::$case).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::with_postgres(super::$case).await;
            })*
        }
    };
}

contract!(
    an_installation_is_made_once_and_sealed_anew_by_compare_and_set,
    clusters_change_by_compare_and_set,
    a_cluster_with_authorities_stays,
    authorities_keep_what_they_were_given,
    one_authority_of_a_cluster_is_active,
    of_two_swaps_at_once_one_wins,
    bundles_grow_and_shrink_with_a_sequence,
    crl_numbers_only_grow,
    a_root_crl_gives_way_to_a_higher_number_alone,
    records_come_back_as_they_went_in,
    a_log_is_gapless_from_many_writers,
    a_duplicate_serial_fails_alone,
    what_cannot_be_stored_fails_alone,
    names_with_sql_in_them_are_names,
    an_enrolment_is_good_for_one_key,
    an_enrolment_races_to_one_winner,
    a_refused_record_leaves_the_enrolment_unused,
    a_search_finds_what_fits_page_by_page,
    a_page_has_a_bound,
    a_page_ends_where_enough_was_looked_at,
    revocations_are_final_and_holds_are_not,
    a_revocation_has_its_place_in_the_log,
    of_many_that_revoke_one_does,
    a_revoked_authority_records_nothing_more,
    what_lives_is_listed_in_pages,
    what_is_on_record_is_told_apart,
    the_clock_only_rises_until_accepted,
    an_entry_is_written_with_its_change_or_not_at_all,
    a_chain_is_gapless_from_many_writers,
    nothing_is_audited_before_the_key_is_open,
    a_chain_that_was_touched_is_not_gone_on_from,
    the_trail_is_read_in_pages,
    a_role_is_given_once_and_the_last_officer_stays,
    a_proposal_is_decided_once,
    a_request_is_remembered_with_its_answer,
    changes_are_counted_and_reads_are_not,
    a_lease_has_one_holder,
    past_records_are_dropped,
    the_recorder_answers_each_and_drains,
);

async fn with_sqlite<F: Future<Output = ()>>(case: impl FnOnce(Store) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/ca.db", directory.path().display());
    let store = Store::open(&StoreUrl::parse(&url).unwrap()).await.unwrap();
    store.audit_as(auditor(REPLICA));
    URL.scope(url, case(store.clone())).await;
    store.close().await;
}

async fn with_postgres<F: Future<Output = ()>>(case: impl FnOnce(Store) -> F) {
    let Some(server) = server() else { return };
    let text = server.create_database().unwrap();
    let url = StoreUrl::parse(&text).unwrap();
    Store::migrate(&url, NOW).await.unwrap();
    let store = Store::open(&url).await.unwrap();
    store.audit_as(auditor(REPLICA));
    URL.scope(text, case(store.clone())).await;
    store.close().await;
}

tokio::task_local! {
    /// Where the case's store is, for who goes past it.
    static URL: String;
}

/// One server for all cases of this process; each has a database of its own.
fn server() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    SERVER
        .get_or_init(|| has_postgres().then(|| Postgres::start().unwrap()))
        .as_ref()
}

fn has_postgres() -> bool {
    static TOLD: Mutex<bool> = Mutex::new(false);
    if Postgres::binaries().is_some() {
        return true;
    }
    let mut told = TOLD.lock().unwrap();
    if let (false, Some(path)) = (*told, std::env::var_os("SIGNET_SKIPS")) {
        use std::io::Write;
        let mut file = std::fs::File::options().append(true).open(path).unwrap();
        writeln!(file, "store contract on postgres: no Postgres binaries").unwrap();
    }
    *told = true;
    false
}

// === what the cases are made of

fn cluster(name: &str) -> ClusterRow {
    ClusterRow {
        name: ClusterName::parse(name).unwrap(),
        trust_domain: TrustDomain::parse("example.org").unwrap(),
        definition: r#"{"policy":[]}"#.to_owned(),
        version: 1,
    }
}

fn authority(cluster: &str, generation: u32) -> AuthorityRow {
    let cluster = ClusterName::parse(cluster).unwrap();
    let id = AuthorityId::of_cluster(&cluster, generation);
    AuthorityRow {
        spki: format!("key of {id}").into_bytes(),
        subject: format!("CN={id}"),
        id,
        cluster,
        generation,
        state: AuthorityState::Requested,
        sealed_key: Some(vec![0, 1, 0xff]),
        key_uri: Some(KeyUri::parse("pkcs11:token=x;object=y").unwrap()),
        key_origin: Some(KeyOrigin {
            local: true,
            sensitive: true,
            always_sensitive: false,
            extractable: true,
            never_extractable: false,
        }),
        request: vec![0x30, 0],
        chain: Vec::new(),
        not_after: None,
        activate_at: None,
        created_at: NOW,
        revoked: None,
        crl_shape: CrlShape {
            shards: 3,
            delta: true,
        },
        published_at: None,
        public_url: Some("http://ca.example".to_owned()),
        version: 1,
    }
}

/// A store with the cluster `central` and its first authority.
async fn furnish(store: &Store) -> AuthorityId {
    store
        .insert_cluster(&cluster("central"), &[])
        .await
        .unwrap();
    let authority = authority("central", 1);
    store.insert_authority(&authority, &[]).await.unwrap();
    authority.id
}

fn serial(n: u64, not_after: Timestamp) -> Serial {
    let mut entropy = [0; 16];
    entropy[8..].copy_from_slice(&n.to_be_bytes());
    Serial::issue(not_after, entropy)
}

fn record(authority: &AuthorityId, n: u64) -> NewRecord {
    let issued_at = NOW.plus(Ttl::from_seconds(i64::try_from(n).unwrap() / 3 + 1).unwrap());
    let not_after = issued_at.plus(Ttl::days(1));
    NewRecord {
        authority: authority.clone(),
        cluster: ClusterName::parse("central").unwrap(),
        serial: serial(n, not_after),
        issued_at,
        not_before: issued_at.minus(Ttl::minutes(2)),
        not_after,
        names: vec![
            format!("URI:spiffe://example.org/ns/x/sa/{n}"),
            "DNS:ä.example".to_owned(),
        ],
        key_digest: sha256(&n.to_be_bytes()),
        request_digest: sha256(b"request"),
        certificate_digest: sha256(b"certificate"),
        der: vec![0x30, 0x82, 0, 0xff],
        caller_kind: "service-account".to_owned(),
        caller: format!("caller {}", n % 2),
        caller_detail: n.is_multiple_of(2).then(|| r#"{"node":"n1"}"#.to_owned()),
        profile: ProfileName::parse("workload").unwrap(),
        asked_names: Vec::new(),
        asked_ttl: n.is_multiple_of(3).then_some(3600),
        granted_ttl: 86_400,
        rule: "default".to_owned(),
        bundle_sequence: 7,
        request_id: format!("request-{n}"),
        leaf_hash: sha256(&[&b"leaf"[..], &n.to_be_bytes()].concat()),
    }
}

async fn enrolment(store: &Store, id: &str) -> EnrolmentRow {
    let enrolment = EnrolmentRow {
        id: id.to_owned(),
        hash: sha256(id.as_bytes()),
        cluster: ClusterName::parse("central").unwrap(),
        pattern: SpiffePattern::parse("spiffe://example.org/edge/one").unwrap(),
        profile: ProfileName::parse("workload").unwrap(),
        expires_at: NOW.plus(Ttl::hours(1)),
        created_at: NOW,
        created_by: "admin".to_owned(),
        consumed_at: None,
        key_digest: None,
        revoked_at: None,
        certificate: None,
    };
    store.insert_enrolment(&enrolment, &[]).await.unwrap();
    enrolment
}

fn later(seconds: i64) -> Timestamp {
    NOW.plus(Ttl::from_seconds(seconds).unwrap())
}

fn is_conflict<T>(result: Result<T, StoreError>) -> bool {
    result.is_err_and(|error| matches!(error, StoreError::Conflict(_)))
}

// === the cases

async fn an_installation_is_made_once_and_sealed_anew_by_compare_and_set(store: Store) {
    assert_eq!(store.installation().await.unwrap(), None);
    let first = Installation {
        wrapping: WrappingKind::Passphrase,
        salt: [7; 16],
        sealed_key: vec![1, 2, 3],
        changed_at: NOW,
        version: 1,
    };
    let second = Installation {
        wrapping: WrappingKind::Token,
        salt: [8; 16],
        sealed_key: vec![4],
        changed_at: later(5),
        version: 2,
    };
    assert!(is_conflict(
        store
            .rewrap_installation(&second, 1, &told("early", 0))
            .await
    ));
    store.create_installation(&first).await.unwrap();
    assert!(is_conflict(store.create_installation(&second).await));
    assert_eq!(store.installation().await.unwrap(), Some(first));

    store
        .rewrap_installation(&second, 1, &told("keys.rekey", 5))
        .await
        .unwrap();
    assert!(is_conflict(
        store
            .rewrap_installation(&second, 1, &told("late", 6))
            .await
    ));
    assert_eq!(store.installation().await.unwrap(), Some(second));
    // Whoever came too early or too late left no word.
    let entries = store.audit_entries(REPLICA, 0, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (entries[0].kind.as_str(), entries[0].at),
        ("keys.rekey", later(5))
    );
}

async fn clusters_change_by_compare_and_set(store: Store) {
    let mut row = cluster("central");
    store.insert_cluster(&row, &[]).await.unwrap();
    assert!(is_conflict(store.insert_cluster(&row, &[]).await));
    row.definition = "{}".to_owned();
    assert_eq!(store.update_cluster(&row, 1, &[]).await.unwrap(), 2);
    assert!(is_conflict(store.update_cluster(&row, 1, &[]).await));
    row.version = 2;
    assert_eq!(store.cluster(&row.name).await.unwrap(), Some(row.clone()));
    assert!(is_conflict(
        store.update_cluster(&cluster("absent"), 1, &[]).await
    ));
    store.insert_cluster(&cluster("a"), &[]).await.unwrap();
    let names: Vec<_> = store
        .clusters()
        .await
        .unwrap()
        .into_iter()
        .map(|c| c.name.to_string())
        .collect();
    assert_eq!(names, ["a", "central"]);
}

async fn a_cluster_with_authorities_stays(store: Store) {
    furnish(&store).await;
    let empty = cluster("empty");
    store.insert_cluster(&empty, &[]).await.unwrap();
    assert!(store.delete_cluster(&empty.name, &[]).await.unwrap());
    assert!(!store.delete_cluster(&empty.name, &[]).await.unwrap());
    enrolment(&store, "kept").await;
    let central = cluster("central").name;
    assert!(is_conflict(store.delete_cluster(&central, &[]).await));
    assert!(store.cluster(&central).await.unwrap().is_some());
    assert_eq!(
        store.enrolments().await.unwrap().len(),
        1,
        "half of it was done"
    );
}

async fn authorities_keep_what_they_were_given(store: Store) {
    let id = furnish(&store).await;
    let mut row = authority("central", 1);
    assert_eq!(store.authority(&id).await.unwrap(), Some(row.clone()));
    row.state = AuthorityState::Imported;
    row.chain = vec![vec![1; 700], vec![2; 5]];
    row.not_after = Some(later(9));
    row.activate_at = Some(later(5));
    row.sealed_key = None;
    row.version = store.update_authority(&row, 1, &[]).await.unwrap();
    assert_eq!(row.version, 2);
    assert!(is_conflict(store.update_authority(&row, 1, &[]).await));
    assert_eq!(store.authorities().await.unwrap(), [row.clone()]);

    let mut same_key = authority("central", 2);
    same_key.spki = row.spki;
    assert!(
        is_conflict(store.insert_authority(&same_key, &[]).await),
        "a key twice"
    );
    assert!(is_conflict(
        store.insert_authority(&authority("nowhere", 1), &[]).await
    ));
}

async fn one_authority_of_a_cluster_is_active(store: Store) {
    let first = furnish(&store).await;
    assert!(
        is_conflict(store.swap_active(&first, 1, NOW, &[]).await),
        "it is not published"
    );
    let mut row = authority("central", 1);
    row.state = AuthorityState::Published;
    store.update_authority(&row, 1, &[]).await.unwrap();
    store.swap_active(&first, 2, NOW, &[]).await.unwrap();

    let mut second = authority("central", 2);
    second.state = AuthorityState::Active;
    assert!(
        is_conflict(store.insert_authority(&second, &[]).await),
        "two are active"
    );
    second.state = AuthorityState::Published;
    store.insert_authority(&second, &[]).await.unwrap();
    assert!(is_conflict(
        store.swap_active(&second.id, 5, NOW, &[]).await
    ));
    let states = |rows: Vec<AuthorityRow>| rows.iter().map(|r| r.state).collect::<Vec<_>>();
    assert_eq!(
        states(store.authorities().await.unwrap()),
        [AuthorityState::Active, AuthorityState::Published],
        "a lost swap changes nothing"
    );
    store
        .swap_active(&second.id, 1, later(60), &[])
        .await
        .unwrap();
    let rows = store.authorities().await.unwrap();
    assert_eq!((rows[0].version, rows[1].version), (4, 2));
    assert_eq!(rows[1].activate_at, Some(later(60)));
    assert_eq!(
        states(rows),
        [AuthorityState::Retiring, AuthorityState::Active]
    );
}

async fn of_two_swaps_at_once_one_wins(store: Store) {
    furnish(&store).await;
    for generation in 2..=6 {
        let mut row = authority("central", generation);
        row.state = AuthorityState::Published;
        store.insert_authority(&row, &[]).await.unwrap();
    }
    let swaps = (2..=6).map(|generation| {
        let store = store.clone();
        let id = authority("central", generation).id;
        async move { store.swap_active(&id, 1, NOW, &[]).await }
    });
    let mut won = 0;
    for result in join_all(swaps).await {
        match result {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, StoreError::Conflict(_)), "{error:?}"),
        }
    }
    assert!(won >= 1);
    let rows = store.authorities().await.unwrap();
    let count = |state| rows.iter().filter(|row| row.state == state).count();
    assert_eq!(count(AuthorityState::Active), 1);
    assert_eq!(count(AuthorityState::Retiring), won - 1);
}

async fn bundles_grow_and_shrink_with_a_sequence(store: Store) {
    let domain = TrustDomain::parse("example.org").unwrap();
    assert_eq!(store.bundle(&domain).await.unwrap().sequence, 0);
    assert_eq!(
        store
            .remove_root(&domain, &sha256(b"a"), &[])
            .await
            .unwrap(),
        0
    );
    assert_eq!(store.add_root(&domain, b"b", NOW, &[]).await.unwrap(), 1);
    assert_eq!(
        store.add_root(&domain, b"a", later(1), &[]).await.unwrap(),
        2
    );
    assert_eq!(
        store.add_root(&domain, b"a", later(2), &[]).await.unwrap(),
        2
    );
    let bundle = store.bundle(&domain).await.unwrap();
    assert_eq!(
        (bundle.sequence, bundle.roots),
        (2, vec![b"b".to_vec(), b"a".to_vec()])
    );
    assert_eq!(
        store
            .remove_root(&domain, &sha256(b"b"), &[])
            .await
            .unwrap(),
        3
    );
    assert_eq!(
        store
            .remove_root(&domain, &sha256(b"b"), &[])
            .await
            .unwrap(),
        3
    );
    assert_eq!(
        store
            .remove_root(&domain, &sha256(b"a"), &[])
            .await
            .unwrap(),
        4
    );
    let other = TrustDomain::parse("other.org").unwrap();
    store.add_root(&other, b"c", NOW, &[]).await.unwrap();
    let bundles = store.bundles().await.unwrap();
    assert_eq!(bundles.len(), 2);
    assert_eq!((bundles[0].sequence, bundles[0].roots.len()), (4, 0));
    assert_eq!((bundles[1].sequence, bundles[1].roots.len()), (1, 1));
}

async fn records_come_back_as_they_went_in(store: Store) {
    let id = furnish(&store).await;
    let records: Vec<_> = (0..100).map(|n| record(&id, n)).collect();
    let results = store.record_batch(&records).await.unwrap();
    for (n, result) in (0..).zip(&results) {
        assert_eq!(result.as_ref().unwrap(), &n);
    }
    assert!(store.record_batch(&[]).await.unwrap().is_empty());
    for (n, new) in (0..).zip(&records) {
        let stored = store.record(&new.serial).await.unwrap().unwrap();
        assert_eq!(
            (&stored.record, stored.log_index, stored.revoked),
            (new, n, None)
        );
    }
    let stored = store
        .record_of(&id, &records[3].serial)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.record, records[3]);
    let other = AuthorityId::parse("other-1").unwrap();
    assert_eq!(
        store.record_of(&other, &records[3].serial).await.unwrap(),
        None
    );
    let foreign = Serial::from_der_content(&[0x7f, 1]).unwrap();
    assert_eq!(store.record(&foreign).await.unwrap(), None);
    assert_eq!(store.record(&serial(999, NOW)).await.unwrap(), None);
}

async fn a_log_is_gapless_from_many_writers(store: Store) {
    let first = furnish(&store).await;
    let second = authority("central", 2);
    store.insert_authority(&second, &[]).await.unwrap();
    let authorities = [first, second.id];
    let tasks = (0..8_u64).map(|task| {
        let (store, authorities) = (store.clone(), authorities.clone());
        async move {
            let mut indices = Vec::new();
            for batch in 0..12_u64 {
                // Some take the logs in the one order, some in the other.
                let records: Vec<_> = (0..20_u64)
                    .map(|n| {
                        let which = usize::try_from((n + task + batch) % 2).unwrap();
                        record(&authorities[which], task * 1000 + batch * 20 + n)
                    })
                    .collect();
                for (new, result) in records
                    .iter()
                    .zip(store.record_batch(&records).await.unwrap())
                {
                    indices.push((new.authority.clone(), result.unwrap(), new.serial));
                }
            }
            indices
        }
    });
    let mut all: Vec<_> = join_all(tasks).await.into_iter().flatten().collect();
    all.sort();
    for authority in &authorities {
        let mine: Vec<_> = all.iter().filter(|(a, _, _)| a == authority).collect();
        assert_eq!(mine.len(), 960);
        for (n, (_, index, _)) in (0..).zip(mine) {
            assert_eq!(*index, n);
        }
    }
    for (authority, index, serial) in all.iter().step_by(97) {
        let stored = store.record_of(authority, serial).await.unwrap().unwrap();
        assert_eq!(stored.log_index, *index);
    }
}

async fn a_duplicate_serial_fails_alone(store: Store) {
    let id = furnish(&store).await;
    let taken = record(&id, 5);
    store
        .record_batch(std::slice::from_ref(&taken))
        .await
        .unwrap();
    let mut records: Vec<_> = (10..40).map(|n| record(&id, n)).collect();
    records[17].serial = taken.serial;
    records[20].serial = records[19].serial;
    let results = store.record_batch(&records).await.unwrap();
    let mut next = 1;
    for (n, result) in results.iter().enumerate() {
        if n == 17 || n == 20 {
            assert!(
                matches!(result, Err(RecordError::Duplicate)),
                "{n}: {result:?}"
            );
        } else {
            assert_eq!(result.as_ref().unwrap(), &next, "{n}");
            next += 1;
        }
    }
    assert_eq!(
        store.record(&taken.serial).await.unwrap().unwrap().record,
        taken
    );
    let after = store.record_batch(&[record(&id, 50)]).await.unwrap();
    assert_eq!(after[0].as_ref().unwrap(), &next, "a failed row left a gap");
}

async fn what_cannot_be_stored_fails_alone(store: Store) {
    let id = furnish(&store).await;
    let mut foreign = record(&id, 1);
    foreign.serial = Serial::from_der_content(&[0x12, 0x34]).unwrap();
    let stranger = record(&AuthorityId::parse("stranger-1").unwrap(), 2);
    let mut records = vec![foreign, record(&id, 3), stranger, record(&id, 4)];
    if matches!(store, Store::Postgres(_)) {
        // No partition for the year 2030; a NUL, which Postgres does not store.
        let mut far = record(&id, 5);
        far.serial = serial(5, Timestamp::from_unix(1_900_000_000));
        let mut nul = record(&id, 6);
        nul.caller = "a\0b".to_owned();
        // Too long for an index, and not to be compressed into it.
        let mut long = record(&id, 7);
        long.names = vec![
            (0_u64..200)
                .map(|n| pki::crypto::hex(&sha256(&n.to_be_bytes())))
                .collect(),
        ];
        records.extend([far, nul, long]);
    }
    let results = store.record_batch(&records).await.unwrap();
    for (n, result) in results.iter().enumerate() {
        match n {
            1 => assert_eq!(result.as_ref().unwrap(), &0),
            3 => assert_eq!(result.as_ref().unwrap(), &1),
            _ => assert!(
                matches!(
                    result,
                    Err(RecordError::Refused(_) | RecordError::LogClosed)
                ),
                "{n}: {result:?}"
            ),
        }
    }
}

async fn names_with_sql_in_them_are_names(store: Store) {
    let id = furnish(&store).await;
    let evil = "DNS:'); DROP TABLE certificate; --\\\" $1 ?1 :x {} %s";
    let mut new = record(&id, 1);
    new.names = vec![evil.to_owned()];
    new.caller = "' OR '1'='1".to_owned();
    new.rule = "\u{1F980}\n".to_owned();
    store
        .record_batch(std::slice::from_ref(&new))
        .await
        .unwrap();
    let mut filter = RecordFilter::recent(NOW);
    filter.names = vec![evil.to_owned()];
    filter.caller = Some(new.caller.clone());
    assert_eq!(found(&store, &filter).await[0].record, new);
    filter.names = vec!["' OR '1'='1".to_owned()];
    assert!(found(&store, &filter).await.is_empty());
    let mut words = told(evil, 0);
    words[0].actor = evil.to_owned();
    words[0].detail = evil.to_owned();
    store.append_audit(&words).await.unwrap();
    let filter = AuditFilter {
        actor: Some(evil.to_owned()),
        kind: Some(evil.to_owned()),
        limit: 9,
        ..AuditFilter::default()
    };
    assert_eq!(store.search_audit(&filter).await.unwrap()[0].detail, evil);
}

async fn an_enrolment_is_good_for_one_key(store: Store) {
    let id = furnish(&store).await;
    let made = enrolment(&store, "e1").await;
    assert_eq!(
        store.enrolment_by_hash(&made.hash).await.unwrap(),
        Some(made.clone())
    );
    assert_eq!(store.enrolment_by_hash(&sha256(b"no")).await.unwrap(), None);
    let first = record(&id, 1);
    assert_eq!(
        store.record_enrolled(&first, "e1", later(1)).await.unwrap(),
        0
    );
    // The same key or another one: it is spent. What it was used for is found again.
    let mut again = record(&id, 3);
    again.key_digest = first.key_digest;
    for (new, at) in [(again, later(1)), (record(&id, 4), later(2))] {
        let result = store.record_enrolled(&new, "e1", at).await;
        assert!(
            matches!(result, Err(RecordError::EnrolmentSpent)),
            "{result:?}"
        );
    }
    let used = store.enrolment("e1").await.unwrap().unwrap();
    assert_eq!(
        (used.consumed_at, used.key_digest, used.certificate),
        (
            Some(later(1)),
            Some(first.key_digest),
            Some((id.clone(), first.serial))
        )
    );

    let withdrawn = enrolment(&store, "e2").await;
    assert!(store.revoke_enrolment("e2", NOW, &[]).await.unwrap());
    assert!(!store.revoke_enrolment("e2", later(5), &[]).await.unwrap());
    let result = store.record_enrolled(&record(&id, 5), "e2", NOW).await;
    assert!(
        matches!(result, Err(RecordError::EnrolmentRevoked)),
        "{result:?}"
    );
    let row = store
        .enrolment_by_hash(&withdrawn.hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.revoked_at, row.consumed_at), (Some(NOW), None));

    let old = enrolment(&store, "e3").await;
    let result = store
        .record_enrolled(&record(&id, 6), "e3", old.expires_at)
        .await;
    assert!(
        matches!(result, Err(RecordError::EnrolmentExpired)),
        "{result:?}"
    );
    let result = store.record_enrolled(&record(&id, 7), "none", NOW).await;
    assert!(matches!(result, Err(RecordError::Refused(_))), "{result:?}");
    for n in 3..=7 {
        assert_eq!(store.record(&record(&id, n).serial).await.unwrap(), None);
    }
    assert!(is_conflict(store.insert_enrolment(&made, &[]).await));
}

async fn an_enrolment_races_to_one_winner(store: Store) {
    let id = furnish(&store).await;
    enrolment(&store, "e").await;
    let calls = (0..12).map(|n| {
        let (store, new) = (store.clone(), record(&id, n));
        async move { store.record_enrolled(&new, "e", later(1)).await }
    });
    let results = join_all(calls).await;
    assert_eq!(
        results.iter().filter(|r| r.is_ok()).count(),
        1,
        "{results:?}"
    );
    for error in results.into_iter().filter_map(Result::err) {
        assert!(matches!(error, RecordError::EnrolmentSpent), "{error:?}");
    }
    assert_eq!(
        store.record_batch(&[record(&id, 50)]).await.unwrap()[0]
            .as_ref()
            .unwrap(),
        &1
    );
}

async fn a_refused_record_leaves_the_enrolment_unused(store: Store) {
    let id = furnish(&store).await;
    let made = enrolment(&store, "e").await;
    let taken = record(&id, 1);
    store
        .record_batch(std::slice::from_ref(&taken))
        .await
        .unwrap();
    let result = store.record_enrolled(&taken, "e", NOW).await;
    assert!(matches!(result, Err(RecordError::Duplicate)), "{result:?}");
    let stranger = record(&AuthorityId::parse("stranger-1").unwrap(), 2);
    let result = store.record_enrolled(&stranger, "e", NOW).await;
    assert!(matches!(result, Err(RecordError::LogClosed)), "{result:?}");
    assert_eq!(
        store.enrolment_by_hash(&made.hash).await.unwrap(),
        Some(made)
    );
    assert_eq!(
        store
            .record_enrolled(&record(&id, 3), "e", NOW)
            .await
            .unwrap(),
        1
    );
}

async fn the_clock_only_rises_until_accepted(store: Store) {
    assert_eq!(store.clock_high_water().await.unwrap(), None);
    store.raise_clock_high_water(later(10)).await.unwrap();
    store.raise_clock_high_water(NOW).await.unwrap();
    assert_eq!(store.clock_high_water().await.unwrap(), Some(later(10)));
    assert_eq!(store.clock_acceptance().await.unwrap(), None);
    assert_eq!(store.accept_clock(NOW, "admin", &[]).await.unwrap(), 1);
    assert_eq!(store.clock_high_water().await.unwrap(), Some(NOW));
    assert_eq!(store.accept_clock(later(3), "admin", &[]).await.unwrap(), 2);
    assert_eq!(store.clock_acceptance().await.unwrap(), Some((2, later(3))));
    let clock = store.clock().await.unwrap();
    assert_eq!(clock.is_some(), matches!(store, Store::Postgres(_)));
    // After the day on which this was written, and before the year 2100.
    assert!(clock.is_none_or(|t| (1_750_000_000..4_102_444_800).contains(&t.unix())));
}

async fn changes_are_counted_and_reads_are_not(store: Store) {
    let mut last = store.change_sequence().await.unwrap();
    let mut grew = async |by: u64, what: &str| {
        let now = store.change_sequence().await.unwrap();
        assert_eq!(now, last + by, "{what}");
        last = now;
    };
    let id = furnish(&store).await;
    grew(2, "a cluster and an authority").await;
    let domain = TrustDomain::parse("example.org").unwrap();
    store.add_root(&domain, b"a", NOW, &[]).await.unwrap();
    grew(1, "a root").await;
    store.add_root(&domain, b"a", NOW, &[]).await.unwrap();
    grew(0, "a root that was there").await;
    enrolment(&store, "e").await;
    store.record_batch(&[record(&id, 1)]).await.unwrap();
    store.authorities().await.unwrap();
    grew(0, "records and enrolments").await;
    store.revoke_enrolment("e", NOW, &[]).await.unwrap();
    grew(1, "an enrolment withdrawn").await;
    assert!(is_conflict(
        store.update_cluster(&cluster("central"), 9, &[]).await
    ));
    grew(0, "a race that was lost").await;
}

async fn a_lease_has_one_holder(store: Store) {
    assert!(store.try_lease("crl", "a", 60).await.unwrap());
    assert!(!store.try_lease("crl", "b", 60).await.unwrap());
    assert!(store.try_lease("other", "b", 60).await.unwrap());
    assert!(store.try_lease("crl", "a", 0).await.unwrap());
    assert!(
        store.try_lease("crl", "b", 60).await.unwrap(),
        "it has run out"
    );
    assert!(!store.try_lease("crl", "a", 60).await.unwrap());
}

async fn past_records_are_dropped(store: Store) {
    let id = furnish(&store).await;
    let (today, tomorrow) = (NOW, NOW.plus(Ttl::days(1)));
    let mut records = vec![record(&id, 1), record(&id, 2)];
    records[0].serial = serial(1, today);
    records[1].serial = serial(2, tomorrow);
    for result in store.record_batch(&records).await.unwrap() {
        result.unwrap();
    }
    store.drop_records(today).await.unwrap();
    assert!(store.record(&records[0].serial).await.unwrap().is_some());
    store.drop_records(tomorrow).await.unwrap();
    store.drop_records(tomorrow).await.unwrap();
    assert_eq!(store.record(&records[0].serial).await.unwrap(), None);
    assert!(store.record(&records[1].serial).await.unwrap().is_some());
    let mut by_name = RecordFilter::recent(NOW);
    by_name.names = vec!["DNS:ä.example".to_owned()];
    assert_eq!(found(&store, &by_name).await.len(), 1);
    assert_eq!(
        store.record_batch(&[record(&id, 3)]).await.unwrap()[0]
            .as_ref()
            .unwrap(),
        &2
    );
}

async fn the_recorder_answers_each_and_drains(store: Store) {
    let id = furnish(&store).await;
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let recorder = Recorder::start(store.clone(), &tasks, shutdown.clone());
    let calls = (0..700).map(|n| {
        let (recorder, new) = (recorder.clone(), record(&id, n));
        async move { recorder.record(new).await.unwrap() }
    });
    let mut indices = join_all(calls).await;
    indices.sort_unstable();
    assert_eq!(indices, (0..700).collect::<Vec<_>>());

    // In the queue when the shutdown comes, its caller gone: still written. (A future that was polled once has queued.)
    let orphan = record(&id, 900);
    let mut call = Box::pin(recorder.record(orphan.clone()));
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(call.as_mut().poll(context).is_pending())
    });
    assert!(polled.await);
    drop(call);
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    assert!(store.record(&orphan.serial).await.unwrap().is_some());
    let result = recorder.record(record(&id, 901)).await;
    assert!(
        matches!(result, Err(RecordError::Unavailable { .. })),
        "{result:?}"
    );
}

// === what one engine alone promises

#[tokio::test]
async fn a_sqlite_file_is_its_owners_alone_and_opens_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    let url = StoreUrl::parse(&format!("sqlite://{}", path.display())).unwrap();
    assert_eq!(
        Store::migrate(&url, NOW).await.unwrap(),
        [
            "0001 create schema",
            "0002 revocation and status",
            "0003 envelope keys",
            "0004 publication and ends",
            "0005 audit",
            "0006 search",
            "0007 administration",
        ]
    );
    let store = Store::open(&url).await.unwrap();
    let id = furnish(&store).await;
    store.record_batch(&[record(&id, 1)]).await.unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    store.close().await;
    assert!(Store::migrate(&url, NOW).await.unwrap().is_empty());
    let store = Store::open(&url).await.unwrap();
    assert!(
        store
            .record(&record(&id, 1).serial)
            .await
            .unwrap()
            .is_some()
    );
    let absent = format!("sqlite://{}/no/ca.db", directory.path().display());
    let result = Store::open(&StoreUrl::parse(&absent).unwrap()).await;
    assert!(matches!(result, Err(StoreError::File { .. })));
}

#[tokio::test]
async fn postgres_without_its_migrations_is_refused() {
    let Some(server) = server() else { return };
    let url = StoreUrl::parse(&server.create_database().unwrap()).unwrap();
    let error = Store::open(&url).await.unwrap_err();
    assert!(
        error.to_string().contains("run `ca-server migrate`"),
        "{error}"
    );
    let both = tokio::join!(Store::migrate(&url, NOW), Store::migrate(&url, NOW));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    assert!(Store::migrate(&url, NOW).await.unwrap().is_empty());
    Store::open(&url).await.unwrap();
}

#[tokio::test]
async fn a_block_that_comes_near_is_split_and_keeps_its_records() {
    let Some(server) = server() else { return };
    let url = StoreUrl::parse(&server.create_database().unwrap()).unwrap();
    Store::migrate(&url, NOW).await.unwrap();
    let store = Store::open(&url).await.unwrap();
    let id = furnish(&store).await;
    let records: Vec<_> = (0..60)
        .map(|n| {
            let mut new = record(&id, n);
            new.not_after = NOW.plus(Ttl::days(60 + u32::try_from(n).unwrap()));
            new.serial = serial(n, new.not_after);
            new
        })
        .collect();
    for result in store.record_batch(&records).await.unwrap() {
        result.unwrap();
    }
    let later = NOW.plus(Ttl::days(50));
    store.maintain_partitions(later).await.unwrap();
    store.maintain_partitions(later).await.unwrap();
    for new in &records {
        assert_eq!(
            store.record(&new.serial).await.unwrap().unwrap().record,
            *new
        );
    }
    let mut far = record(&id, 99);
    far.serial = serial(99, later.plus(Ttl::days(450)));
    store.record_batch(&[far]).await.unwrap()[0]
        .as_ref()
        .unwrap();
    // What is past goes, day by day now.
    store.drop_records(NOW.plus(Ttl::days(70))).await.unwrap();
    assert_eq!(store.record(&records[9].serial).await.unwrap(), None);
    assert!(store.record(&records[10].serial).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_down_nothing_is_recorded_and_afterwards_nothing_is_half() {
    if !has_postgres() {
        return;
    }
    let mut server = Postgres::start().unwrap();
    let url = StoreUrl::parse(&server.create_database().unwrap()).unwrap();
    Store::migrate(&url, NOW).await.unwrap();
    let store = Store::open(&url).await.unwrap();
    let id = furnish(&store).await;
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let recorder = Recorder::start(store.clone(), &tasks, shutdown.clone());

    // The server dies while eight callers record as fast as they can.
    let recorded = Arc::new(tokio::sync::Semaphore::new(0));
    let callers: Vec<_> = (0..8_u64)
        .map(|task| {
            let (recorder, id, recorded) = (recorder.clone(), id.clone(), recorded.clone());
            tasks.spawn(async move {
                let mut mine = Vec::new();
                for n in 0.. {
                    let new = record(&id, task * 100_000 + n);
                    match recorder.record(new.clone()).await {
                        Ok(index) => mine.push((index, new.serial)),
                        Err(RecordError::Unavailable { .. }) => break,
                        Err(error) => panic!("{error:?}"),
                    }
                    recorded.add_permits(1);
                }
                mine
            })
        })
        .collect();
    recorded.acquire_many(200).await.unwrap().forget();
    let mut server = tokio::task::spawn_blocking(move || {
        server.stop().unwrap();
        server
    })
    .await
    .unwrap();
    let mut answered = Vec::new();
    for caller in callers {
        answered.extend(caller.await.unwrap());
    }
    let error = store.clusters().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let result = store.record_batch(&[record(&id, 1)]).await;
    assert!(result.is_err_and(|e| e.is_retryable()));

    let server = tokio::task::spawn_blocking(move || {
        server.start_again().unwrap();
        server
    })
    .await
    .unwrap();
    let new = record(&id, 5_000_000);
    let next = recorder.record(new.clone()).await.unwrap();
    for (index, serial) in &answered {
        let stored = store.record_of(&id, serial).await.unwrap().unwrap();
        assert_eq!(stored.log_index, *index);
    }
    // As many records as the log counts: those that were answered, and perhaps a batch whose answer was lost.
    let mut filter = RecordFilter::recent(NOW);
    (filter.expires_to, filter.limit) = (NOW.plus(Ttl::days(400)), 500);
    let all = found(&store, &filter).await;
    let mut indices: Vec<_> = all.iter().map(|stored| stored.log_index).collect();
    indices.sort_unstable();
    assert_eq!(indices, (0..=next).collect::<Vec<_>>());
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_and_a_stopped_server_are_unavailable_within_seconds() {
    if !has_postgres() {
        return;
    }
    let server = Postgres::start().unwrap();
    let url = server.create_database().unwrap();
    let store_url = StoreUrl::parse(&url).unwrap();
    Store::migrate(&store_url, NOW).await.unwrap();
    let store = Store::open(&store_url).await.unwrap();
    let id = furnish(&store).await;

    let mut rude = <sqlx::PgConnection as sqlx::Connection>::connect(&url)
        .await
        .unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE certificate IN ACCESS EXCLUSIVE MODE")
        .execute(&mut rude)
        .await
        .unwrap();
    let result = store.record_batch(&[record(&id, 1)]).await;
    assert!(
        result.as_ref().is_err_and(StoreError::is_retryable),
        "{result:?}"
    );
    assert!(
        store.authorities().await.unwrap().len() == 1,
        "the rest is still answered"
    );
    sqlx::raw_sql("ROLLBACK").execute(&mut rude).await.unwrap();
    assert_eq!(
        store.record_batch(&[record(&id, 2)]).await.unwrap()[0]
            .as_ref()
            .unwrap(),
        &0
    );

    server.pause().unwrap();
    let calls = (3..9).map(|n| {
        let (store, new) = (store.clone(), record(&id, n));
        async move { store.record_batch(&[new]).await }
    });
    for result in join_all(calls).await {
        assert!(
            result.as_ref().is_err_and(StoreError::is_retryable),
            "{result:?}"
        );
    }
    server.resume().unwrap();
    // Connections come back as the server answers what it was asked before; whether that was done is open.
    let mut last = None;
    for n in 10..40 {
        match store.record_batch(&[record(&id, n)]).await {
            Ok(results) => {
                last = Some(*results[0].as_ref().unwrap());
                break;
            }
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    let all = found(&store, &RecordFilter::recent(NOW)).await;
    let mut indices: Vec<_> = all.iter().map(|stored| stored.log_index).collect();
    indices.sort_unstable();
    assert_eq!(indices, (0..=last.unwrap()).collect::<Vec<_>>());
}

/// Runs all at once and gives the results in order.
async fn join_all<T: Send + 'static>(
    calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks = TaskTracker::new();
    let handles: Vec<_> = calls.into_iter().map(|call| tasks.spawn(call)).collect();
    let mut results = Vec::new();
    for handle in handles {
        results.push(handle.await.unwrap());
    }
    results
}
