//! The API's description is checked in, and is what the code says.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::Path;

use serde_json::Value;

const ACCEPT: &str = "SIGNET_ACCEPT_API";

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// Compares a file of docs/ with what the code says now; with SIGNET_ACCEPT_API=1 it becomes that.
fn compare(name: &str, now: &str) {
    let path = file(name);
    if std::env::var_os(ACCEPT).is_some() {
        std::fs::write(&path, now).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    if there != now {
        let differing = there.lines().zip(now.lines()).position(|(a, b)| a != b);
        let line = differing.unwrap_or(there.lines().count().min(now.lines().count())) + 1;
        panic!(
            "docs/{name} is not what the code says from line {line} on. If the change is meant: {ACCEPT}=1 cargo test -p tests --test api_document, \
             and read the diff as a client would"
        );
    }
}

#[test]
fn the_checked_in_description_is_the_code_s() {
    let document = serde_json::to_value(ca_server::http::api::document()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let text = format!("{}\n", serde_json::to_string_pretty(&document).unwrap());
    compare("openapi.json", &text);
}

#[test]
fn the_table_of_roles_is_the_code_s() {
    use ca_server::app::operations::{Operation, Reach};
    let mut text = String::from(
        "# Who may do what\n\nMade from the code (`app/operations.rs`); a test holds it to that. Each role may what the one before may: viewer, operator, \
         security officer.\nIn the cluster: the role has to hold in the cluster that the call is about; lists show those clusters. In the installation: it has to hold everywhere.\n\n\
         | operation | least role | where |\n|---|---|---|\n",
    );
    for operation in Operation::ALL {
        let needed = operation.requirement();
        let (role, place) = match needed.reach {
            Reach::Oneself => ("any credential", "oneself"),
            Reach::Cluster => (needed.role.as_str(), "in the cluster"),
            Reach::Installation => (needed.role.as_str(), "in the installation"),
        };
        text.push_str(&format!("| {} | {role} | {place} |\n", operation.as_str()));
    }
    compare("authorization.md", &text);
}

#[test]
fn every_operation_is_described() {
    let document = serde_json::to_value(ca_server::http::api::document()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, described) in item.as_object().unwrap() {
            let place = format!("{method} {path}");
            assert_ne!(
                described["summary"].as_str().unwrap_or_default(),
                "",
                "{place}"
            );
            assert!(described["responses"]["default"].is_object(), "{place}");
            assert!(described["security"].is_array(), "{place}");
            for parameter in described["parameters"].as_array().into_iter().flatten() {
                let name = &parameter["name"];
                if parameter["in"] == "query" {
                    let said = parameter["description"].as_str().unwrap_or_default();
                    assert_ne!(said, "", "{place}: {name}");
                }
            }
        }
    }
    // Nothing that is referred to is missing.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(
            document.pointer(pointer).is_some_and(Value::is_object),
            "{pointer}"
        );
    }
}
