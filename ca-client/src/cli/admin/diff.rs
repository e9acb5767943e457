//! What one document has that another has not, line by line.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::out;

/// The lines to turn `before` into `after`: `-` goes, `+` comes. Elements of a list are told by their name or issuer, so that one
/// that comes first does not move the others.
pub(super) fn lines(before: &Value, after: &Value) -> Vec<String> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), before, &mut old);
    flatten(String::new(), after, &mut new);
    let mut lines = Vec::new();
    for (path, value) in &old {
        if new.get(path) != Some(value) {
            lines.push((path, 0, format!("- {path} = {value}")));
        }
    }
    for (path, value) in &new {
        if old.get(path) != Some(value) {
            lines.push((path, 1, format!("+ {path} = {value}")));
        }
    }
    lines.sort();
    lines.into_iter().map(|(_, _, line)| line).collect()
}

fn flatten(path: String, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                let key = out::text(&Value::from(key.as_str()));
                let below = if path.is_empty() {
                    key
                } else {
                    format!("{path}.{key}")
                };
                flatten(below, value, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (i, item) in items.iter().enumerate() {
                let name = ["name", "issuer", "kid"]
                    .iter()
                    .find_map(|key| item.get(key)?.as_str());
                let name = name.map_or_else(|| i.to_string(), |name| out::text(&name.into()));
                flatten(format!("{path}[{name}]"), item, into);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        plain => {
            into.insert(path, out::text(plain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_goes_and_comes_is_told_by_name() {
        let before = json!({ "max_ttl": "1d", "rule": [{ "name": "b", "dns": ["x"] }], "token_review": null });
        let after = json!({ "max_ttl": "2d", "rule": [{ "name": "a", "dns": ["y"] }, { "name": "b", "dns": ["x", "z"] }] });
        assert_eq!(
            lines(&before, &after),
            [
                "- max_ttl = 1d",
                "+ max_ttl = 2d",
                "+ rule[a].dns = y",
                "+ rule[a].name = a",
                "- rule[b].dns = x",
                "+ rule[b].dns = x,z",
            ]
        );
        assert!(lines(&before, &before).is_empty());
    }
}
