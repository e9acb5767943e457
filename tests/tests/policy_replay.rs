//! A policy before it is put in force: what it says of one request, and of those that were recorded.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use ca_server::app::caller::{Caller, Proof, Shown};
use ca_server::app::issue::{IssueRequest, IssuedCertificate};
use ca_server::app::policy::{Difference, DryRun, PolicyDocument, Replay, ReplayRequest, Verdict};
use ca_server::app::policy::{dry_run, replay};
use ca_server::app::state::Cluster;
use ca_server::app::{Error, ErrorKind, Refused};
use pki::name::{ClusterName, ProfileName, SpiffeId, SpiffePattern};
use pki::policy::{AskedTtl, Identity, OWN_IDENTITY, Outcome};
use pki::profile::Profile;
use pki::serial::Serial;
use pki::time::Ttl;
use rcgen::SanType;
use serde_json::json;
use tests::fleet::Fleet;
use tests::inside::Inside;
use tests::requests::KeyAndRequest;

const GATEWAYS: &str = r#"
max_ttl = "7d"
[[rule]]
name = "gateways"
profile = "server"
callers = "spiffe://cluster.local/ns/gw/sa/*"
dns = ["**.example.com"]
max_ttl = "30d"
"#;

fn central() -> ClusterName {
    ClusterName::parse("central").unwrap()
}

fn cluster(inside: &Inside) -> Arc<Cluster> {
    inside.app.snapshot().clusters[&central()].clone()
}

async fn issue(
    inside: &Inside,
    identity: Identity,
    proof: Proof,
    profile: Profile,
    csr: &KeyAndRequest,
    ttl: AskedTtl,
) -> Result<IssuedCertificate, Error> {
    let request = IssueRequest {
        csr: csr.der.clone(),
        profile,
        ttl,
        caller: Caller {
            cluster: cluster(inside),
            identity,
            proof,
            remote: "127.0.0.1:1".to_owned(),
        },
        request_id: "r".to_owned(),
    };
    inside.app.issue(&request).await
}

fn account(namespace: &str) -> (Identity, Proof) {
    let id = format!("spiffe://cluster.local/ns/{namespace}/sa/web");
    let proof = Proof::ServiceAccount {
        account: format!("{namespace}/web"),
        pod: None,
        node: None,
        token_id: None,
    };
    (Identity::Exactly(SpiffeId::parse(&id).unwrap()), proof)
}

fn for_host(name: &str) -> KeyAndRequest {
    KeyAndRequest::build(|params| {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.try_into().unwrap()));
    })
}

fn candidate(change: impl FnOnce(&mut PolicyDocument), inside: &Inside) -> PolicyDocument {
    let policy = &cluster(inside).policy;
    let mut document = PolicyDocument {
        default_ttl: policy.default_ttl,
        max_ttl: policy.max_ttl,
        strict: policy.strict,
        rules: policy.rules.clone(),
    };
    change(&mut document);
    document
}

async fn replayed(inside: &Inside, policy: PolicyDocument, limit: usize) -> Replay {
    let request = ReplayRequest {
        policy,
        days: 7,
        limit,
    };
    replay(inside.app.context(), &central(), &request)
        .await
        .unwrap()
}

/// The difference of the caller whose label begins so.
fn of<'a>(replay: &'a Replay, caller: &str) -> &'a Difference {
    let found = replay
        .differing
        .iter()
        .find(|d| d.caller.starts_with(caller));
    found.unwrap_or_else(|| panic!("{caller} is not in {replay:?}"))
}

/// An account's 7 days of the 30 that it asked for, its renewal for exactly an hour, an enrolment's, and a gateway's.
async fn four_certificates(fleet: &Fleet, inside: &Inside) {
    let (me, proof) = account("foo");
    let plain = KeyAndRequest::build(|_| ());
    let long = AskedTtl::AtMost(Ttl::days(30));
    let first = issue(inside, me.clone(), proof, Profile::WORKLOAD, &plain, long).await;
    let first = first.unwrap();
    let proof = Proof::Certificate(Shown {
        authority: first.authority.id.clone(),
        serial: first.certificate.serial(),
        checked_at: tests::now(),
    });
    let hour = AskedTtl::Exactly(Ttl::hours(1));
    issue(inside, me, proof, Profile::WORKLOAD, &plain, hour)
        .await
        .unwrap();

    fleet.enrolment_token("central", "spiffe://cluster.local/edge/*");
    let enrolments = inside.app.context().store.enrolments().await.unwrap();
    let proof = Proof::Enrolment {
        id: enrolments[0].id.clone(),
        profile: ProfileName::parse("workload").unwrap(),
    };
    let edge = KeyAndRequest::for_uris(&["spiffe://cluster.local/edge/7"]);
    let pattern = Identity::OneOf(SpiffePattern::parse("spiffe://cluster.local/edge/*").unwrap());
    let none = AskedTtl::Default;
    issue(inside, pattern, proof, Profile::WORKLOAD, &edge, none)
        .await
        .unwrap();

    let (gateway, proof) = account("gw");
    let host = for_host("api.example.com");
    issue(inside, gateway, proof, Profile::SERVER, &host, none)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_changed_policy_is_tried_on_what_was_recorded() {
    let fleet = Fleet::build(None, &["central"], GATEWAYS);
    let inside = Inside::of(&fleet).await;
    four_certificates(&fleet, &inside).await;
    let unchanged = replayed(&inside, candidate(|_| (), &inside), 10).await;
    assert_eq!(
        (unchanged.examined, unchanged.same),
        (4, 4),
        "{unchanged:?}"
    );
    assert!(unchanged.differing.is_empty() && !unchanged.truncated);

    // The server's own and the responders' certificates were no decisions of policy.
    let narrow = |p: &mut PolicyDocument| {
        p.max_ttl = Ttl::days(1);
        p.rules.clear();
    };
    let narrower = replayed(&inside, candidate(narrow, &inside), 10).await;
    assert_eq!((narrower.examined, narrower.same), (4, 2), "{narrower:?}");
    // Those of one second have no order.
    let gateway = of(&narrower, "sa:gw/web");
    let shortened = of(&narrower, "sa:foo/web");
    assert_eq!(gateway.names, ["DNS:api.example.com"]);
    assert!(matches!(&gateway.before, Verdict::Granted(g) if g.rule == "gateways"));
    assert!(
        matches!(&gateway.after, Verdict::Refused { refusal } if refusal.starts_with("no rule lets")),
        "{gateway:?}"
    );
    // Istio's caller had asked for as much as it can have, so that it gets less and no refusal.
    assert!(matches!(&shortened.before, Verdict::Granted(g) if g.ttl == Ttl::days(7)));
    assert!(matches!(&shortened.after, Verdict::Granted(g) if g.ttl == Ttl::days(1)));
    assert!(!gateway.in_force_too && !shortened.in_force_too);
    let answer = serde_json::to_value(shortened).unwrap();
    assert_eq!(answer["before"]["decision"], "granted");
    assert_eq!(answer["after"]["ttl"], "1d");
    let answer = serde_json::to_value(gateway).unwrap();
    assert_eq!(answer["after"]["decision"], "refused");

    let cut = replayed(&inside, candidate(narrow, &inside), 1).await;
    assert_eq!(
        (cut.examined, cut.differing.len(), cut.truncated),
        (4, 1, true)
    );

    // What was asked for exactly is refused where it is too long.
    let minutes = |p: &mut PolicyDocument| {
        p.default_ttl = Ttl::minutes(10);
        p.max_ttl = Ttl::minutes(10);
    };
    let shorter = replayed(&inside, candidate(minutes, &inside), 10).await;
    let renewal = of(&shorter, "spiffe://cluster.local/ns/foo/sa/web");
    assert!(matches!(&renewal.after, Verdict::Refused { refusal } if refusal.contains("1h")));
    let enrolled = of(&shorter, "enrolment:");
    assert!(matches!(&enrolled.after, Verdict::Granted(g) if g.ttl == Ttl::minutes(10)));

    // Once it is in force, the differences are no change's doing any more.
    fleet.apply(0, "max_ttl = \"1d\"");
    inside.app.reload().await.unwrap();
    let after = replayed(&inside, candidate(|_| (), &inside), 10).await;
    assert_eq!((after.examined, after.same), (4, 2));
    assert!(after.differing.iter().all(|d| d.in_force_too));
}

#[tokio::test]
async fn what_was_refused_is_decided_again_too() {
    let fleet = Fleet::build(None, &["central", "edge"], GATEWAYS);
    let inside = Inside::of(&fleet).await;
    let host = for_host("api.example.com");
    let plain = KeyAndRequest::build(|_| ());
    let long = AskedTtl::Exactly(Ttl::days(30));
    for (profile, csr, ttl) in [
        (Profile::SERVER, &host, AskedTtl::Default),
        (Profile::WORKLOAD, &plain, long),
    ] {
        let (me, proof) = account("foo");
        let error = issue(&inside, me, proof, profile, csr, ttl).await;
        inside.app.note_refusal(&Refused {
            call: "sign",
            error: &error.unwrap_err(),
            remote: "127.0.0.1:1".to_owned(),
            request_id: "r",
        });
    }
    inside.app.write_refusals(true).await.unwrap();
    let unchanged = replayed(&inside, candidate(|_| (), &inside), 10).await;
    assert_eq!(
        (unchanged.examined, unchanged.same),
        (2, 2),
        "{unchanged:?}"
    );

    let wider = |p: &mut PolicyDocument| {
        p.rules[0].callers = SpiffePattern::parse("spiffe://cluster.local/ns/*/sa/*").unwrap();
    };
    let found = replayed(&inside, candidate(wider, &inside), 10).await;
    assert_eq!((found.examined, found.same), (2, 1), "{found:?}");
    let given = of(&found, "sa:foo/web");
    assert_eq!(given.names, ["DNS:api.example.com"]);
    let words = |verdict: &Verdict| serde_json::to_string(verdict).unwrap();
    assert!(words(&given.before).contains("no rule lets"), "{given:?}");
    assert!(words(&given.after).contains("gateways"), "{given:?}");
    let (replica, position) = given.refusal.as_ref().unwrap().split_once('/').unwrap();
    let store = &inside.app.context().store;
    let position = position.parse().unwrap();
    let entries = store.audit_entries(replica, position, 1).await.unwrap();
    assert_eq!(entries[0].kind, "refusal.policy");

    // The list's bound is one for refusals and certificates.
    let (other, proof) = account("other");
    let none = AskedTtl::Default;
    issue(&inside, other, proof, Profile::WORKLOAD, &plain, none)
        .await
        .unwrap();
    let all = |p: &mut PolicyDocument| {
        wider(p);
        p.default_ttl = Ttl::hours(1);
        p.max_ttl = Ttl::days(90);
    };
    let cut = replayed(&inside, candidate(all, &inside), 2).await;
    assert_eq!((cut.examined, cut.same), (3, 0));
    assert_eq!((cut.differing.len(), cut.truncated), (2, true));
    let whole = replayed(&inside, candidate(all, &inside), 3).await;
    assert_eq!((whole.differing.len(), whole.truncated), (3, false));
    assert!(whole.differing.iter().rev().is_sorted_by_key(|d| d.at));

    // Another cluster's refusals are not ours.
    let request = ReplayRequest {
        policy: candidate(all, &inside),
        days: 7,
        limit: 10,
    };
    let edge = ClusterName::parse("edge").unwrap();
    let found = replay(inside.app.context(), &edge, &request).await.unwrap();
    assert_eq!(found.examined, 0);
}

#[tokio::test]
async fn a_replay_reads_page_after_page_and_this_clusters_days_alone() {
    let fleet = Fleet::build(None, &["central"], "");
    let inside = Inside::of(&fleet).await;
    let (me, proof) = account("foo");
    let plain = KeyAndRequest::build(|_| ());
    let none = AskedTtl::Default;
    let issued = issue(&inside, me, proof, Profile::WORKLOAD, &plain, none).await;
    let store = &inside.app.context().store;
    let serial = issued.unwrap().certificate.serial();
    let one = store.record(&serial).await.unwrap().unwrap().record;
    let copies: Vec<_> = (0..1_200_u128)
        .map(|n| {
            let mut copy = one.clone();
            copy.serial = Serial::issue(copy.not_after, n.to_be_bytes());
            // Every other one is of the week before.
            if n % 2 == 1 {
                copy.issued_at = copy.issued_at.minus(Ttl::days(8));
            }
            copy
        })
        .collect();
    for result in store.record_batch(&copies).await.unwrap() {
        result.unwrap();
    }
    let shorter = |p: &mut PolicyDocument| p.default_ttl = Ttl::hours(1);
    let found = replayed(&inside, candidate(shorter, &inside), 20).await;
    assert_eq!((found.examined, found.same), (601, 0));
    assert_eq!((found.differing.len(), found.truncated), (20, true));
}

fn wish(more: &serde_json::Value) -> DryRun {
    let mut wish =
        json!({ "identity": "spiffe://cluster.local/ns/gw/sa/web", "profile": "server" });
    for (key, value) in more.as_object().unwrap() {
        wish[key] = value.clone();
    }
    serde_json::from_value(wish).unwrap()
}

#[tokio::test]
async fn a_dry_run_decides_as_issuing_does_and_tells_each_step() {
    let fleet = Fleet::build(None, &["central"], GATEWAYS);
    let inside = Inside::of(&fleet).await;
    let context = inside.app.context();
    let pem = for_host("api.example.com").pem();
    let given = dry_run(context, &central(), &wish(&json!({ "csr": pem })))
        .await
        .unwrap();
    let by_hand = json!({ "names": ["DNS:api.example.com"], "key": "P-256", "ttl": "90d" });
    let same = dry_run(context, &central(), &wish(&by_hand)).await.unwrap();
    assert_eq!(given, same);
    let Verdict::Granted(grant) = &given.verdict else {
        panic!("{given:?}");
    };
    assert_eq!(
        (grant.rule.as_str(), grant.ttl),
        ("gateways", Ttl::days(30))
    );
    let outcomes: Vec<_> = given
        .steps
        .iter()
        .map(|s| (s.rule.as_str(), s.outcome))
        .collect();
    assert_eq!(
        outcomes[2..],
        [
            (OWN_IDENTITY, Outcome::DoesNotFit),
            ("host-names", Outcome::Passes),
            ("gateways", Outcome::Grants)
        ]
    );
    let answer = serde_json::to_value(&given).unwrap();
    assert_eq!(answer["decision"], "granted");
    assert_eq!(answer["steps"][4]["outcome"], "grants");

    let policy = candidate(|p| p.rules[0].dns.clear(), &inside);
    let mut by_candidate = by_hand.clone();
    by_candidate["policy"] = serde_json::to_value(policy).unwrap();
    let refused = dry_run(context, &central(), &wish(&by_candidate))
        .await
        .unwrap();
    assert!(matches!(refused.verdict, Verdict::Refused { .. }));
    let why = &refused.steps[4].why;
    assert_eq!(
        why,
        "its host names are [], and DNS:api.example.com was asked for"
    );
    assert!(
        inside
            .app
            .context()
            .store
            .enrolments()
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused() {
    let fleet = Fleet::build(None, &["central"], GATEWAYS);
    let inside = Inside::of(&fleet).await;
    let context = inside.app.context();
    let host = json!({ "names": ["DNS:api.example.com"], "key": "P-256" });
    let with = |key: &str, value: serde_json::Value| {
        let mut host = host.clone();
        host[key] = value;
        host
    };
    let inverted = candidate(|p| p.max_ttl = Ttl::minutes(1), &inside);
    let forged = candidate(|p| p.rules[0].name = "a\nINFO forged".to_owned(), &inside);
    for bad in [
        json!({}),
        json!({ "names": ["DNS:a"] }),
        with("names", json!(["a.example.com"])),
        with("names", json!(vec!["DNS:api.example.com"; 101])),
        with("key", json!("RSA-1024")),
        with("csr", json!("x")),
        with("enrolment_pattern", json!("spiffe://cluster.local/**")),
        with("profile", json!("made-up")),
        with("policy", serde_json::to_value(inverted.clone()).unwrap()),
        with("policy", serde_json::to_value(forged.clone()).unwrap()),
    ] {
        let error = dry_run(context, &central(), &wish(&bad)).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Malformed, "{bad}");
    }
    let nowhere = ClusterName::parse("nowhere").unwrap();
    let error = dry_run(context, &nowhere, &wish(&host)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for (policy, days, limit) in [
        (inverted, 7, 10),
        (forged, 7, 10),
        (candidate(|_| (), &inside), 0, 10),
        (candidate(|_| (), &inside), 91, 10),
        (candidate(|_| (), &inside), 7, 1_001),
    ] {
        let request = ReplayRequest {
            policy,
            days,
            limit,
        };
        let error = replay(context, &central(), &request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}
