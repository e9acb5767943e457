//! Administration through the API, as an operator's scripts do it.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::net::SocketAddr;

use pki::time::Ttl;
use serde_json::{Value, json};
use tests::admin::Admin;
use tests::fleet::{Fleet, Root, Server};
use tests::http::Answer;
use tests::process::{output, run};
use tests::requests::KeyAndRequest;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

struct Api {
    fleet: Fleet,
    server: Server,
    officer: Admin,
}

impl Api {
    fn with(more: &str) -> Self {
        let fleet = Fleet::on_sqlite(&["central", "edge"]);
        fleet.configure(more);
        let server = fleet.serve();
        let officer = Admin::new(&fleet, "officer", Some("security-officer"), &[]);
        Self {
            fleet,
            server,
            officer,
        }
    }

    fn address(&self) -> SocketAddr {
        self.server.admin
    }

    fn get(&self, path: &str) -> Answer {
        self.officer.get(self.address(), path)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.officer.post(self.address(), path, body)
    }

    fn act(&self, admin: &Admin, path: &str) -> Answer {
        admin.call(self.address(), "POST", path, &[], None)
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what is asked for is written where it is asked"
)]
fn expect(answer: Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    match answer.body.is_empty() {
        true => Value::Null,
        false => answer.json(),
    }
}

#[test]
fn a_cluster_gets_its_next_authority_through_the_api() {
    let api = Api::with("");
    let made = api.post("/v1/authorities", &json!({ "cluster": "edge" }));
    assert_eq!(made.header("location"), "/v1/authorities/edge-2");
    let made = expect(made, 201);
    let request = made["request"].as_str().unwrap();
    let carried = api.get("/v1/authorities/edge-2/request");
    assert_eq!((carried.status, carried.text().as_str()), (200, request));
    assert_eq!(carried.header("content-type"), "application/x-pem-file");
    // Its slot is taken now, and another one's certificate is not its own.
    assert_eq!(
        api.post("/v1/authorities", &json!({ "cluster": "edge" }))
            .status,
        409
    );
    let chain = api.get("/v1/authorities/central-1/chain").text();
    let wrong = api.post("/v1/authorities/edge-2/import", &json!({ "chain": chain }));
    assert_eq!(
        (wrong.status, wrong.reason().as_str()),
        (422, "chain"),
        "{}",
        wrong.text()
    );

    let chain = api.fleet.root.sign(request.as_bytes(), Ttl::days(365));
    let imported = expect(
        api.post("/v1/authorities/edge-2/import", &json!({ "chain": chain })),
        200,
    );
    assert!(
        ["imported", "published"].contains(&imported["state"].as_str().unwrap()),
        "{imported}"
    );
    // The reconciler may have been faster.
    let published = api.act(&api.officer, "/v1/authorities/edge-2/publish");
    assert!(
        [200, 409].contains(&published.status),
        "{}",
        published.text()
    );
    let active = expect(
        api.act(&api.officer, "/v1/authorities/edge-2/activate"),
        200,
    );
    assert_eq!(active["state"], "active");
    let first = expect(api.get("/v1/authorities/edge-1"), 200);
    assert_eq!(first["state"], "retiring");
    // What signs is not taken away by hand; what never signed is.
    assert_eq!(
        api.act(&api.officer, "/v1/authorities/edge-2/retire")
            .status,
        409
    );
    let made = expect(
        api.post("/v1/authorities", &json!({ "cluster": "edge" })),
        201,
    );
    assert_eq!(
        api.act(&api.officer, "/v1/authorities/edge-3/retire")
            .status,
        409
    );
    let chain = api
        .fleet
        .root
        .sign(made["request"].as_str().unwrap().as_bytes(), Ttl::days(365));
    expect(
        api.post("/v1/authorities/edge-3/import", &json!({ "chain": chain })),
        200,
    );
    // What somebody has not seen is not acted upon, where they say what they saw.
    let retire = |tag: &str| {
        let path = "/v1/authorities/edge-3/retire";
        let headers = [("If-Match", tag)];
        api.officer
            .call(api.address(), "POST", path, &headers, None)
    };
    let late = retire("\"1\"");
    assert_eq!((late.status, late.reason().as_str()), (412, "stale"));
    let retired = expect(retire("*"), 200);
    assert_eq!(retired["state"], "retired");
    let listed = expect(api.get("/v1/authorities?cluster=edge&state=active"), 200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_certificate_is_signed_found_read_and_revoked() {
    let api = Api::with("");
    let request = KeyAndRequest::for_uris(&[WEB]);
    let wish = json!({ "cluster": "edge", "spiffe_id": WEB, "csr": request.pem(), "ttl": "1h" });
    let signed = api.post("/v1/certificates", &wish);
    let location = signed.header("location").to_owned();
    let signed = expect(signed, 201);
    let serial = signed["serial"].as_str().unwrap();
    assert_eq!(location, format!("/v1/certificates/{serial}"));
    assert_eq!(
        signed["chain"].as_str().unwrap().matches("BEGIN").count(),
        2
    );
    let mut other = wish.clone();
    other["spiffe_id"] = json!("spiffe://cluster.local/ns/shop/sa/other");
    let refused = api.post("/v1/certificates", &other);
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (422, "policy"),
        "{}",
        refused.text()
    );

    for filter in [
        format!("serial={serial}"),
        format!("spiffe_id={WEB}"),
        "cluster=edge&profile=workload".to_owned(),
        "caller=cert:officer".to_owned(),
        "state=valid&authority=edge-1&profile=workload".to_owned(),
        format!(
            "key={}",
            pki::crypto::hex(&pki::crypto::sha256(&spki(&request)))
        ),
    ] {
        let found = expect(api.get(&format!("/v1/certificates?{filter}")), 200);
        let items = found["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{filter}: {found}");
        assert_eq!(items[0]["serial"], serial, "{filter}");
        assert_eq!(items[0]["caller"], "cert:officer", "{filter}");
    }
    let form = |accept| {
        api.officer
            .call(api.address(), "GET", &location, &[("Accept", accept)], None)
    };
    assert!(
        form("application/x-pem-file")
            .text()
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
    assert_eq!(form("application/pkix-cert").body[0], 0x30);
    assert!(form("text/plain").text().contains(WEB));
    assert_eq!(form("image/png").status, 406);

    let revoke = format!("{location}/revoke");
    assert_eq!(
        api.post(&revoke, &json!({ "reason": "removeFromCRL" }))
            .status,
        422
    );
    let held = expect(api.act(&api.officer, &format!("{location}/hold")), 200);
    assert_eq!(held["state"], "held");
    let lifted = expect(api.act(&api.officer, &format!("{location}/lift")), 200);
    assert_eq!(lifted["state"], "valid");
    assert_eq!(
        api.act(&api.officer, &format!("{location}/lift")).status,
        409
    );
    let revoked = expect(api.post(&revoke, &json!({ "reason": "superseded" })), 200);
    assert_eq!(
        (&revoked["state"], &revoked["reason"]),
        (&json!("revoked"), &json!("superseded"))
    );
    let many =
        json!({ "action": "revoke", "reason": "superseded", "spiffe_id": WEB, "dry_run": true });
    let shown = expect(api.post("/v1/revocations", &many), 200);
    assert_eq!((&shown["found"], &shown["changed"]), (&json!(1), &json!(0)));
    // What the audit trail says of it, and by which rule.
    let told = expect(api.get("/v1/audit?kind=certificate.revoke"), 200);
    let entry = &told["items"][0];
    assert_eq!(entry["actor"], "cert:officer");
    assert!(
        entry["rule"]
            .as_str()
            .unwrap()
            .starts_with("security-officer by binding "),
        "{entry}"
    );
    assert_ne!(entry["request_id"], "");
}

fn spki(request: &KeyAndRequest) -> Vec<u8> {
    let csr = pki::csr::VerifiedCsr::parse(&request.der).unwrap();
    csr.key().spki().to_vec()
}

#[test]
fn a_page_begins_where_the_one_before_ended() {
    let api = Api::with("");
    for i in 0..7 {
        let id = format!("spiffe://cluster.local/ns/a/sa/s{i}");
        let body = json!({ "cluster": "central", "spiffe_id": id });
        expect(api.post("/v1/enrolments", &body), 201);
    }
    for list in [
        "enrolments",
        "audit",
        "clusters",
        "profiles",
        "certificates",
        "authorities",
        "role-bindings",
    ] {
        let whole = expect(api.get(&format!("/v1/{list}?limit=500")), 200);
        let whole = whole["items"].as_array().unwrap().clone();
        let (mut parts, mut page) = (Vec::new(), String::new());
        loop {
            let part = expect(api.get(&format!("/v1/{list}?limit=2{page}")), 200);
            let items = part["items"].as_array().unwrap();
            assert!(items.len() <= 2);
            parts.extend(items.clone());
            match part["next"].as_str() {
                Some(next) => page = format!("&page={next}"),
                None => break,
            }
        }
        // The trail grows while it is read, at its newer end.
        let skip = parts.len().saturating_sub(whole.len());
        assert_eq!(parts, whole, "{list}, {skip} more");
        for bad in [
            "limit=0",
            "limit=501",
            "limit=x",
            "page=%00",
            "page=bm9uZQ",
            "sort=name",
            "limit=2&limit=3",
        ] {
            let answer = api.get(&format!("/v1/{list}?{bad}"));
            let wanted = if bad.starts_with("page") { 404 } else { 400 };
            assert_eq!(answer.status, wanted, "{list}?{bad}: {}", answer.text());
        }
    }
}

#[test]
fn what_was_changed_meanwhile_is_not_overwritten() {
    let api = Api::with("");
    let path = "/v1/clusters/edge/policy";
    let seen = api.get(path);
    let tag = seen.header("etag").to_owned();
    let mut policy = seen.json();
    policy["max_ttl"] = json!("2d");
    let put = |headers: &[(&str, &str)], body: &Value| {
        api.officer
            .call(api.address(), "PUT", path, headers, Some(body))
    };
    assert_eq!(put(&[], &policy).status, 428);
    let changed = put(&[("If-Match", &tag)], &policy);
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_ne!(changed.header("etag"), tag);
    let late = put(&[("If-Match", &tag)], &policy);
    assert_eq!((late.status, late.reason().as_str()), (412, "stale"));
    let fresh = changed.header("etag");
    let known = api.officer.call(
        api.address(),
        "GET",
        path,
        &[("If-None-Match", fresh)],
        None,
    );
    assert_eq!(known.status, 304);
    // Who may narrow may not widen.
    let operator = Admin::new(&api.fleet, "operator", Some("operator"), &["edge"]);
    let by_operator = |ttl: &str| {
        let mut policy = policy.clone();
        policy["max_ttl"] = json!(ttl);
        operator.call(
            api.address(),
            "PUT",
            path,
            &[("If-Match", "*")],
            Some(&policy),
        )
    };
    assert_eq!(by_operator("1d").status, 200);
    let wider = by_operator("3d");
    assert_eq!(
        (wider.status, wider.reason().as_str()),
        (403, "widening"),
        "{}",
        wider.text()
    );
    assert!(wider.text().contains("max_ttl"), "{}", wider.text());
}

#[test]
fn what_needs_a_second_person_waits_for_one() {
    let api =
        Api::with("[admin]\ntwo_person = [\"authority.revoke\", \"role\", \"policy.widen\"]\n");
    let second = Admin::new(&api.fleet, "second", Some("security-officer"), &[]);
    let proposed = api.post(
        "/v1/authorities/edge-1/revoke",
        &json!({ "reason": "keyCompromise" }),
    );
    let location = proposed.header("location").to_owned();
    let proposed = expect(proposed, 202);
    assert_eq!(proposed["changes"][0]["before"], "active");
    assert_eq!(
        expect(api.get("/v1/authorities/edge-1"), 200)["state"],
        "active"
    );
    // Not by oneself, however one asks.
    let alone = api.act(&api.officer, &format!("{location}/approve"));
    assert_eq!(
        (alone.status, alone.reason().as_str()),
        (403, "second-person")
    );
    assert_eq!(
        api.act(&second, &format!("{location}/withdraw")).status,
        403
    );
    let operator = Admin::new(&api.fleet, "operator", Some("operator"), &[]);
    assert_eq!(
        api.act(&operator, &format!("{location}/approve")).reason(),
        "role"
    );
    let late = second.call(
        api.address(),
        "POST",
        &format!("{location}/approve"),
        &[("If-Match", "\"999\"")],
        None,
    );
    assert_eq!((late.status, late.reason().as_str()), (412, "stale"));
    let done = expect(api.act(&second, &format!("{location}/approve")), 200);
    assert_eq!(
        (&done["state"], &done["decided_by"]),
        (&json!("applied"), &json!("cert:second"))
    );
    assert_eq!(
        expect(api.get("/v1/authorities/edge-1"), 200)["state"],
        "revoked"
    );
    assert_eq!(api.act(&second, &format!("{location}/approve")).status, 409);
    let told = expect(api.get("/v1/audit?kind=authority.revoke"), 200);
    assert!(
        told["items"][0]["rule"]
            .as_str()
            .unwrap()
            .ends_with(" by cert:officer"),
        "{told}"
    );

    // What was shown is what is done, or nothing.
    let role = json!({ "principal": "cert:third", "role": "viewer", "clusters": ["edge"] });
    let waits = expect(api.post("/v1/role-bindings", &role), 202);
    let definition = expect(api.get("/v1/clusters/central"), 200)["definition"].clone();
    let mut wider = definition.clone();
    wider["max_ttl"] = json!("30d");
    let put = |body: &Value| {
        api.officer.call(
            api.address(),
            "PUT",
            "/v1/clusters/central",
            &[("If-Match", "*")],
            Some(body),
        )
    };
    let stale = expect(put(&wider), 202);
    // A page is full of what its reader sees, although newer ones are of elsewhere.
    let edge = Admin::new(&api.fleet, "edge", Some("viewer"), &["edge"]);
    let page = expect(edge.get(api.address(), "/v1/proposals?limit=1"), 200);
    assert_eq!(page["items"][0]["kind"], "authority.revoke", "{page}");
    let path = format!(
        "/v1/proposals?limit=1&page={}",
        page["next"].as_str().unwrap()
    );
    let rest = expect(edge.get(api.address(), &path), 200);
    assert_eq!(rest, json!({ "items": [], "next": null }));
    let mut narrower = definition;
    narrower["max_ttl"] = json!("1d");
    assert_eq!(put(&narrower).status, 200);
    let approve = |proposal: &Value| {
        api.act(
            &second,
            &format!("/v1/proposals/{}/approve", proposal["id"].as_str().unwrap()),
        )
    };
    assert_eq!(approve(&stale).status, 409);
    expect(approve(&waits), 200);
    let bound = expect(api.get("/v1/role-bindings"), 200).to_string();
    assert!(bound.contains("cert:third"), "{bound}");
    // The last who can give roles stays.
    let binding = expect(api.get("/v1/role-bindings"), 200);
    let officers = binding["items"].as_array().unwrap().iter();
    assert_eq!(
        officers
            .filter(|it| it["role"] == "security-officer")
            .count(),
        2
    );
}

#[test]
fn a_request_that_is_sent_again_is_carried_out_once() {
    let api = Api::with("");
    let wish = json!({ "cluster": "edge", "spiffe_id": WEB });
    let send = |key: &str, body: &Value| {
        let headers = [("Idempotency-Key", key)];
        api.officer.call(
            api.address(),
            "POST",
            "/v1/enrolments",
            &headers,
            Some(body),
        )
    };
    let first = send("k1", &wish);
    let again = send("k1", &wish);
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body, again.body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_ne!(send("k2", &wish).body, first.body);
    let other = json!({ "cluster": "central", "spiffe_id": WEB });
    let misused = send("k1", &other);
    assert_eq!(
        (misused.status, misused.reason().as_str()),
        (422, "idempotency-key")
    );
    for bad in ["", &"k".repeat(129), "two words"] {
        assert_eq!(send(bad, &wish).status, 400, "{bad:?}");
    }
    // Another's key is another key.
    let operator = Admin::new(&api.fleet, "operator", Some("operator"), &[]);
    let headers = [("Idempotency-Key", "k1")];
    let theirs = operator.call(
        api.address(),
        "POST",
        "/v1/enrolments",
        &headers,
        Some(&wish),
    );
    assert_ne!(theirs.body, first.body);

    // A hundred at once: one certificate, and whoever came meanwhile is told.
    let csr = KeyAndRequest::for_uris(&[WEB]).pem();
    let wish = json!({ "cluster": "edge", "spiffe_id": WEB, "csr": csr });
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    let headers = [("Idempotency-Key", "hundred")];
                    let path = "/v1/certificates";
                    api.officer
                        .call(api.address(), "POST", path, &headers, Some(&wish))
                })
            })
            .collect();
        asked.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|it| [201, 409].contains(&it.status)));
    let mut made: Vec<_> = answers
        .iter()
        .filter(|it| it.status == 201)
        .map(|it| &it.body)
        .collect();
    made.dedup();
    assert_eq!(made.len(), 1);
    let found = expect(api.get(&format!("/v1/certificates?spiffe_id={WEB}")), 200);
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    // The token is in no file of the store.
    let token = first.json()["token"].as_str().unwrap().to_owned();
    for name in ["ca.db", "ca.db-wal"] {
        let bytes = std::fs::read(api.fleet.path(name)).unwrap();
        assert!(
            !bytes
                .windows(token.len())
                .any(|part| part == token.as_bytes()),
            "{name}"
        );
    }
}

#[test]
fn one_caller_that_asks_too_much_waits_alone() {
    let api = Api::with("[admin]\nper_caller_per_minute = 60\n");
    let other = Admin::new(&api.fleet, "other", Some("viewer"), &[]);
    let refused = (0..60)
        .map(|_| api.get("/v1/whoami"))
        .find(|it| it.status == 429);
    let refused = refused.unwrap();
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(other.get(api.address(), "/v1/whoami").status, 200);
}

#[test]
fn an_administrator_renews_and_another_authority_makes_none() {
    let api = Api::with("");
    let request = KeyAndRequest::for_uris(&[]);
    let renewed = expect(
        api.post(
            "/v1/whoami/renew",
            &json!({ "csr": request.pem(), "ttl": "1d" }),
        ),
        201,
    );
    let chain = renewed["chain"].as_str().unwrap();
    let again = Admin::with(&api.fleet, chain, &request.key.serialize_pem());
    let who = expect(again.get(api.address(), "/v1/whoami"), 200);
    assert_eq!(who["principal"], "cert:officer");
    // The same name by the edge's authority is nobody: only home makes administrators.
    api.fleet
        .reconfigure("cluster = \"central\"", "cluster = \"edge\"");
    let (chain, key) = tests::admin::issue(&api.fleet, "officer", None, &[], &[]);
    let stranger = Admin::with(&api.fleet, &chain, &key).get(api.address(), "/v1/whoami");
    assert_eq!(
        (stranger.status, stranger.reason().as_str()),
        (403, "not-an-administrator")
    );
    // Made on the server's own machine, with names that mean something.
    for name in ["", "two words", "a/b", &"x".repeat(65)] {
        let csr = api.fleet.path("admin.csr");
        let mut command = api
            .fleet
            .ca_server(&["admin", "issue", "--name", name, "--out", "/nowhere"]);
        let refused = output(command.arg("--csr").arg(csr));
        assert!(!refused.status.success(), "{name:?}");
    }
    run(&mut api.fleet.ca_server(&["admin", "list"]));
}

#[test]
fn an_officer_of_one_cluster_decides_for_that_one_alone() {
    let api = Api::with("");
    let edge = Admin::new(&api.fleet, "edge", Some("security-officer"), &["edge"]);
    // A root is everyone's in the trust domain.
    let made = expect(
        api.post("/v1/authorities", &json!({ "cluster": "edge" })),
        201,
    );
    let request = made["request"].as_str().unwrap();
    let rogue = Root::new("Rogue Root");
    let chain = rogue.sign(request.as_bytes(), Ttl::days(365));
    let digest = pki::crypto::hex(&pki::crypto::sha256(rogue.certificate().der()));
    let body = json!({ "chain": chain, "new_root": digest });
    let refused = edge.post(api.address(), "/v1/authorities/edge-2/import", &body);
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (403, "role"),
        "{}",
        refused.text()
    );
    let bundle = expect(api.get("/v1/bundles/cluster.local"), 200);
    assert_eq!(bundle["roots"].as_array().unwrap().len(), 1);
    // One of the own root's is the cluster's own business.
    let chain = api.fleet.root.sign(request.as_bytes(), Ttl::days(365));
    let own = edge.post(
        api.address(),
        "/v1/authorities/edge-2/import",
        &json!({ "chain": chain }),
    );
    assert_eq!(own.status, 200, "{}", own.text());
    // What names files of the server's machine is set there.
    let passphrase = api.fleet.path("passphrase");
    let mut definition = expect(api.get("/v1/clusters/edge"), 200)["definition"].clone();
    definition["token_review"] = json!({ "server": { "kubeconfig": passphrase } });
    for admin in [&edge, &api.officer] {
        let put = admin.call(
            api.address(),
            "PUT",
            "/v1/clusters/edge",
            &[("If-Match", "*")],
            Some(&definition),
        );
        assert_eq!(
            (put.status, put.reason().as_str()),
            (403, "token-review"),
            "{}",
            put.text()
        );
        assert!(
            !put.text().contains("passphrase for tests"),
            "{}",
            put.text()
        );
    }
    // Nobody is locked out of the whole by an officer of a part.
    let central = Admin::new(
        &api.fleet,
        "central",
        Some("security-officer"),
        &["central"],
    );
    let reason = json!({ "reason": "keyCompromise" });
    let out = central.post(api.address(), "/v1/authorities/central-1/revoke", &reason);
    assert_eq!(
        (out.status, out.reason().as_str()),
        (403, "role"),
        "{}",
        out.text()
    );
    // Tokens are nobody's in particular.
    for place in [
        json!({ "token": "ca" }),
        json!({ "existing_key": "pkcs11:token=ca;object=k" }),
    ] {
        let mut wish = place;
        wish["cluster"] = json!("edge");
        let taken = edge.post(api.address(), "/v1/authorities", &wish);
        assert_eq!(
            (taken.status, taken.reason().as_str()),
            (403, "scope"),
            "{}",
            taken.text()
        );
    }
    let counted = expect(edge.get(api.address(), "/v1/status"), 200);
    assert_eq!(counted["store"]["change_sequence"], Value::Null);
    // Officers' certificates are no operator's to hold, and none of all those of a cluster.
    let operator = Admin::new(&api.fleet, "operator", Some("operator"), &[]);
    let found = expect(api.get("/v1/certificates?profile=admin&limit=500"), 200);
    let serial = found["items"][0]["serial"].as_str().unwrap();
    let held = api.act(&operator, &format!("/v1/certificates/{serial}/hold"));
    assert_eq!(
        (held.status, held.reason().as_str()),
        (403, "role"),
        "{}",
        held.text()
    );
    let all = json!({ "action": "hold", "cluster": "central" });
    expect(operator.post(api.address(), "/v1/revocations", &all), 200);
    assert_eq!(api.get("/v1/whoami").status, 200);
    // Whoever has lost a role is not given again what it was good for.
    let headers = [("Idempotency-Key", "k")];
    let wish = json!({ "cluster": "edge", "spiffe_id": WEB });
    let create = || {
        operator.call(
            api.address(),
            "POST",
            "/v1/enrolments",
            &headers,
            Some(&wish),
        )
    };
    assert_eq!(create().status, 201);
    let bindings = expect(api.get("/v1/role-bindings"), 200);
    let binding = bindings["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["principal"] == "cert:operator");
    let path = format!(
        "/v1/role-bindings/{}",
        binding.unwrap()["id"].as_str().unwrap()
    );
    let central =
        json!({ "principal": "cert:operator", "role": "operator", "clusters": ["central"] });
    expect(api.post("/v1/role-bindings", &central), 201);
    let taken = api
        .officer
        .call(api.address(), "DELETE", &path, &[("If-Match", "*")], None);
    assert_eq!(taken.status, 204, "{}", taken.text());
    assert_ne!(create().status, 201);
}

#[test]
fn what_policy_refuses_through_the_api_is_on_the_trail_and_decided_again() {
    let api = Api::with("");
    let csr = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/other/sa/x"]).pem();
    let wish = json!({ "cluster": "edge", "spiffe_id": WEB, "csr": csr });
    expect(api.post("/v1/certificates", &wish), 422);
    let csr = KeyAndRequest::for_uris(&[WEB]).pem();
    let wish = json!({ "cluster": "edge", "spiffe_id": WEB, "csr": csr, "ttl": "2h" });
    expect(api.post("/v1/certificates", &wish), 201);
    let mut policy = expect(api.get("/v1/clusters/edge/policy"), 200);
    policy["max_ttl"] = json!("1h");
    policy["default_ttl"] = json!("1h");
    let replay = json!({ "policy": policy, "days": 1 });
    // The refusal is written within seconds.
    let began = std::time::Instant::now();
    let found = loop {
        let found = expect(api.get("/v1/audit?kind=refusal.policy"), 200);
        if !found["items"].as_array().unwrap().is_empty() {
            break found;
        }
        assert!(began.elapsed().as_secs() < 30, "it is not on the trail");
        std::thread::yield_now();
    };
    assert_eq!(found["items"][0]["actor"], "cert:officer", "{found}");
    let replayed = expect(api.post("/v1/clusters/edge/policy/replay", &replay), 200);
    let differing = replayed["differing"].as_array().unwrap();
    assert!(
        differing.iter().any(|it| it["caller"] == "cert:officer"),
        "{replayed}"
    );
}
