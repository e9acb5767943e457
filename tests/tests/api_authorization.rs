//! Who may do what through the API: every operation, by every kind of caller, in the caller's own cluster and in another one.
//! What is expected comes from the table of operations alone; how each is asked is below, and an operation that lacks it does
//! not compile.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::net::SocketAddr;

use ca_server::app::operations::{Operation, Reach};
use ca_server::app::roles::Role;
use serde_json::{Value, json};
use tests::admin::{Admin, issue};
use tests::fleet::{Fleet, Server};
use tests::http::Answer;
use tests::process::run;
use tests::requests::{KeyAndRequest, create_certificate};

/// What there is of a cluster.
struct Things {
    cluster: &'static str,
    authority: String,
    serial: String,
    enrolment: String,
    proposal: String,
}

/// One way of asking for an operation, about a cluster's things. It changes nothing that another caller would miss.
struct Sample {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<Value>,
}

fn sample(operation: Operation, of: &Things) -> Sample {
    use Operation as O;
    const NEVER: (&str, &str) = ("If-Match", "\"999999\"");
    let Things {
        cluster,
        authority,
        serial,
        enrolment,
        proposal,
    } = of;
    let get = |path: String| Sample {
        method: "GET",
        path,
        headers: Vec::new(),
        body: None,
    };
    let post = |path: String, body: Value| Sample {
        method: "POST",
        path,
        headers: Vec::new(),
        body: Some(body),
    };
    let act = |path: String| Sample {
        method: "POST",
        path,
        headers: Vec::new(),
        body: None,
    };
    let change = |method, path: String, body: Option<Value>| Sample {
        method,
        path,
        headers: vec![NEVER],
        body,
    };
    let policy = json!({ "default_ttl": "1h", "max_ttl": "2h", "strict": false, "rules": [] });
    match operation {
        O::Whoami => get("/v1/whoami".into()),
        O::WhoamiRenew => post("/v1/whoami/renew".into(), json!({ "csr": "none" })),
        O::OpenapiShow => get("/v1/openapi.json".into()),
        O::ReferenceShow => get("/v1/reference".into()),
        O::StatusShow => get("/v1/status".into()),
        O::ProfileList => get("/v1/profiles".into()),
        O::ProfileShow => get("/v1/profiles/workload".into()),
        O::ClusterList => get("/v1/clusters".into()),
        O::ClusterCreate => post(
            "/v1/clusters".into(),
            json!({ "name": "new", "trust_domain": "not a trust domain" }),
        ),
        O::ClusterShow => get(format!("/v1/clusters/{cluster}")),
        O::ClusterUpdate => change(
            "PUT",
            format!("/v1/clusters/{cluster}"),
            Some(json!({ "name": cluster, "trust_domain": "cluster.local" })),
        ),
        O::ClusterDelete => change("DELETE", format!("/v1/clusters/{cluster}"), None),
        O::TokenIssuerList => get(format!("/v1/clusters/{cluster}/token-issuers")),
        O::TokenIssuerSet => change(
            "PUT",
            format!("/v1/clusters/{cluster}/token-issuers"),
            Some(json!({ "issuer": "https://x", "jwks": { "keys": [] } })),
        ),
        O::TokenIssuerRemove => change(
            "DELETE",
            format!("/v1/clusters/{cluster}/token-issuers?issuer=x"),
            None,
        ),
        O::PolicyShow => get(format!("/v1/clusters/{cluster}/policy")),
        O::PolicySet => change(
            "PUT",
            format!("/v1/clusters/{cluster}/policy"),
            Some(policy),
        ),
        O::PolicyDryRun => post(
            format!("/v1/clusters/{cluster}/policy/dry-run"),
            json!({ "identity": "spiffe://cluster.local/x", "profile": "workload", "key": "P-256" }),
        ),
        O::PolicyReplay => post(
            format!("/v1/clusters/{cluster}/policy/replay"),
            json!({ "policy": policy, "days": 1 }),
        ),
        O::AuthorityList => get(format!("/v1/authorities?cluster={cluster}")),
        O::AuthorityRequest => post(
            "/v1/authorities".into(),
            json!({ "cluster": cluster, "crl_shards": 1 }),
        ),
        O::AuthorityShow => get(format!("/v1/authorities/{authority}")),
        O::AuthorityRequestShow => get(format!("/v1/authorities/{authority}/request")),
        O::AuthorityChainShow => get(format!("/v1/authorities/{authority}/chain")),
        O::AuthorityImport => post(
            format!("/v1/authorities/{authority}/import"),
            json!({ "chain": "none" }),
        ),
        O::AuthoritySign => post(format!("/v1/authorities/{authority}/sign"), json!({})),
        O::AuthorityPublish => act(format!("/v1/authorities/{authority}/publish")),
        O::AuthorityActivate => act(format!("/v1/authorities/{authority}/activate")),
        O::AuthorityAbandon => act(format!("/v1/authorities/{authority}/abandon")),
        O::AuthorityRetire => act(format!("/v1/authorities/{authority}/retire")),
        O::AuthorityRevoke => post(
            format!("/v1/authorities/{authority}/revoke"),
            json!({ "reason": "certificateHold" }),
        ),
        O::CertificateList => get(format!("/v1/certificates?cluster={cluster}")),
        O::CertificateSign => post(
            "/v1/certificates".into(),
            json!({ "cluster": cluster, "spiffe_id": "spiffe://cluster.local/x", "csr": "none" }),
        ),
        O::CertificateShow => get(format!("/v1/certificates/{serial}")),
        O::CertificateRevoke => post(
            format!("/v1/certificates/{serial}/revoke"),
            json!({ "reason": "cACompromise" }),
        ),
        O::CertificateHold => act(format!("/v1/certificates/{serial}/hold")),
        O::CertificateLift => act(format!("/v1/certificates/{serial}/lift")),
        O::RevocationCreate => post(
            "/v1/revocations".into(),
            json!({ "action": "hold", "cluster": cluster, "dry_run": true }),
        ),
        O::EnrolmentList => get(format!("/v1/enrolments?cluster={cluster}")),
        O::EnrolmentCreate => post(
            "/v1/enrolments".into(),
            json!({ "cluster": cluster, "spiffe_id": "spiffe://elsewhere/x" }),
        ),
        O::EnrolmentShow => get(format!("/v1/enrolments/{enrolment}")),
        O::EnrolmentRevoke => change("DELETE", format!("/v1/enrolments/{enrolment}"), None),
        O::CrlList => get("/v1/crls".into()),
        O::CrlShow => get(format!("/v1/crls/{authority}")),
        O::RootCrlImport => post("/v1/root-crls".into(), json!({ "crl": "none" })),
        O::RootCrlRequest => get("/v1/root-crls/request".into()),
        O::BundleList => get("/v1/bundles".into()),
        O::BundleShow => get("/v1/bundles/cluster.local".into()),
        O::RootRemove => change(
            "DELETE",
            format!("/v1/bundles/cluster.local/roots/{}", "0".repeat(64)),
            None,
        ),
        O::AuditList => get("/v1/audit?limit=1".into()),
        O::AuditHeads => get("/v1/audit/heads".into()),
        O::RoleList => get("/v1/role-bindings".into()),
        O::RoleBind => post(
            "/v1/role-bindings".into(),
            json!({ "principal": "nobody", "role": "viewer" }),
        ),
        O::RoleShow => get("/v1/role-bindings/none".into()),
        O::RoleUnbind => change("DELETE", "/v1/role-bindings/none".into(), None),
        O::ProposalList => get("/v1/proposals".into()),
        O::ProposalShow => get(format!("/v1/proposals/{proposal}")),
        O::ProposalApprove => act(format!("/v1/proposals/{proposal}/approve")),
        O::ProposalReject => act(format!("/v1/proposals/{proposal}/reject")),
        O::ProposalWithdraw => act(format!("/v1/proposals/{proposal}/withdraw")),
        O::ClockAccept => act("/v1/clock/accept".into()),
    }
}

/// Whether the path names something of one cluster: then a caller of another is refused it, whatever it is.
fn is_of_a_cluster(sample: &Sample, of: &Things) -> bool {
    let named = [
        of.cluster,
        &of.authority,
        &of.serial,
        &of.enrolment,
        &of.proposal,
    ];
    let body = sample
        .body
        .as_ref()
        .map(Value::to_string)
        .unwrap_or_default();
    named.iter().any(|name| {
        sample
            .path
            .split(['/', '?', '=', '&'])
            .any(|part| part == *name)
            || body.contains(&format!("\"{name}\""))
    })
}

fn ask(admin: &Admin, server: SocketAddr, sample: &Sample) -> Answer {
    admin.call(
        server,
        sample.method,
        &sample.path,
        &sample.headers,
        sample.body.as_ref(),
    )
}

/// Whether the answer is that the caller may not.
fn is_refused(answer: &Answer) -> bool {
    answer.status == 403 && ["role", "scope"].contains(&answer.reason().as_str())
}

async fn things(fleet: &Fleet, server: &Server, index: usize, officer: &Admin) -> Things {
    let cluster = &fleet.clusters[index];
    let name: &'static str = if index == 0 { "central" } else { "edge" };
    let request = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/a/sa/b"]);
    let token = cluster.tokens.token("a", "b");
    let mut istio = server.istio().await;
    let chain = create_certificate(&mut istio, &token, name, &request.pem(), 3600).await;
    let leaf = &chain.unwrap().cert_chain[0];
    let leaf = pki::certificate::Certificate::parse_pem(leaf.as_bytes()).unwrap();
    let serial = leaf[0].serial().to_string();
    let id = "spiffe://cluster.local/ns/a/sa/c";
    let made = officer.post(
        server.admin,
        "/v1/enrolments",
        &json!({ "cluster": name, "spiffe_id": id }),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    let enrolment = made.json()["enrolment"]["id"].as_str().unwrap().to_owned();
    let authority = format!("{name}-1");
    let proposed = officer.post(
        server.admin,
        &format!("/v1/authorities/{authority}/revoke"),
        &json!({ "reason": "superseded" }),
    );
    assert_eq!(proposed.status, 202, "{}", proposed.text());
    let proposal = proposed.json()["id"].as_str().unwrap().to_owned();
    // Decided, so that nobody's approval revokes anything.
    let withdrawn = officer.call(
        server.admin,
        "POST",
        &format!("/v1/proposals/{proposal}/withdraw"),
        &[],
        None,
    );
    assert_eq!(withdrawn.status, 200, "{}", withdrawn.text());
    Things {
        cluster: name,
        authority,
        serial,
        enrolment,
        proposal,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_takes_its_role_where_it_has_to_hold() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    fleet.configure(
        "[admin]\ntwo_person = [\"authority.revoke\"]\nper_caller_per_minute = 100000\n",
    );
    let server = fleet.serve();
    let proposer = Admin::new(&fleet, "proposer", Some("security-officer"), &[]);
    let central = things(&fleet, &server, 0, &proposer).await;
    let edge = things(&fleet, &server, 1, &proposer).await;

    let mut told = Vec::new();
    let callers: Vec<(Role, &[&str], Admin)> = Role::ALL
        .into_iter()
        .flat_map(|role| {
            let everywhere = Admin::new(&fleet, &format!("{role}-all"), Some(role.as_str()), &[]);
            let in_one = Admin::new(
                &fleet,
                &format!("{role}-one"),
                Some(role.as_str()),
                &["edge"],
            );
            [(role, &[][..], everywhere), (role, &["edge"][..], in_one)]
        })
        .collect();
    for operation in Operation::ALL {
        let needed = operation.requirement();
        for (role, clusters, admin) in &callers {
            for (of, is_own) in [(&central, clusters.is_empty()), (&edge, true)] {
                let sample = sample(*operation, of);
                let may = match needed.reach {
                    Reach::Oneself => true,
                    Reach::Installation => *role >= needed.role && clusters.is_empty(),
                    Reach::Cluster => *role >= needed.role,
                };
                let elsewhere = may
                    && !is_own
                    && needed.reach == Reach::Cluster
                    && is_of_a_cluster(&sample, of);
                let answer = ask(admin, server.admin, &sample);
                let (status, refused) = (answer.status, is_refused(&answer));
                let right = match (may, elsewhere) {
                    (false, _) => refused,
                    // As what there is not.
                    (true, true) => refused || status == 404,
                    (true, false) => !refused && ![401, 500, 503].contains(&status),
                };
                if !right {
                    told.push(format!(
                        "{} by {role} of {clusters:?} about {}: {status} {}",
                        operation.as_str(),
                        of.cluster,
                        answer.text()
                    ));
                }
            }
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_administrator_does_nothing_at_all() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    fleet.configure("[admin]\ntwo_person = [\"authority.revoke\"]\n");
    let server = fleet.serve();
    let officer = Admin::new(&fleet, "officer", Some("security-officer"), &[]);
    let central = things(&fleet, &server, 0, &officer).await;

    let request = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/kube-system/sa/admin"]);
    let token = fleet.clusters[0].tokens.token("kube-system", "admin");
    let mut istio = server.istio().await;
    let chain = create_certificate(&mut istio, &token, "central", &request.pem(), 3600).await;
    let chain = chain.unwrap().cert_chain[..2].concat();
    let workload = Admin::with(&fleet, &chain, &request.key.serialize_pem());

    let (revoked_chain, key) = issue(&fleet, "revoked", Some("security-officer"), &[], &[]);
    let leaf = pki::certificate::Certificate::parse_pem(revoked_chain.as_bytes()).unwrap();
    let revoked = Admin::with(&fleet, &revoked_chain, &key);
    let serial = leaf[0].serial().to_string();
    run(&mut fleet.ca_server(&[
        "revoke",
        "--serial",
        &serial,
        "--reason",
        "keyCompromise",
        "--yes",
    ]));
    let without_a_role = Admin::new(&fleet, "nobody", None, &[]);

    for operation in Operation::ALL {
        let sample = sample(*operation, &central);
        for (caller, admin, expected) in [
            ("no credential", &Admin::anonymous(&fleet), 401),
            (
                "a made-up token",
                &Admin::bearing(&fleet, "made.up.token"),
                401,
            ),
            (
                "a workload's own token",
                &Admin::bearing(&fleet, &token),
                401,
            ),
            ("a workload", &workload, 403),
            ("a revoked administrator", &revoked, 401),
        ] {
            let answer = ask(admin, server.admin, &sample);
            assert_eq!(
                answer.status,
                expected,
                "{} by {caller}: {}",
                operation.as_str(),
                answer.text()
            );
        }
        let answer = ask(&without_a_role, server.admin, &sample);
        let allowed = operation.requirement().reach == Reach::Oneself;
        assert_eq!(
            !is_refused(&answer),
            allowed,
            "{}: {}",
            operation.as_str(),
            answer.text()
        );
    }
    // Taken away, gone with the next call.
    let bound = officer.get(server.admin, "/v1/role-bindings").json();
    let binding = bound["items"].as_array().unwrap().iter();
    let own = binding
        .clone()
        .find(|it| it["principal"] == "cert:revoked")
        .unwrap();
    let path = format!("/v1/role-bindings/{}", own["id"].as_str().unwrap());
    let taken = officer.call(server.admin, "DELETE", &path, &[("If-Match", "*")], None);
    assert_eq!(taken.status, 204, "{}", taken.text());
    assert_eq!(officer.get(server.admin, &path).status, 404);
}

#[test]
fn each_operation_has_one_route_of_its_own() {
    let document = serde_json::to_value(ca_server::http::api::document()).unwrap();
    let mut named: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .filter_map(|described| Some(described["operationId"].as_str()?.to_owned()))
        .collect();
    let mut expected: Vec<String> = Operation::ALL
        .iter()
        .map(|it| it.as_str().to_owned())
        .collect();
    named.sort_unstable();
    expected.sort_unstable();
    assert_eq!(named, expected);
}
