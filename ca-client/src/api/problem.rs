//! What a server answers when it did not do what it was asked: an RFC 9457 problem document.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::printable::printable;

/// The most characters of a text from a server that are kept.
const MAX_TEXT: usize = 2_000;

/// A problem document, its texts tamed for a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What the status is called.
    pub title: String,
    /// What is wrong, in the server's words.
    pub detail: String,
    /// The stable word for it, where the server gave one.
    pub reason: Option<String>,
    /// Under which id the server's log has it.
    pub request_id: Option<String>,
    /// What it takes: a role, a precondition.
    pub expected: Option<String>,
    /// In how many seconds to ask again.
    pub retry_after: Option<u64>,
}

#[derive(Deserialize)]
struct Document {
    title: Option<String>,
    detail: Option<String>,
    reason: Option<String>,
    request_id: Option<String>,
    expected: Option<Value>,
}

impl Problem {
    /// Reads an answer's body; one that is no problem document (a proxy's page) is told by its status and first words.
    #[must_use]
    pub fn read(status: http::StatusCode, body: &[u8], retry_after: Option<u64>) -> Self {
        let title = status.canonical_reason().unwrap_or("refused");
        let problem = Self {
            status: status.as_u16(),
            title: title.to_owned(),
            retry_after,
            ..Self::default()
        };
        let Ok(document) = serde_json::from_slice::<Document>(body) else {
            let words = String::from_utf8_lossy(body);
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            let detail: String = words.chars().take(200).collect();
            return Self {
                detail: printable(&detail),
                ..problem
            };
        };
        Self {
            title: document.title.map_or(problem.title, |text| tame(&text)),
            detail: document.detail.map(|text| tame(&text)).unwrap_or_default(),
            reason: document.reason.map(|text| tame(&text)),
            request_id: document.request_id.map(|text| tame(&text)),
            expected: document.expected.as_ref().and_then(words),
            ..problem
        }
    }
}

/// A text, a list of texts, or whatever else the server says that it takes.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(tame(text)),
        Value::Array(items) => {
            let words: Vec<String> = items.iter().filter_map(words).collect();
            Some(words.join(", "))
        }
        other => Some(tame(&other.to_string())),
    }
}

fn tame(text: &str) -> String {
    let text: String = text.chars().take(MAX_TEXT).collect();
    printable(&text)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.detail.is_empty() {
            &self.title
        } else {
            &self.detail
        };
        write!(f, "{what} (HTTP {}", self.status)?;
        if let Some(reason) = &self.reason {
            write!(f, ", {reason}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, ", request {id}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn a_problem_document_is_read_and_tamed() {
        let body = br#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"no \u001b[31mrole","reason":"role",
            "request_id":"r-1","expected":["operator","security-officer"],"more":1}"#;
        let problem = Problem::read(StatusCode::FORBIDDEN, body, Some(3));
        assert_eq!(
            problem.to_string(),
            "no \\u{1b}[31mrole (HTTP 403, role, request r-1)"
        );
        assert_eq!(
            problem.expected.as_deref(),
            Some("operator, security-officer")
        );
        assert_eq!(problem.retry_after, Some(3));
    }

    #[test]
    fn a_page_of_somebody_elses_is_told_by_its_first_words() {
        let page = b"<html>\n <h1>Bad gateway</h1>";
        let problem = Problem::read(StatusCode::BAD_GATEWAY, page, None);
        assert_eq!(
            problem.to_string(),
            "<html> <h1>Bad gateway</h1> (HTTP 502)"
        );
        let problem = Problem::read(StatusCode::NOT_FOUND, b"", None);
        assert_eq!(problem.to_string(), "Not Found (HTTP 404)");
    }
}
