//! What the texts of requests look like, for the API's description: names in it that mean the same thing look the same.
//!
//! A pattern takes nothing that the server would not read, so that a client that keeps to the description is never told that
//! its request is malformed.

use serde_json::{Value, json};

const CLUSTER: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
const AUTHORITY: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$";
const PROFILE: &str = "^[a-z][a-z0-9-]{0,31}$";
const SERIAL: &str = "^01[0-9a-f]{36}$";
const TTL: &str = "^([1-9][0-9]{0,8}s|[1-9][0-9]{0,6}m|[1-9][0-9]{0,4}h|[1-9][0-9]{0,3}d|([1-9]|[1-4][0-9]|50)y)$";
const TIME: &str = "^20[0-9]{2}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)\
                    T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$";
const SPIFFE: &str = "^spiffe://[a-z0-9][a-z0-9-]{0,30}(\\.[a-z0-9][a-z0-9-]{0,30}){0,3}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,60}){1,8}$";
/// An id whose segments may be `*`, and the last `**`.
const SPIFFE_PATTERN: &str = "^spiffe://[a-z0-9][a-z0-9-]{0,30}(\\.[a-z0-9][a-z0-9-]{0,30}){0,3}(/(\\*|[A-Za-z0-9_-][A-Za-z0-9._-]{0,60})){0,7}/(\\*\\*?|[A-Za-z0-9_-][A-Za-z0-9._-]{0,60})$";
const TRUST_DOMAIN: &str = "^[a-z0-9][a-z0-9-]{0,30}(\\.[a-z0-9][a-z0-9-]{0,30}){0,3}$";
const DNS: &str = "^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\\.){0,6}[a-z]([a-z0-9-]{0,30}[a-z0-9])?$";
/// That very name, one with a wildcard, or every name below one.
const DNS_PATTERN: &str =
    "^(\\*\\*?\\.)?([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\\.){0,6}[a-z]([a-z0-9-]{0,30}[a-z0-9])?$";
/// An IPv4 address; IPv6 ones are told by their format.
const ADDRESS: &str = "^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$";

/// Bodies whose unknown fields are refused, beside those that say so themselves.
const CLOSED: [&str; 7] = [
    "ClusterDefinition",
    "DryRun",
    "Policy",
    "ReplayRequest",
    "Rule",
    "TokenIssuer",
    "TokenReview",
];

fn pattern(name: &str) -> Option<&'static str> {
    Some(match name {
        "authority" | "below" => AUTHORITY,
        "callers" | "enrolment_pattern" => SPIFFE_PATTERN,
        "identity" | "spiffe_id" => SPIFFE,
        "cluster" | "clusters" => CLUSTER,
        "default_ttl" | "life" | "max_token_lifetime" | "max_ttl" | "ttl" => TTL,
        "dns" => DNS,
        "expires_from" | "expires_to" | "from" | "issued_from" | "issued_to" | "to" => TIME,
        "ip" => ADDRESS,
        "profile" => PROFILE,
        "serial" | "serials" => SERIAL,
        "trust_domain" => TRUST_DOMAIN,
        _ => return None,
    })
}

/// The parameters whose name does not say enough.
fn parameter(path: &str, name: &str) -> Option<&'static str> {
    match (path.split('/').nth(2), name) {
        (Some("authorities"), "id") => Some(AUTHORITY),
        (Some("clusters"), "name") => Some(CLUSTER),
        (Some("profiles"), "name") => Some(PROFILE),
        _ => pattern(name),
    }
}

/// Writes the patterns into a description.
pub(super) fn write(document: &mut Value) {
    for (path, item) in objects(document, "/paths") {
        for described in item
            .as_object_mut()
            .into_iter()
            .flat_map(|item| item.values_mut())
        {
            let parameters = described
                .get_mut("parameters")
                .and_then(Value::as_array_mut);
            for it in parameters.into_iter().flatten() {
                let name = it["name"].as_str().unwrap_or_default().to_owned();
                if it["in"] != "header"
                    && let Some(pattern) = parameter(&path, &name)
                {
                    put(&mut it["schema"], pattern);
                }
                if name == "state" {
                    it["schema"]["enum"] = states(&path);
                }
            }
        }
    }
    let bodies = bodies(document);
    for (name, schema) in objects(document, "/components/schemas") {
        for way in schema
            .get_mut("oneOf")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if name == "ReviewServer" {
                close(way);
            }
        }
        let is_closed = CLOSED.contains(&name.as_str());
        if is_closed {
            schema["additionalProperties"] = false.into();
        }
        // What is only answered is what it is.
        if !is_closed && !bodies.contains(&name) {
            continue;
        }
        for (field, property) in objects(schema, "/properties") {
            match (name.as_str(), field.as_str()) {
                ("ClusterDefinition", "name") => put(property, CLUSTER),
                ("NewEnrolment", "spiffe_id") => put(property, SPIFFE_PATTERN),
                ("Rule", "dns") => put(property, DNS_PATTERN),
                ("Rule", "name") => {}
                ("ClusterDefinition", "role") => property["enum"] = json!(["workloads", "fleet"]),
                (_, "crl_shards") => property["maximum"] = 256.into(),
                (_, field) => {
                    if let Some(pattern) = pattern(field) {
                        put(property, pattern);
                    }
                }
            }
        }
    }
}

/// No other field, here or below.
fn close(schema: &mut Value) {
    if schema["type"] == "object" {
        schema["additionalProperties"] = false.into();
    }
    for (_, property) in objects(schema, "/properties") {
        close(property);
    }
}

fn states(path: &str) -> Value {
    match path.ends_with("/authorities") {
        true => json!([
            "requested",
            "imported",
            "published",
            "active",
            "retiring",
            "retired",
            "revoked"
        ]),
        false => json!(["valid", "expired", "revoked", "held"]),
    }
}

/// The names of what requests are made of.
fn bodies(document: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let paths = document["paths"].as_object();
    for described in paths.into_iter().flat_map(|it| it.values()) {
        for described in described.as_object().into_iter().flat_map(|it| it.values()) {
            let schema = described.pointer("/requestBody/content/application~1json/schema/$ref");
            let name = schema
                .and_then(Value::as_str)
                .and_then(|it| it.rsplit('/').next());
            names.extend(name.map(str::to_owned));
        }
    }
    names
}

fn objects<'a>(
    value: &'a mut Value,
    pointer: &str,
) -> impl Iterator<Item = (String, &'a mut Value)> + use<'a> {
    let found = value.pointer_mut(pointer).and_then(Value::as_object_mut);
    found
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value))
}

/// Of a list, its items look so. A pattern says nothing of null, and `format` says less than it.
fn put(schema: &mut Value, pattern: &str) {
    let place = match schema.get("items") {
        Some(_) => &mut schema["items"],
        None => schema,
    };
    if pattern == ADDRESS {
        place["anyOf"] = json!([{ "pattern": ADDRESS }, { "format": "ipv6" }]);
        return;
    }
    place["pattern"] = pattern.into();
    if let Some(place) = place.as_object_mut() {
        place.remove("format");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_looks_like_it_is_read() {
        use pki::name::{ClusterName, SpiffeId};
        use pki::time::{Timestamp, Ttl};
        for text in ["50y", "1s", "999999999s", "9999999m", "99999h", "9999d"] {
            assert!(text.parse::<Ttl>().is_ok(), "{text}");
        }
        for text in [
            "2000-01-01T00:00:00Z",
            "2099-12-31T23:59:59Z",
            "2030-06-30T00:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_ok(), "{text}");
        }
        assert!(SpiffeId::parse("spiffe://a-/_/-.").is_ok());
        assert!(ClusterName::parse("A.").is_ok());
        assert!("a.b-c".parse::<pki::name::DnsName>().is_ok());
        assert!(
            format!("01{}", "0".repeat(36))
                .parse::<pki::serial::Serial>()
                .is_ok()
        );
    }
}
