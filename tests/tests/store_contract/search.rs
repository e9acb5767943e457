//! What a search promises.

use ca_server::store::Store;
use ca_server::store::model::{NewRecord, RecordFilter, RecordState, StatusChange, StoredRecord};
use pki::crypto::sha256;
use pki::name::{AuthorityId, ClusterName, ProfileName};
use pki::time::{Timestamp, Ttl};

use super::{NOW, authority, cluster, furnish, later, record, serial};

/// Every record of a search, page by page; none is longer than asked for.
pub(super) async fn found(store: &Store, filter: &RecordFilter) -> Vec<StoredRecord> {
    let mut filter = filter.clone();
    let mut records = Vec::new();
    loop {
        let page = store.search(&filter).await.unwrap();
        assert!(page.records.len() <= filter.limit as usize);
        records.extend(page.records);
        if page.next.is_none() {
            return records;
        }
        assert!(page.next != filter.after, "a page that leads to itself");
        filter.after = page.next;
    }
}

fn change(record: &NewRecord, reason: u8) -> StatusChange {
    StatusChange {
        authority: record.authority.clone(),
        serial: record.serial,
        at: NOW,
        reason,
        actor: "test".to_owned(),
        leaf_hash: sha256(record.serial.as_bytes()),
    }
}

/// Records of two clusters with what a filter may ask for, many of them of the same second, some of them ended.
async fn fill(store: &Store) -> Vec<NewRecord> {
    let central = furnish(store).await;
    store.insert_cluster(&cluster("edge"), &[]).await.unwrap();
    let edge = authority("edge", 1);
    store.insert_authority(&edge, &[]).await.unwrap();
    let mut records = Vec::new();
    for n in 0..120_u64 {
        let id = if n % 5 == 0 { &edge.id } else { &central };
        let mut new = record(id, n);
        if n % 5 == 0 {
            new.cluster = ClusterName::parse("edge").unwrap();
        }
        // Seven of a second; lives of eight hours to three days.
        new.issued_at = later(i64::try_from(n / 7).unwrap() * 3_600 + 1);
        let life = [8, 20, 72][usize::try_from(n % 3).unwrap()];
        new.not_after = new.issued_at.plus(Ttl::hours(life));
        new.serial = serial(n, new.not_after);
        new.caller = format!("caller {}", n % 11);
        new.key_digest = sha256(&[u8::try_from(n % 4).unwrap()]);
        new.names.push(format!("IP:192.0.2.{}", n % 9));
        if n % 10 == 3 {
            new.profile = ProfileName::parse("server").unwrap();
        }
        records.push(new);
    }
    for result in store.record_batch(&records).await.unwrap() {
        result.unwrap();
    }
    for (n, new) in records.iter().enumerate() {
        match n % 13 {
            2 => store.revoke(&[change(new, 1)], &[]).await.unwrap(),
            4 => store.revoke(&[change(new, 6)], &[]).await.unwrap(),
            _ => continue,
        };
    }
    records
}

/// Where the hours of [`fill`] are half over: some certificates have ended.
const THEN: Timestamp = Timestamp::from_unix(NOW.unix() + 15 * 3_600);

fn state(n: usize, record: &NewRecord) -> RecordState {
    match n % 13 {
        2 => RecordState::Revoked,
        4 => RecordState::Held,
        _ if record.not_after < THEN => RecordState::Expired,
        _ => RecordState::Valid,
    }
}

pub(super) async fn a_search_finds_what_fits_page_by_page(store: Store) {
    type Fits = Box<dyn Fn(usize, &NewRecord) -> bool>;
    let records = fill(&store).await;
    let all = RecordFilter {
        limit: 7,
        ..RecordFilter::ever(THEN)
    };
    let edge = ClusterName::parse("edge").unwrap();
    let server = ProfileName::parse("server").unwrap();
    let workload = ProfileName::parse("workload").unwrap();
    let edge_1 = AuthorityId::of_cluster(&edge, 1);
    let (one, key) = (records[64].clone(), sha256(&[3]));
    let (from, to) = (later(3 * 3_600), later(9 * 3_600));
    let mut cases: Vec<(&str, RecordFilter, Fits)> = vec![
        ("all", all.clone(), Box::new(|_, _| true)),
        (
            "serial",
            RecordFilter {
                serial: Some(one.serial),
                ..all.clone()
            },
            Box::new(|n, _| n == 64),
        ),
        (
            "serial, and another caller's",
            RecordFilter {
                serial: Some(one.serial),
                caller: Some("caller 1".to_owned()),
                ..all.clone()
            },
            Box::new(|_, _| false),
        ),
        (
            "cluster",
            RecordFilter {
                cluster: Some(edge.clone()),
                ..all.clone()
            },
            Box::new(|n, _| n % 5 == 0),
        ),
        (
            "one of no other clusters",
            RecordFilter {
                among: Some([edge.clone()].into()),
                ..all.clone()
            },
            Box::new(|n, _| n % 5 == 0),
        ),
        (
            "one of both clusters",
            RecordFilter {
                among: Some([edge.clone(), records[1].cluster.clone()].into()),
                ..all.clone()
            },
            Box::new(|_, _| true),
        ),
        (
            "one of some clusters, by a caller",
            RecordFilter {
                among: Some([edge.clone()].into()),
                caller: Some("caller 4".to_owned()),
                ..all.clone()
            },
            Box::new(|n, _| n % 5 == 0 && n % 11 == 4),
        ),
        (
            "one of no clusters",
            RecordFilter {
                among: Some(std::collections::BTreeSet::new()),
                ..all.clone()
            },
            Box::new(|_, _| false),
        ),
        (
            "authority",
            RecordFilter {
                authority: Some(edge_1.clone()),
                ..all.clone()
            },
            Box::new(|n, _| n % 5 == 0),
        ),
        (
            "caller",
            RecordFilter {
                caller: Some("caller 4".to_owned()),
                ..all.clone()
            },
            Box::new(|n, _| n % 11 == 4),
        ),
        (
            "key",
            RecordFilter {
                key: Some(key),
                ..all.clone()
            },
            Box::new(|n, _| n % 4 == 3),
        ),
        (
            "a rare profile",
            RecordFilter {
                profile: Some(server.clone()),
                ..all.clone()
            },
            Box::new(|n, _| n % 10 == 3),
        ),
        (
            "the common profile",
            RecordFilter {
                profile: Some(workload),
                ..all.clone()
            },
            Box::new(|n, _| n % 10 != 3),
        ),
        (
            "URI",
            RecordFilter {
                names: vec!["URI:spiffe://example.org/ns/x/sa/17".to_owned()],
                ..all.clone()
            },
            Box::new(|n, _| n == 17),
        ),
        (
            "DNS",
            RecordFilter {
                names: vec!["DNS:ä.example".to_owned()],
                ..all.clone()
            },
            Box::new(|_, _| true),
        ),
        (
            "IP and DNS",
            RecordFilter {
                names: vec!["IP:192.0.2.8".to_owned(), "DNS:ä.example".to_owned()],
                ..all.clone()
            },
            Box::new(|n, _| n % 9 == 8),
        ),
        (
            "no such name",
            RecordFilter {
                names: vec!["DNS:x.example".to_owned()],
                ..all.clone()
            },
            Box::new(|_, _| false),
        ),
        (
            "issued",
            RecordFilter {
                issued_from: Some(from),
                issued_to: Some(to),
                ..all.clone()
            },
            Box::new(move |_, r| (from..to).contains(&r.issued_at)),
        ),
        (
            "expires",
            RecordFilter {
                expires_from: THEN,
                expires_to: THEN.plus(Ttl::hours(9)),
                ..all.clone()
            },
            Box::new(|_, r| (THEN..=THEN.plus(Ttl::hours(9))).contains(&r.not_after)),
        ),
        (
            "all of it",
            RecordFilter {
                authority: Some(edge_1),
                profile: Some(server),
                key: Some(key),
                issued_from: Some(from),
                ..all.clone()
            },
            Box::new(move |n, r| n % 5 == 0 && n % 10 == 3 && n % 4 == 3 && r.issued_at >= from),
        ),
    ];
    for asked in ["valid", "expired", "revoked", "held"] {
        let asked = RecordState::parse(asked).unwrap();
        let filter = RecordFilter {
            state: Some(asked),
            ..all.clone()
        };
        let of_caller = RecordFilter {
            caller: Some("caller 2".to_owned()),
            ..filter.clone()
        };
        let of_time = RecordFilter {
            issued_from: Some(from),
            ..filter.clone()
        };
        cases.push((
            asked.as_str(),
            filter,
            Box::new(move |n, r| state(n, r) == asked),
        ));
        let fits: Fits = Box::new(move |n, r| state(n, r) == asked && n % 11 == 2);
        cases.push((asked.as_str(), of_caller, fits));
        let fits: Fits = Box::new(move |n, r| state(n, r) == asked && r.issued_at >= from);
        cases.push((asked.as_str(), of_time, fits));
    }
    for (what, filter, fits) in cases {
        let mut expected: Vec<_> = records
            .iter()
            .enumerate()
            .filter(|(n, r)| fits(*n, r))
            .map(|(_, r)| r.clone())
            .collect();
        expected.sort_by_key(|r| std::cmp::Reverse((r.issued_at, r.serial)));
        for limit in [1, 7, 500] {
            let filter = RecordFilter {
                limit,
                ..filter.clone()
            };
            let records = found(&store, &filter)
                .await
                .into_iter()
                .map(|stored| stored.record);
            let records: Vec<_> = records.collect();
            assert!(
                records == expected,
                "{what}, {limit} a page: {} of {}",
                records.len(),
                expected.len()
            );
        }
    }
}

pub(super) async fn a_page_has_a_bound(store: Store) {
    let id = furnish(&store).await;
    let records: Vec<_> = (0..600).map(|n| record(&id, n)).collect();
    store.record_batch(&records).await.unwrap();
    for (limit, expected) in [(0, 1), (1, 1), (2, 2), (500, 500), (u32::MAX, 500)] {
        let filter = RecordFilter {
            limit,
            ..RecordFilter::recent(NOW)
        };
        let page = store.search(&filter).await.unwrap();
        assert_eq!(page.records.len(), expected);
        assert_eq!(page.next, page.records.last().map(StoredRecord::cursor));
    }
}

pub(super) async fn a_page_ends_where_enough_was_looked_at(store: Store) {
    let id = furnish(&store).await;
    let mut records: Vec<_> = (0..5_200).map(|n| record(&id, n)).collect();
    for new in &mut records[1..] {
        new.profile = ProfileName::parse("server").unwrap();
    }
    for batch in records.chunks(512) {
        store.record_batch(batch).await.unwrap();
    }
    // The oldest alone is of the profile that is looked for among all.
    let mut filter = RecordFilter::recent(NOW);
    filter.profile = Some(records[0].profile.clone());
    let page = store.search(&filter).await.unwrap();
    assert!(page.records.is_empty(), "{} rows", page.records.len());
    filter.after = page.next;
    assert!(filter.after.is_some());
    let page = store.search(&filter).await.unwrap();
    assert_eq!(page.records[0].record, records[0]);
    assert_eq!(page.next, None);
}
