//! `ca audit`: reading, exporting and verifying the trail, against a stand-in for the API.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use pki::audit::{BEGINNING, Entry};
use serde_json::{Value, json};
use support::api::{Api, Reply};
use support::now;
use support::run::{bare, ca};

fn chain(length: u64) -> Vec<Entry> {
    let mut previous = BEGINNING;
    let next = |position| {
        let entry = Entry {
            replica: "ca-1".to_owned(),
            position,
            at: now(),
            kind: "cluster.apply".to_owned(),
            actor: "cert:Ada".to_owned(),
            remote: "192.0.2.1:5000".to_owned(),
            rule: "b1".to_owned(),
            request_id: "r".to_owned(),
            detail: "{}".to_owned(),
            previous,
            hash: BEGINNING,
        }
        .hashed();
        previous = entry.hash;
        entry
    };
    (0..length).map(next).collect()
}

fn lay(api: &Api, entries: &[Entry], head: &Entry) {
    let head = json!({ "replica": "ca-1", "position": head.position, "hash": pki::crypto::hex(&head.hash), "sealed": true, "at": head.at });
    api.reply("GET /v1/audit/heads", Reply::ok(json!({ "heads": [head] })));
    let page =
        |entries: &[Entry], next: Value| Reply::ok(json!({ "items": entries, "next": next }));
    api.reply(
        "GET /v1/audit?replica=ca-1&limit=500",
        page(&entries[..2], json!("2")),
    );
    api.reply(
        "GET /v1/audit?replica=ca-1&limit=500&page=2",
        page(&entries[2..], json!(null)),
    );
}

#[tokio::test]
async fn a_whole_trail_is_exported_and_verifies_here_and_from_its_file() {
    let api = Api::start(now()).await;
    let entries = chain(5);
    // The last entry has come since the heads were asked for.
    lay(&api, &entries, &entries[3]);
    let run = ca(&api, &["audit", "verify"]).await;
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(
        run.stdout.contains("ca-1: 4 entries") && run.stdout.ends_with("no fault\n"),
        "{}",
        run.stdout
    );
    assert!(
        api.seen()
            .iter()
            .any(|seen| seen.target == "/v1/audit?replica=ca-1&limit=500&page=2")
    );

    let out = api.text("audit.jsonl");
    let run = ca(&api, &["audit", "export", "--out", &out]).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let text = std::fs::read_to_string(&out).unwrap();
    assert_eq!(text.lines().count(), 5);
    let run = bare(
        &api,
        &["audit", "verify", "--file", &out, "--output", "json"],
    )
    .await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.json()["chains"][0]["entries"], 4);

    std::fs::write(&out, text.replacen("cert:Ada", "cert:Eve", 1)).unwrap();
    let run = bare(&api, &["audit", "verify", "--file", &out]).await;
    assert_eq!(run.code, Some(8), "{}", run.stderr);
    assert!(
        run.stdout
            .contains("chain ca-1, position 0: the entry was changed"),
        "{}",
        run.stdout
    );
}

#[tokio::test]
async fn a_trail_that_is_shorter_than_it_was_is_a_fault() {
    let api = Api::start(now()).await;
    let entries = chain(5);
    lay(&api, &entries, &entries[4]);
    let run = ca(&api, &["audit", "verify"]).await;
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);

    // Whoever has the key as well rewinds chain and head: nothing of it shows, but here.
    api.forget();
    lay(&api, &entries[..3], &entries[2]);
    for _ in 0..2 {
        let run = ca(&api, &["audit", "verify", "-o", "json"]).await;
        assert_eq!(run.code, Some(8), "{}{}", run.stdout, run.stderr);
        let fault = &run.json()["faults"][0];
        assert_eq!(
            (&fault["replica"], &fault["position"]),
            (&json!("ca-1"), &json!(4))
        );
        assert!(
            fault["why"].as_str().unwrap().contains("this machine"),
            "{fault}"
        );
    }
}
