//! schemathesis against the live API: thousands of requests made from its own description, good and bad, with every check that
//! it has. Its caller shows an OIDC token, so that it can leave the credential out and see what happens.

use std::process::Command;

use serde_json::json;
use tests::admin::Admin;
use tests::fleet::Fleet;
use tests::parts::part_or_skip;
use tests::process::{output, run};
use tests::tokens::TokenAuthority;

/// What its checks take for right beside their own lists: preconditions that fail (412) and are missing (428, RFC 6585), what
/// reads well and cannot be done (422), and what cannot be answered in the form that was asked for (406).
const EXPECTED: &str = r#"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 401, 403, 404, 406, 409, 412, 422, 429]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 415, 422, 428, 429]
[checks.missing_required_header]
expected-statuses = [400, 401, 403, 404, 406, 422, 428]
"#;

#[test]
fn schemathesis_finds_nothing() {
    let test = "schemathesis_finds_nothing";
    let Some(schemathesis) = part_or_skip(test, "SIGNET_SCHEMATHESIS") else {
        return;
    };
    let issuer = TokenAuthority::new("https://idp.example");
    let now = tests::now().unix();
    let token = issuer.sign(&json!({
        "iss": issuer.issuer(), "aud": "signet", "sub": "u1", "groups": ["admins"],
        "iat": now, "nbf": now, "exp": now + 3600,
    }));
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    let jwks = fleet.path("idp.json");
    std::fs::write(&jwks, issuer.jwks().to_string()).unwrap();
    fleet.configure(&format!(
        "[admin]\nper_caller_per_minute = 1000000\n[[admin.oidc]]\nissuer = \"https://idp.example\"\naudience = \"signet\"\njwks_file = \"{}\"\n",
        jwks.display()
    ));
    let server = fleet.serve();
    let group = "oidc-group:https://idp.example#admins";
    run(&mut fleet.ca_server(&["admin", "bind", group, "--role", "security-officer"]));
    let who = Admin::bearing(&fleet, &token)
        .get(server.admin, "/v1/whoami")
        .json();
    assert_eq!(who["principal"], "oidc:https://idp.example#u1", "{who}");

    let folder = fleet.path("schemathesis");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("schemathesis.toml"), EXPECTED).unwrap();
    std::fs::write(folder.join("root.pem"), fleet.root_pem()).unwrap();
    let mut command = Command::new(schemathesis);
    command
        .current_dir(&folder)
        .arg("run")
        .arg(format!(
            "https://localhost:{}/v1/openapi.json",
            server.admin.port()
        ))
        .args([
            "--tls-verify",
            "root.pem",
            "--checks",
            "all",
            "--continue-on-failure",
            "--no-shrink",
        ])
        .args([
            "--max-examples",
            "15",
            "--seed",
            "20261128",
            "--request-timeout",
            "20",
        ])
        .args(["--header", &format!("Authorization: Bearer {token}")]);
    let ran = output(&mut command);
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert_eq!(
        server.log().count("request failed"),
        0,
        "the server's own faults"
    );
}
