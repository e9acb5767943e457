//! One document of the API for people: a line for each key, what is nested below it, PEM last.

use ca_client::printable::{printable, printable_lines};
use pki::time::Timestamp;
use serde_json::{Map, Value};

use super::table::text;
use super::when::annotated;

/// The longest list of plain values that stands in one line.
const MAX_IN_LINE: usize = 100;

/// `first` says which keys come first, in this order; the others follow as the document has them.
pub(crate) fn document(value: &Value, first: &[&str], now: Timestamp) -> String {
    let Value::Object(map) = value else {
        return format!("{}\n", text(value));
    };
    let mut lines = String::new();
    let mut blocks = String::new();
    object(map, first, 0, now, &mut lines, &mut blocks);
    lines + &blocks
}

fn object(
    map: &Map<String, Value>,
    first: &[&str],
    depth: usize,
    now: Timestamp,
    lines: &mut String,
    blocks: &mut String,
) {
    let named = first.iter().filter_map(|key| map.get_key_value(*key));
    let others = map.iter().filter(|(key, _)| !first.contains(&key.as_str()));
    let entries: Vec<(String, &Value)> = named
        .chain(others)
        .map(|(key, value)| (printable(&key.replace('_', " ")), value))
        .collect();
    let wide = entries.iter().map(|(key, _)| key.chars().count()).max();
    let wide = wide.unwrap_or(0).max(10);
    let indent = "  ".repeat(depth);
    for (key, value) in entries {
        match value {
            Value::String(block) if block.contains('\n') => {
                blocks.push_str(&printable_lines(block.trim_end()));
                blocks.push('\n');
            }
            Value::Object(inner) if !inner.is_empty() => {
                lines.push_str(&format!("{indent}{key}\n"));
                object(inner, &[], depth + 1, now, lines, blocks);
            }
            Value::Array(items) if is_long(items) => {
                lines.push_str(&format!("{indent}{key}\n"));
                for item in items {
                    let item = inline(item, now);
                    lines.push_str(&format!("{indent}  {item}\n"));
                }
            }
            plain => {
                let shown = inline(plain, now);
                let gap = " ".repeat(wide - key.chars().count().min(wide));
                lines.push_str(&format!("{indent}{key}{gap}  {shown}\n"));
            }
        }
    }
}

fn inline(value: &Value, now: Timestamp) -> String {
    match value {
        Value::Object(map) => {
            let pairs = map.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<String> = pairs
                .map(|(key, value)| format!("{}={}", printable(key), inline(value, now)))
                .collect();
            pairs.join("  ")
        }
        Value::String(_) => annotated(&text(value), now),
        other => text(other),
    }
}

/// Whether a list needs lines of its own.
fn is_long(items: &[Value]) -> bool {
    items.iter().any(Value::is_object)
        || items.iter().map(|item| text(item).len() + 1).sum::<usize>() > MAX_IN_LINE
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_in_order_what_is_nested_below_and_pem_last() {
        let now: Timestamp = "2026-11-28T06:00:00Z".parse().unwrap();
        let value = json!({
            "chain": "-----BEGIN X-----\nabc\u{1b}\n-----END X-----\n",
            "id": "central-1",
            "clock": { "now": "2026-11-28T06:00:00Z", "trusted": true },
            "not_after": "2026-11-28T09:00:00Z",
            "names": ["a", "b"],
            "rules": [{ "name": "r", "ip": null }],
            "none": null,
        });
        let text = document(&value, &["id", "not_after"], now);
        let expected = "\
id          central-1
not after   2026-11-28T09:00:00Z (in 3h)
clock
  now         2026-11-28T06:00:00Z (now)
  trusted     yes
names       a,b
none        -
rules
  name=r
-----BEGIN X-----
abc\\u{1b}
-----END X-----
";
        assert_eq!(text, expected);
    }
}
