//! One request of the API, before it is sent.

use std::fmt::Write as _;
use std::time::Duration;

use http::Method;
use serde_json::Value;

/// The forms of an answer that are asked for.
const JSON: &str = "application/json";

/// What is asked of the API: a method, a path, and what goes with it.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
    pub(super) accept: &'static str,
    pub(super) if_match: Option<String>,
    pub(super) is_keyed: bool,
    pub(super) patience: Option<Duration>,
}

impl Call {
    fn new(method: Method, segments: &[&str]) -> Self {
        let mut path = "/v1".to_owned();
        for segment in segments {
            path.push('/');
            encode(&mut path, segment);
        }
        Self {
            method,
            path,
            query: Vec::new(),
            body: None,
            accept: JSON,
            if_match: None,
            is_keyed: false,
            patience: None,
        }
    }

    /// Reads `/v1/…`; each segment is one, whatever is in it.
    #[must_use]
    pub fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// Makes or does something. It is sent with an `Idempotency-Key`, so that it is safe to send again.
    #[must_use]
    pub fn post(segments: &[&str], body: Value) -> Self {
        Self {
            is_keyed: true,
            ..Self::ask(segments, body)
        }
    }

    /// Asks something that takes a body, and changes nothing.
    #[must_use]
    pub fn ask(segments: &[&str], body: Value) -> Self {
        Self {
            body: Some(body),
            ..Self::new(Method::POST, segments)
        }
    }

    /// Puts `body` in the place of the version that `etag` names.
    #[must_use]
    pub fn put(segments: &[&str], etag: &str, body: Value) -> Self {
        Self {
            body: Some(body),
            if_match: Some(etag.to_owned()),
            ..Self::new(Method::PUT, segments)
        }
    }

    /// Removes the version that `etag` names.
    #[must_use]
    pub fn delete(segments: &[&str], etag: &str) -> Self {
        Self {
            if_match: Some(etag.to_owned()),
            ..Self::new(Method::DELETE, segments)
        }
    }

    /// Adds a parameter, if there is a value.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.query.push((name, value.to_string()));
        }
        self
    }

    /// Asks for another form than JSON, by its media type.
    #[must_use]
    pub fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    /// Gives it so long, where that is longer than what the client gives every call.
    #[must_use]
    pub fn patiently(self, patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..self
        }
    }

    /// Path and query, as they are sent.
    #[must_use]
    pub fn target(&self) -> String {
        let mut target = self.path.clone();
        for (i, (name, value)) in self.query.iter().enumerate() {
            target.push(if i == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            encode(&mut target, value);
        }
        target
    }

    /// Whether sending it twice does no more than sending it once.
    pub(super) fn is_repeatable(&self) -> bool {
        // A POST has a key, or changes nothing.
        matches!(self.method, Method::GET | Method::POST)
    }

    /// The same from another place of a list on.
    pub(super) fn at_page(&self, page: &str) -> Self {
        let mut call = self.clone();
        call.query.retain(|(name, _)| *name != "page");
        call.query("page", Some(page))
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(into: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_and_one_value() {
        let call = Call::get(&[
            "clusters",
            "a/b",
            "token-issuers",
            "https://k8s.example?x#y",
        ])
        .query("spiffe_id", Some("spiffe://td/a&b=ä"))
        .query("dns", None::<&str>)
        .query("limit", Some(5));
        assert_eq!(
            call.target(),
            "/v1/clusters/a%2Fb/token-issuers/https%3A%2F%2Fk8s.example%3Fx%23y?spiffe_id=spiffe%3A%2F%2Ftd%2Fa%26b%3D%C3%A4&limit=5"
        );
        let next = call.at_page("one").at_page("two");
        assert!(next.target().ends_with("&limit=5&page=two"));
    }

    #[test]
    fn what_reads_or_has_a_key_may_be_sent_again() {
        assert!(Call::get(&["clusters"]).is_repeatable());
        assert!(Call::post(&["clusters"], Value::Null).is_repeatable());
        assert!(!Call::put(&["clusters", "a"], "\"1\"", Value::Null).is_repeatable());
        assert!(!Call::delete(&["clusters", "a"], "\"1\"").is_repeatable());
    }
}
