//! The API in the hands of people who mean no good: other ways to write a path, other people's things, SQL in every field,
//! and hands in the database.

use std::process::Command;

use base64ct::Encoding;
use serde_json::json;
use tests::admin::Admin;
use tests::fleet::Fleet;
use tests::http::{get, parse};
use tests::postgres::Postgres;
use tests::process::run;
use tests::requests::KeyAndRequest;

#[test]
fn another_way_to_write_a_path_is_no_way_around_the_door() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let viewer = Admin::new(&fleet, "viewer", Some("viewer"), &[]);
    let anonymous = Admin::anonymous(&fleet);
    let host = server.admin;
    for line in [
        "GET //v1/role-bindings",
        "GET /v1//role-bindings",
        "GET /v1/./role-bindings",
        "GET /v1/whoami/../role-bindings",
        "GET /v1/%72ole-bindings",
        "GET /v1/%2e%2e/v1/role-bindings",
        "GET /v1/role-bindings/",
        "GET /v1/role-bindings;x",
        "GET /V1/ROLE-BINDINGS",
        "GET /v1/role-bindings%00",
        "GET /v1/openapi.json/../clock/accept",
        &format!("GET https://{host}/v1/role-bindings"),
        "GET http://elsewhere/v1/role-bindings",
        "HEAD /v1/role-bindings",
        "OPTIONS /v1/role-bindings",
        "OPTIONS *",
        "TRACE /v1/role-bindings",
        "PATCH /v1/role-bindings",
        "POST /v1/role-bindings",
        "DELETE /v1/role-bindings",
        "CONNECT /v1/role-bindings",
        "MADEUP /v1/role-bindings",
    ] {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let bytes = anonymous.exchange(host, request.as_bytes());
        let answer = parse(&bytes)
            .unwrap_or_else(|| panic!("{line}: {:?}", String::from_utf8_lossy(&bytes)));
        assert!(
            [400, 401].contains(&answer.status),
            "{line}: {}",
            answer.status
        );
        // A viewer may list, and nothing else.
        let bytes = viewer.exchange(host, request.as_bytes());
        let answer = parse(&bytes).unwrap();
        let listed = ["GET", "HEAD"].iter().any(|it| line.starts_with(it));
        let allowed: &[u16] = if listed {
            &[200, 400, 404]
        } else {
            &[400, 403, 404, 405]
        };
        assert!(
            allowed.contains(&answer.status),
            "{line}: {} {}",
            answer.status,
            answer.text()
        );
    }
    // A header does not turn one method into another.
    for header in [
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-HTTP-Method",
    ] {
        let headers = [(header, "POST"), ("X-Original-URL", "/v1/clock/accept")];
        let answer = viewer.call(host, "GET", "/v1/whoami", &headers, None);
        assert_eq!(answer.json()["principal"], "cert:viewer");
    }
    // Nor does one speak for another.
    let headers = [
        ("X-Forwarded-Client-Cert", "Subject=\"CN=officer\""),
        ("X-Remote-User", "officer"),
    ];
    assert_eq!(
        anonymous
            .call(host, "GET", "/v1/whoami", &headers, None)
            .status,
        401
    );
    // What is for the platform or for developers is not here, and administration not where anyone is.
    for path in [
        "/metrics",
        "/debug/pprof",
        "/actuator",
        "/healthz",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        assert_eq!(viewer.get(host, path).status, 404, "{path}");
    }
    for path in [
        "/metrics",
        "/v1/whoami",
        "/v1/openapi.json",
        "/debug/pprof",
        "/actuator",
    ] {
        assert_eq!(get(server.public, path).unwrap().status, 404, "{path}");
    }
}

#[test]
fn what_is_elsewhere_looks_like_what_there_is_not() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    let server = fleet.serve();
    let officer = Admin::new(&fleet, "officer", Some("security-officer"), &[]);
    let operator = Admin::new(&fleet, "operator", Some("operator"), &["edge"]);
    let id = "spiffe://cluster.local/ns/a/sa/b";
    let csr = KeyAndRequest::for_uris(&[id]).pem();
    let wish = json!({ "cluster": "central", "spiffe_id": id, "csr": csr });
    let serial = officer.post(server.admin, "/v1/certificates", &wish).json()["serial"].clone();
    let serial = serial.as_str().unwrap();
    let missing = format!("{}{}", &serial[..serial.len() - 4], "0000");
    let made = officer.post(
        server.admin,
        "/v1/enrolments",
        &json!({ "cluster": "central", "spiffe_id": id }),
    );
    let enrolment = made.json()["enrolment"]["id"].as_str().unwrap().to_owned();
    for (there, nowhere) in [
        (
            format!("/v1/certificates/{serial}"),
            format!("/v1/certificates/{missing}"),
        ),
        (
            "/v1/authorities/central-1".to_owned(),
            "/v1/authorities/central-9".to_owned(),
        ),
        (
            format!("/v1/enrolments/{enrolment}"),
            "/v1/enrolments/000000000000".to_owned(),
        ),
        (
            "/v1/crls/central-1".to_owned(),
            "/v1/crls/central-9".to_owned(),
        ),
        (
            "/v1/clusters/central".to_owned(),
            "/v1/clusters/centrax".to_owned(),
        ),
    ] {
        let ask = |path: &str| {
            let answer = operator.get(server.admin, path);
            let name = path.rsplit('/').next().unwrap();
            let told = answer.text().replace(name, "NAME");
            (
                answer.status,
                told.split("request_id").next().unwrap().to_owned(),
            )
        };
        let elsewhere = ask(&there);
        assert_eq!(elsewhere, ask(&nowhere), "{there}");
        assert!([403, 404].contains(&elsewhere.0), "{there}");
    }
    // Lists leave it out, and a filter on it is refused.
    let seen = operator
        .get(server.admin, "/v1/certificates?limit=500")
        .text();
    assert!(!seen.contains("\"cluster\":\"central\"") && seen.contains("\"cluster\":\"edge\""));
    assert_eq!(
        operator
            .get(server.admin, "/v1/certificates?cluster=central")
            .status,
        403
    );
    for (path, body) in [
        (
            format!("/v1/certificates/{serial}/revoke"),
            json!({ "reason": "superseded" }),
        ),
        (
            "/v1/revocations".to_owned(),
            json!({ "action": "revoke", "reason": "superseded", "serials": [serial] }),
        ),
        (
            "/v1/revocations".to_owned(),
            json!({ "action": "revoke", "reason": "superseded", "spiffe_id": id }),
        ),
        (
            "/v1/revocations".to_owned(),
            json!({ "action": "revoke", "reason": "superseded", "cluster": "central" }),
        ),
        (
            "/v1/revocations".to_owned(),
            json!({ "action": "revoke", "reason": "superseded", "cluster": "edge", "authority": "central-1" }),
        ),
    ] {
        let answer = operator.post(server.admin, &path, &body);
        assert!(
            [403, 404].contains(&answer.status),
            "{path} {body}: {}",
            answer.text()
        );
    }
    let stands = officer
        .get(server.admin, &format!("/v1/certificates/{serial}"))
        .json();
    assert_eq!(stands["state"], "valid");
}

#[test]
fn pages_tell_nothing_of_the_clusters_that_their_reader_does_not_see() {
    let fleet = Fleet::on_sqlite(&["central", "depot", "edge"]);
    let server = fleet.serve();
    let officer = Admin::new(&fleet, "officer", Some("security-officer"), &[]);
    let viewer = Admin::new(&fleet, "viewer", Some("viewer"), &["depot", "edge"]);
    let id = "spiffe://cluster.local/ns/a/sa/b";
    let sign = |cluster: &str| {
        let csr = KeyAndRequest::for_uris(&[id]).pem();
        let wish = json!({ "cluster": cluster, "spiffe_id": id, "csr": csr });
        let signed = officer.post(server.admin, "/v1/certificates", &wish).json();
        signed["serial"].as_str().unwrap().to_owned()
    };
    // The one that is not seen is older than all that are: what comes after the last of them would tell of it.
    sign("central");
    let second = tests::now();
    while tests::now() == second {
        std::thread::yield_now();
    }
    let mut seen = [sign("edge"), sign("depot")];
    sign("central");
    let list = format!("/v1/certificates?limit=1&spiffe_id={id}");
    let (mut path, mut found, mut pages) = (list.clone(), Vec::new(), Vec::new());
    loop {
        let page = viewer.get(server.admin, &path).json();
        let items = page["items"].as_array().unwrap();
        found.extend(
            items
                .iter()
                .map(|item| item["serial"].as_str().unwrap().to_owned()),
        );
        pages.push(items.len());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        let place = base64ct::Base64UrlUnpadded::decode_vec(next).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&place).is_err());
        let elsewhere = viewer.get(server.admin, &format!("/v1/enrolments?page={next}"));
        assert_eq!(elsewhere.status, 404, "{}", elsewhere.text());
        path = format!("{list}&page={next}");
    }
    // Two that are seen, and an end that there is whatever else there is.
    assert_eq!(pages, [1, 1, 0]);
    found.sort_unstable();
    seen.sort_unstable();
    assert_eq!(found, seen);
    let authority = "/v1/certificates?authority=central-1";
    let elsewhere = viewer.get(server.admin, authority);
    let nowhere = viewer.get(server.admin, "/v1/certificates?authority=central-9");
    assert_eq!((elsewhere.status, nowhere.status), (404, 404));
}

#[test]
fn sql_in_a_field_is_text() {
    if Postgres::binaries().is_none() {
        let test = "sql_in_a_field_is_text";
        return tests::parts::skip(test, "no Postgres; see tests/parts/install");
    }
    let postgres = Postgres::start().unwrap();
    let fleet = Fleet::on_postgres(&postgres.create_database().unwrap(), &["central"]);
    let server = fleet.serve();
    let officer = Admin::new(&fleet, "officer", Some("security-officer"), &[]);
    let before = officer
        .get(server.admin, "/v1/certificates?limit=500")
        .json()["items"]
        .as_array()
        .unwrap()
        .len();
    let evil = "'%20OR%201=1--";
    for field in [
        "serial",
        "spiffe_id",
        "dns",
        "ip",
        "cluster",
        "authority",
        "key",
        "caller",
        "profile",
        "state",
        "issued_from",
        "expires_to",
        "limit",
        "page",
    ] {
        for value in [
            evil,
            "1);DROP%20TABLE%20certificate;--",
            "%27%3BSELECT%20pg_sleep(10)--",
            "%00",
        ] {
            let answer = officer.get(server.admin, &format!("/v1/certificates?{field}={value}"));
            // A caller's name is any text: nobody has such a one.
            let empty =
                field == "caller" && answer.status == 200 && answer.json()["items"] == json!([]);
            assert!(
                [400, 404, 422].contains(&answer.status) || empty,
                "{field}={value}: {} {}",
                answer.status,
                answer.text()
            );
            let told = answer.text().to_lowercase();
            for word in ["sqlx", "postgres", "syntax error", "relation", "statement"] {
                assert!(!told.contains(word), "{field}: {told}");
            }
        }
    }
    for path in [
        "clusters",
        "authorities",
        "certificates",
        "enrolments",
        "crls",
        "bundles",
        "profiles",
        "role-bindings",
        "proposals",
    ] {
        let answer = officer.get(server.admin, &format!("/v1/{path}/{evil}"));
        assert!(
            [400, 404].contains(&answer.status),
            "{path}: {}",
            answer.text()
        );
    }
    for body in [
        json!({ "principal": "cert:x'; DROP TABLE role_binding; --", "role": "viewer" }),
        json!({ "principal": "cert:x", "role": "viewer' OR '1'='1" }),
        json!({ "principal": "cert:x", "role": "viewer", "clusters": ["' OR 1=1--"] }),
    ] {
        let answer = officer.post(server.admin, "/v1/role-bindings", &body);
        assert!(
            [400, 422].contains(&answer.status),
            "{body}: {}",
            answer.text()
        );
    }
    for filter in ["kind", "actor", "replica"] {
        let answer = officer.get(server.admin, &format!("/v1/audit?{filter}={evil}"));
        assert_eq!(answer.json()["items"], json!([]), "{filter}");
    }
    let after = officer
        .get(server.admin, "/v1/certificates?limit=500")
        .json()["items"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(before, after);
}

/// Does what somebody does who has the database file, and no key.
fn sqlite(fleet: &Fleet, statement: &str) {
    let script =
        "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
    run(Command::new("python3")
        .args(["-c", script])
        .arg(fleet.path("ca.db"))
        .arg(statement));
}

#[test]
fn a_row_that_only_the_database_knows_of_gives_nothing() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    fleet.configure("[admin]\ntwo_person = [\"role\"]\n");
    let server = fleet.serve();
    let officer = Admin::new(&fleet, "officer", Some("security-officer"), &[]);
    let viewer = Admin::new(&fleet, "viewer", Some("viewer"), &["edge"]);
    // A role out of thin air, one of another's, and one that is better than it was.
    sqlite(
        &fleet,
        "INSERT INTO role_binding SELECT 'forged', 'cert:viewer', 'security-officer', NULL, created_at, created_by, seal FROM role_binding WHERE principal = 'cert:officer'",
    );
    assert_eq!(viewer.get(server.admin, "/v1/role-bindings").status, 403);
    sqlite(
        &fleet,
        "UPDATE role_binding SET clusters = NULL WHERE principal = 'cert:viewer' AND id <> 'forged'",
    );
    let who = viewer.get(server.admin, "/v1/whoami").json();
    assert_eq!(who["bindings"], json!([]));
    server
        .log()
        .wait_for(&["a role binding was not made here", "cert:viewer"]);
    // A proposal that says something else by now than what was proposed.
    let role = json!({ "principal": "cert:new", "role": "viewer" });
    let waits = officer.post(server.admin, "/v1/role-bindings", &role);
    assert_eq!(waits.status, 202, "{}", waits.text());
    let id = waits.json()["id"].as_str().unwrap().to_owned();
    sqlite(
        &fleet,
        &format!(
            "UPDATE proposal SET act = replace(act, 'viewer', 'security-officer'), changes = replace(changes, 'viewer', 'security-officer') WHERE id = '{id}'"
        ),
    );
    let second = Admin::new(&fleet, "second", Some("security-officer"), &[]);
    let answer = second.call(
        server.admin,
        "POST",
        &format!("/v1/proposals/{id}/approve"),
        &[],
        None,
    );
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (409, "seal"),
        "{}",
        answer.text()
    );
}
