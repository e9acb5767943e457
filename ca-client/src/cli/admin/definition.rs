//! A cluster's definition as people write it: TOML, in which a `jwks_file` beside the file is read and pinned.

use std::path::Path;

use anyhow::{Context, Result, bail};
use pki::profile::Profile;
use pki::time::Ttl;
use serde_json::{Map, Value, json};

use super::files;

/// What a definition says; the server adds keys of its own (a version).
const KEYS: [&str; 9] = [
    "name",
    "trust_domain",
    "role",
    "default_ttl",
    "max_ttl",
    "strict",
    "token_issuer",
    "token_review",
    "rule",
];

/// Reads a definition, as `ca-server cluster apply` does.
pub(super) fn read(path: &Path) -> Result<Value> {
    let mut definition = files::read_toml(path)?;
    let shown = || path.display().to_string();
    let issuers = definition
        .get_mut("token_issuer")
        .and_then(Value::as_array_mut);
    for issuer in issuers.into_iter().flatten() {
        let Some(issuer) = issuer.as_object_mut() else {
            continue;
        };
        let Some(file) = issuer.remove("jwks_file") else {
            continue;
        };
        let file = file
            .as_str()
            .context("token_issuer.jwks_file: expected a file's name")
            .with_context(shown)?;
        let beside = path.parent().unwrap_or(Path::new(".")).join(file);
        issuer.insert("jwks".to_owned(), read_jwks(&beside)?);
    }
    if let Some(other) = unknown(&definition, &KEYS) {
        bail!(
            "{}: {other} is no key of a cluster's definition: {}",
            shown(),
            KEYS.join(", ")
        );
    }
    if definition.get("name").and_then(Value::as_str).is_none() {
        bail!(
            "{}: a cluster's definition has a name and a trust_domain",
            shown()
        );
    }
    Ok(definition)
}

/// Reads a key set.
pub(super) fn read_jwks(path: &Path) -> Result<Value> {
    let text = files::read(path)?;
    let value: Value = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a key set in JSON", path.display()))?;
    if !value.get("keys").is_some_and(Value::is_array) {
        bail!("{} is not a key set: it has no list `keys`", path.display());
    }
    Ok(value)
}

fn unknown<'a>(value: &'a Value, known: &[&str]) -> Option<&'a str> {
    let keys = value.as_object()?.keys();
    keys.map(String::as_str).find(|key| !known.contains(key))
}

/// The definition in one form: what is left out is said, and lifetimes of one length are one text.
pub(super) fn normal(definition: &Value) -> Value {
    let of_profile = |ttl: Ttl| json!(ttl.to_string());
    let mut normal = Map::new();
    for key in KEYS {
        let said = definition.get(key).filter(|value| !value.is_null());
        let value = match (key, said) {
            (_, Some(value)) => one_text(key, value),
            ("default_ttl", None) => of_profile(Profile::WORKLOAD.default_ttl()),
            ("max_ttl", None) => of_profile(Profile::WORKLOAD.max_ttl()),
            ("role", None) => json!("workloads"),
            ("strict", None) => json!(false),
            (_, None) => Value::Null,
        };
        normal.insert(key.to_owned(), value);
    }
    Value::Object(normal)
}

/// Lifetimes wherever they stand: `24h` and `1d` are one.
fn one_text(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), one_text(key, value)))
            .collect(),
        Value::Array(items) => items.iter().map(|item| one_text(key, item)).collect(),
        Value::String(text) if key.ends_with("ttl") || key.ends_with("lifetime") => {
            let ttl = text.parse::<Ttl>().map(|ttl| ttl.to_string());
            json!(ttl.unwrap_or_else(|_| text.clone()))
        }
        other => other.clone(),
    }
}

/// Reads a policy: a file of its own, or the policy in a cluster's definition.
pub(super) fn read_policy(path: &Path, cluster: &str) -> Result<Value> {
    const POLICY: [&str; 5] = ["default_ttl", "max_ttl", "strict", "rule", "rules"];
    let mut document = files::read_document(path)?;
    let of_another = document
        .get("name")
        .and_then(Value::as_str)
        .filter(|name| *name != cluster);
    if let Some(other) = of_another {
        bail!(
            "{} is the definition of cluster {other}, not of {cluster}",
            path.display()
        );
    }
    let known: Vec<&str> = KEYS.into_iter().chain(POLICY).collect();
    if let Some(other) = unknown(&document, &known) {
        bail!(
            "{}: {other} is no key of a policy: default_ttl, max_ttl, strict and [[rule]]",
            path.display()
        );
    }
    // A definition that leaves something out means the default; a policy that does has forgotten it.
    if document.get("trust_domain").is_some() {
        document = normal(&document);
    }
    let rules = ["rule", "rules"]
        .iter()
        .find_map(|key| document.get_mut(key).map(Value::take));
    let is_definition = document.get("trust_domain").is_some();
    let none = is_definition.then(|| json!([]));
    let mut policy = Map::new();
    for key in ["default_ttl", "max_ttl", "strict"] {
        let value = document.get(key).cloned();
        policy.insert(key.to_owned(), value.with_context(|| forgotten(path, key))?);
    }
    let rules = rules.filter(|rules| !rules.is_null()).or(none);
    policy.insert(
        "rules".to_owned(),
        rules.with_context(|| forgotten(path, "rules"))?,
    );
    Ok(Value::Object(policy))
}

fn forgotten(path: &Path, key: &str) -> String {
    format!(
        "{}: {key} is not said, and a policy has no defaults: default_ttl, max_ttl, strict and [[rule]] (rules = [] for none)",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_pins_the_keys_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("central.toml");
        std::fs::write(home.path().join("jwks.json"), r#"{"keys":[]}"#).unwrap();
        let text = "name = 'central'\ntrust_domain = 'td'\n[[token_issuer]]\nissuer = 'x'\njwks_file = 'jwks.json'\n";
        std::fs::write(&path, text).unwrap();
        let read_definition = read(&path).unwrap();
        assert_eq!(
            read_definition["token_issuer"],
            json!([{ "issuer": "x", "jwks": { "keys": [] } }])
        );
        std::fs::write(&path, "name = 'central'\nmax_tll = '1d'\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("max_tll"), "{error}");
    }

    #[test]
    fn what_is_left_out_is_what_the_server_takes() {
        let short = json!({ "name": "a", "trust_domain": "td", "max_ttl": "24h" });
        let long = json!({
            "name": "a", "trust_domain": "td", "role": "workloads", "default_ttl": Profile::WORKLOAD.default_ttl().to_string(),
            "max_ttl": "1d", "strict": false, "token_issuer": [], "token_review": null, "rule": [], "version": 7,
        });
        assert!(super::super::diff::lines(&normal(&short), &normal(&long)).is_empty());
    }

    #[test]
    fn a_policy_is_read_alone_or_out_of_its_clusters_definition() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("p.toml");
        std::fs::write(
            &path,
            "name = 'a'\ntrust_domain = 'td'\nmax_ttl = '2d'\n[[rule]]\nname = 'r'\n",
        )
        .unwrap();
        let default = Profile::WORKLOAD.default_ttl().to_string();
        let expected = json!({ "default_ttl": default, "max_ttl": "2d", "strict": false, "rules": [{ "name": "r" }] });
        assert_eq!(read_policy(&path, "a").unwrap(), expected);
        assert!(read_policy(&path, "b").is_err());
        std::fs::write(&path, expected.to_string()).unwrap();
        assert_eq!(read_policy(&path, "b").unwrap(), expected);
        for (text, words) in [
            ("rulez = 1", "rulez"),
            ("default_ttl = '1h'\nmax_ttl = '2h'\nstrict = true", "rules"),
            ("max_ttl = '2h'\nstrict = true\nrules = []", "default_ttl"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read_policy(&path, "b").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
