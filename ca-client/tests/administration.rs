//! `ca` as people and scripts administer a CA with it, against a stand-in for the API.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use serde_json::{Value, json};
use support::api::{Api, Reply};
use support::now;
use support::run::{bare, ca};

fn clusters() -> Value {
    json!({ "items": [
        { "definition": { "name": "central", "trust_domain": "td.test", "max_ttl": "1d", "strict": false }, "active_authority": "central-1", "version": 1 },
        { "definition": { "name": "edge\u{1b}[2J", "trust_domain": "td.test", "max_ttl": "7d", "strict": true }, "active_authority": null, "version": 2 },
    ], "next": null })
}

#[tokio::test]
async fn a_list_is_a_table_for_people_and_an_array_for_programs() {
    let api = Api::start(now()).await;
    api.reply("GET /v1/clusters", Reply::ok(clusters()));
    let run = ca(&api, &["cluster", "list"]).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines[0].starts_with("NAME"), "{}", run.stdout);
    assert!(lines[1].starts_with("central  "), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}') && lines[2].starts_with("edge\\u{1b}[2J"));
    assert!(api.seen()[0].has_certificate);

    let run = ca(&api, &["cluster", "list", "--output", "json"]).await;
    assert_eq!(run.json(), clusters()["items"]);
    let run = ca(&api, &["cluster", "list", "-o", "jsonl"]).await;
    assert_eq!(run.stdout.lines().count(), 2);
}

#[tokio::test]
async fn all_pages_are_followed_and_a_cut_list_says_so() {
    let api = Api::start(now()).await;
    let page = |from: u32, next: Value| {
        let items: Vec<Value> = (from..from + 2)
            .map(|n| json!({ "serial": format!("{n:02}") }))
            .collect();
        Reply::ok(json!({ "items": items, "next": next }))
    };
    api.reply(
        "GET /v1/certificates?state=valid&limit=500",
        page(0, json!("p/2")),
    );
    api.reply(
        "GET /v1/certificates?state=valid&limit=500&page=p%2F2",
        page(2, json!("p/3")),
    );
    api.reply(
        "GET /v1/certificates?state=valid&limit=500&page=p%2F3",
        page(4, json!(null)),
    );
    let run = ca(
        &api,
        &[
            "certificate",
            "list",
            "--state",
            "valid",
            "--all",
            "-o",
            "json",
        ],
    )
    .await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let serials: Vec<Value> = run
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["serial"].clone())
        .collect();
    assert_eq!(serials, ["00", "01", "02", "03", "04", "05"]);

    api.reply("GET /v1/certificates?limit=2", page(0, json!("next")));
    let run = ca(&api, &["certificate", "list", "--limit", "2"]).await;
    assert_eq!(run.stdout.lines().count(), 3, "{}", run.stdout);
    assert!(run.stderr.contains("--all"), "{}", run.stderr);
}

#[tokio::test]
async fn a_failure_has_its_exit_code_and_says_what_to_do_next() {
    let api = Api::start(now()).await;
    let refusal = json!({ "status": 403, "detail": "not yours", "reason": "role", "expected": "security-officer", "request_id": "r-9" });
    for (reply, code, words) in [
        (
            Reply::problem(401, "expired", "the certificate has ended"),
            4,
            "ca admin renew",
        ),
        (
            Reply::Json(403, refusal, Vec::new()),
            4,
            "it takes security-officer",
        ),
        (
            Reply::problem(404, "authority", "there is no authority a"),
            3,
            "list",
        ),
        (Reply::problem(409, "state", "it is active"), 5, "show"),
        (Reply::problem(400, "malformed", "no"), 1, "correct"),
        (Reply::problem(500, "internal", "internal error"), 6, "r-1"),
        (
            Reply::Raw(502, "text/html", b"<h1>no</h1>".to_vec()),
            6,
            "<h1>no</h1>",
        ),
    ] {
        let api = &api;
        let what = format!("GET /v1/authorities/a-{code}-{}", words.len());
        api.reply(&what, reply);
        let id = what.rsplit('/').next().unwrap();
        let run = ca(api, &["authority", "show", id, "--timeout", "1s"]).await;
        assert_eq!(run.code, Some(code), "{words}: {}", run.stderr);
        assert!(
            run.stderr.contains(words) && run.stderr.contains("what to do: "),
            "{}",
            run.stderr
        );
        assert!(run.stdout.is_empty());
    }
    let run = ca(&api, &["authority", "show", "a b"]).await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let root = api.text("roots.pem");
    let nobody = ["status", "--url", "https://localhost:1", "--root", &root];
    let run = bare(&api, &nobody).await;
    assert_eq!(run.code, Some(6), "{}", run.stderr);
    assert!(run.stderr.contains("--url"), "{}", run.stderr);
    let run = bare(&api, &["status"]).await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("ca context add"), "{}", run.stderr);
}

#[tokio::test]
async fn a_server_of_another_root_is_told_as_that() {
    let api = Api::start(now()).await;
    let other = support::authority::Authority::new(now());
    std::fs::write(api.path("other.pem"), other.root.to_pem()).unwrap();
    let other = api.text("other.pem");
    let run = bare(&api, &["whoami", "--url", &api.address, "--root", &other]).await;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    for words in [&other, "CN=cluster 1", "--root"] {
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it_and_a_lost_answer_is_asked_for_again() {
    let api = Api::start(now()).await;
    let busy = || Reply::problem(429, "rate", "slow down").with("retry-after", "1");
    api.reply("GET /v1/profiles", busy());
    api.reply(
        "GET /v1/profiles",
        Reply::ok(json!({ "items": [], "next": null })),
    );
    let run = ca(&api, &["profile", "list", "-o", "json"]).await;
    assert_eq!(
        (run.code, run.json()),
        (Some(0), json!([])),
        "{}",
        run.stderr
    );

    let made = json!({ "token": "signet_enrol_x", "enrolment": { "id": "e1", "expires_at": "2026-11-28T06:00:00Z" } });
    api.reply("POST /v1/enrolments", Reply::HangUp);
    // The server still works on the first one.
    let under_way = Reply::problem(409, "under-way", "try again").with("retry-after", "0");
    for _ in 0..5 {
        api.reply("POST /v1/enrolments", under_way.clone());
    }
    api.reply("POST /v1/enrolments", Reply::created(made));
    let words = [
        "enrolment",
        "create",
        "central",
        "--spiffe-id",
        "spiffe://td.test/a",
    ];
    let run = ca(&api, &words).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.stdout, "signet_enrol_x\n");
    let keys: Vec<String> = api
        .seen_by("POST")
        .iter()
        .map(|seen| seen.header("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 7);
    assert!(keys.iter().all(|key| *key == keys[0]));

    // What has no key is not sent twice.
    api.reply(
        "GET /v1/enrolments/e1",
        Reply::versioned(1, json!({ "id": "e1" })),
    );
    api.reply("DELETE /v1/enrolments/e1", Reply::HangUp);
    let run = ca(&api, &["enrolment", "revoke", "e1"]).await;
    assert_eq!(run.code, Some(6), "{}", run.stderr);
    assert!(
        run.stderr.contains("before you repeat it"),
        "{}",
        run.stderr
    );
    assert_eq!(api.seen_by("DELETE").len(), 1);
}

#[tokio::test]
async fn applying_a_definition_creates_then_changes_what_it_has_read_and_shows_the_difference() {
    let api = Api::start(now()).await;
    let file = api.text("central.toml");
    let text = "name = 'central'\ntrust_domain = 'td.test'\nmax_ttl = '48h'\n";
    std::fs::write(&file, text).unwrap();
    let apply = ["cluster", "apply", "-f", &file];
    api.reply(
        "GET /v1/clusters/central",
        Reply::problem(404, "cluster", "no"),
    );
    api.reply(
        "POST /v1/clusters",
        Reply::created(json!({ "name": "central" })),
    );
    let run = ca(&api, &[&apply[..], &["--dry-run"]].concat()).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains("+ max_ttl = 2d"), "{}", run.stdout);
    assert!(api.seen_by("POST").is_empty());

    let there = json!({ "definition": { "name": "central", "trust_domain": "td.test", "max_ttl": "1d" }, "version": 4 });
    api.reply("GET /v1/clusters/central", Reply::versioned(4, there));
    api.reply(
        "PUT /v1/clusters/central",
        Reply::problem(412, "stale", "it is version 5 now"),
    );
    let run = ca(&api, &apply).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stdout.ends_with("cluster central created\n"),
        "{}",
        run.stdout
    );
    assert_eq!(api.seen_by("POST")[0].body["max_ttl"], "48h");

    let run = ca(&api, &apply).await;
    assert_eq!(run.code, Some(5), "{}", run.stderr);
    assert_eq!(run.stdout, "- max_ttl = 1d\n+ max_ttl = 2d\n");
    assert_eq!(api.seen_by("PUT")[0].header("if-match"), Some("\"4\""));
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_shown_and_refused_where_nobody_can_be_asked() {
    let api = Api::start(now()).await;
    let found = json!({ "found": 2, "groups": [{ "cluster": "central", "profile": "workload", "count": 2 }], "first": [] });
    api.reply("POST /v1/revocations", Reply::ok(found));
    let words = [
        "certificate",
        "revoke",
        "--cluster",
        "central",
        "--reason",
        "superseded",
    ];
    let run = ca(&api, &words).await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(
        run.stdout.contains("2 certificate(s) to revoke"),
        "{}",
        run.stdout
    );
    assert!(run.stderr.contains("--yes"), "{}", run.stderr);
    assert!(
        api.seen_by("POST")
            .iter()
            .all(|seen| seen.body["dry_run"] == true)
    );

    api.reply(
        "POST /v1/revocations",
        Reply::ok(json!({ "changed": 2, "standing": 1 })),
    );
    let run = ca(&api, &[&words[..], &["--yes"]].concat()).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let last = api.seen_by("POST").pop().unwrap();
    assert_eq!(last.body["dry_run"], false);
    assert_eq!(last.body["reason"], "superseded");
    assert!(last.header("idempotency-key").is_some());

    for words in [
        &["cluster", "delete", "central"][..],
        &[
            "authority",
            "revoke",
            "central-1",
            "--reason",
            "keyCompromise",
        ],
        &["root", "remove", "td.test", &"ab".repeat(32)],
    ] {
        let value = json!({ "trust_domain": "td.test", "roots": [{ "sha256": "ab".repeat(32) }] });
        for path in [
            "clusters/central",
            "authorities/central-1",
            "bundles/td.test",
        ] {
            api.reply(
                &format!("GET /v1/{path}"),
                Reply::versioned(1, value.clone()),
            );
        }
        api.reply(
            "GET /v1/authorities",
            Reply::ok(json!({ "items": [], "next": null })),
        );
        let run = ca(&api, words).await;
        assert_eq!(run.code, Some(2), "{words:?}: {}", run.stderr);
        assert!(run.stderr.contains("--yes"), "{}", run.stderr);
    }
    assert!(api.seen_by("DELETE").is_empty());
    assert!(
        api.seen()
            .iter()
            .all(|seen| !seen.target.ends_with("/revoke"))
    );

    let done = ["root", "remove", "td.test", &"ab".repeat(32), "--yes"];
    let target = format!("DELETE /v1/bundles/td.test/roots/{}", "ab".repeat(32));
    api.reply(&target, Reply::ok(json!({})));
    let run = ca(&api, &done).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[tokio::test]
async fn a_revocation_that_stands_is_not_told_as_lifted() {
    let api = Api::start(now()).await;
    let stands = json!({ "serial": "01", "state": "revoked", "reason": "superseded" });
    for act in ["lift", "hold", "revoke"] {
        api.reply(
            &format!("POST /v1/certificates/01/{act}"),
            Reply::ok(stands.clone()),
        );
    }
    for act in ["lift", "hold"] {
        let run = ca(&api, &["certificate", act, "01"]).await;
        assert_eq!(run.code, Some(5), "{act}: {}", run.stderr);
        assert!(run.stdout.is_empty(), "{}", run.stdout);
        assert!(
            run.stderr.contains("is revoked, superseded"),
            "{}",
            run.stderr
        );
    }
    let revoke = ["certificate", "revoke", "01", "--reason", "superseded"];
    assert_eq!(ca(&api, &revoke).await.code, Some(0));
}

#[tokio::test]
async fn what_waits_for_a_second_person_is_not_done() {
    let api = Api::start(now()).await;
    let proposal = json!({ "id": "p1", "kind": "role", "state": "waiting", "changes": [{ "what": "role of cert:Bob", "before": null, "after": "operator" }] });
    api.reply(
        "POST /v1/role-bindings",
        Reply::Json(202, proposal, Vec::new()),
    );
    let run = ca(
        &api,
        &[
            "role",
            "bind",
            "cert:Bob",
            "operator",
            "--cluster",
            "central",
        ],
    )
    .await;
    assert_eq!(run.code, Some(7), "{}", run.stderr);
    assert!(
        run.stderr.contains("ca proposal approve p1"),
        "{}",
        run.stderr
    );
    assert!(!run.stdout.contains("is operator now"), "{}", run.stdout);
    let body = &api.seen_by("POST")[0].body;
    assert_eq!(
        *body,
        json!({ "principal": "cert:Bob", "role": "operator", "clusters": ["central"] })
    );
}

#[tokio::test]
async fn files_are_not_written_over_and_nothing_is_asked_whose_answer_cannot_be_kept() {
    let api = Api::start(now()).await;
    let out = api.text("central-2.csr.pem");
    let made = json!({ "authority": { "id": "central-2", "subject": "CN=central 2" }, "request": "-----BEGIN CERTIFICATE REQUEST-----\n" });
    api.reply("POST /v1/authorities", Reply::created(made));
    let words = ["authority", "request", "central", "--out", &out];
    let run = ca(&api, &words).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        std::fs::read_to_string(&out)
            .unwrap()
            .starts_with("-----BEGIN")
    );
    assert!(
        run.stderr.contains("ca authority import central-2"),
        "{}",
        run.stderr
    );
    let run = ca(&api, &words).await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert_eq!(api.seen_by("POST").len(), 1);
    assert_eq!(api.seen()[0].body["key"], "p256");

    // A refusal leaves no empty file.
    let der = api.text("web.der");
    let words = ["certificate", "get", "0102", "--form", "der", "--out", &der];
    let run = ca(&api, &words).await;
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(!api.path("web.der").exists());
    api.reply(
        "GET /v1/certificates/0102",
        Reply::Raw(200, "application/pkix-cert", vec![0x30, 0]),
    );
    let run = ca(&api, &words).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(std::fs::read(&der).unwrap(), [0x30, 0]);
    let accept = api.seen().pop().unwrap();
    assert_eq!(accept.header("accept"), Some("application/pkix-cert"));
}

#[tokio::test]
async fn a_context_says_which_ca_and_as_whom() {
    let api = Api::start(now()).await;
    let who =
        json!({ "principal": "cert:Ada", "bindings": [{ "role": "viewer", "clusters": null }] });
    api.reply("GET /v1/whoami", Reply::ok(who.clone()));
    let (root, cert, key) = (
        api.text("roots.pem"),
        api.text("ada.pem"),
        api.text("ada.key"),
    );
    let add = [
        "context",
        "add",
        "lab",
        "--url",
        &api.address,
        "--root",
        &root,
    ];
    let run = bare(
        &api,
        &[&add[..], &["--cert", &cert, "--key", &key]].concat(),
    )
    .await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = bare(&api, &["whoami", "-o", "json"]).await;
    assert_eq!((run.code, run.json()), (Some(0), who), "{}", run.stderr);
    assert!(api.seen()[0].has_certificate);

    std::fs::write(api.path("t"), "a.b.c\n").unwrap();
    let token = api.text("t");
    let mut other = add;
    other[2] = "by-token";
    let run = bare(&api, &[&other[..], &["--token-file", &token]].concat()).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = bare(&api, &["whoami", "--context", "by-token"]).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.starts_with("cert:Ada\nROLE"), "{}", run.stdout);
    let seen = api.seen().pop().unwrap();
    assert!(!seen.has_certificate);
    assert_eq!(seen.header("authorization"), Some("Bearer a.b.c"));

    let run = bare(&api, &["context", "list"]).await;
    assert!(run.stdout.contains("yes     lab"), "{}", run.stdout);
    let run = bare(&api, &["context", "use", "by-token"]).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = bare(&api, &["context", "show", "-o", "json"]).await;
    assert_eq!(run.json()["name"], "by-token");
    let run = bare(&api, &["context", "remove", "by-token"]).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = bare(&api, &["whoami"]).await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let run = bare(&api, &["whoami", "--context", "gone"]).await;
    assert!(run.stderr.contains("there is lab"), "{}", run.stderr);
}

#[tokio::test]
async fn an_administrators_key_is_made_here_and_stays_here() {
    let api = Api::start(now()).await;
    let (key, csr) = (api.text("new.key"), api.text("new.csr"));
    let words = [
        "admin",
        "request",
        "--name",
        "ada.l@example",
        "--out-key",
        &key,
        "--out-csr",
        &csr,
    ];
    let run = bare(&api, &words).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&key).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let run = bare(&api, &["inspect", &csr]).await;
    assert!(run.stdout.contains("ada.l@example"), "{}", run.stdout);
    let run = bare(&api, &words).await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
}

#[tokio::test]
async fn manual_and_completions_are_made_of_the_commands() {
    let api = Api::start(now()).await;
    let pages = api.text("man");
    let run = bare(&api, &["man", &pages]).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let page = std::fs::read_to_string(api.path("man/ca-certificate-revoke.1")).unwrap();
    assert!(page.contains("keyCompromise"), "{page}");
    assert!(
        std::fs::read_to_string(api.path("man/ca.1"))
            .unwrap()
            .contains("second person")
    );
    for shell in ["bash", "zsh", "fish"] {
        let run = bare(&api, &["completions", shell]).await;
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(run.stdout.contains("token-issuer"), "{shell}");
    }
}
