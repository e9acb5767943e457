//! What is refused is in the trail: of whom it is known who asked, with what was asked, and of strangers by number.

use pki::audit::Entry;
use serde_json::Value;
use tests::requests::{KeyAndRequest, create_certificate};
use tonic::Code;

use super::{HERE, Installation, chain};

const ME: &str = "spiffe://cluster.local/ns/foo/sa/bar";
const OTHER: &str = "spiffe://cluster.local/ns/kube-system/sa/admin";

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_in_the_trail_and_strangers_are_counted() {
    let installation = Installation::on_sqlite();
    let fleet = &installation.fleet;
    let mut server = fleet.serve();
    let mut istio = server.istio().await;
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let csr = KeyAndRequest::for_uris(&[OTHER]).pem();
    for _ in 0..25 {
        let refused = create_certificate(&mut istio, &token, "central", &csr, 3_600).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
    for _ in 0..40 {
        let refused = create_certificate(&mut istio, "no token", "central", &csr, 0).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    }
    let mine = KeyAndRequest::for_uris(&[ME]).pem();
    create_certificate(&mut istio, &token, "central", &mine, 0)
        .await
        .unwrap();
    assert!(server.process().terminate());

    let store = installation.store().await;
    let entries = chain(&store, HERE).await;
    let of =
        |kind: &str| -> Vec<&Entry> { entries.iter().filter(|entry| entry.kind == kind).collect() };
    let refused = of("refusal.policy");
    assert_eq!(refused.len(), 20, "the first of an hour");
    let first = refused[0];
    assert_eq!(
        (first.actor.as_str(), first.rule.as_str()),
        ("sa:foo/bar", "policy")
    );
    assert!(first.remote.starts_with("127.0.0.1:"), "{}", first.remote);
    assert_eq!(first.request_id.len(), 16);
    let detail: Value = serde_json::from_str(&first.detail).unwrap();
    for (key, value) in [
        ("cluster", Value::from("central")),
        ("identity", Value::from(ME)),
        ("profile", Value::from("workload")),
        ("asked_names", Value::from(vec![format!("URI:{OTHER}")])),
        ("common_names", Value::from(Vec::<String>::new())),
        ("purposes", Value::from(Vec::<String>::new())),
        ("authority", Value::from(false)),
        ("key", Value::from("P-256")),
        ("ttl", Value::from("1h")),
        ("exactly", Value::from(false)),
        ("call", Value::from("istio")),
    ] {
        assert_eq!(detail[key], value, "{key} in {detail}");
    }
    let count = |kind: &str, reason: &str| -> u64 {
        let details = of(kind).into_iter().map(|entry| {
            let detail: Value = serde_json::from_str(&entry.detail).unwrap();
            detail["counts"][reason].as_u64().unwrap_or(0)
        });
        details.sum()
    };
    assert_eq!(count("refusal.suppressed", "policy"), 5);
    assert_eq!(count("refusal.anonymous", "malformed-token"), 40);
    assert!(of("refusal.anonymous").len() <= 2, "one a minute");
    // Issuance is proven by its records.
    assert!(
        entries
            .iter()
            .all(|entry| !entry.kind.starts_with("certificate."))
    );
    let (whole, said) = installation.verify(&[]);
    assert!(whole, "{said}");
}
