//! What handlers take from a request. What does not parse is refused with what was expected.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Shared;
use super::fault::Fault;
use crate::app::App;
use crate::app::permit::Permit;

/// The media type of PEM, which has none that is registered.
pub(super) const PEM: &str = "application/x-pem-file";

/// The app, and leave for what the route does.
pub(super) struct Call {
    pub(super) app: Shared,
    pub(super) permit: Permit,
}

impl Call {
    pub(super) fn context(&self) -> &crate::app::Context {
        self.app.context()
    }
}

impl std::ops::Deref for Call {
    type Target = App;

    fn deref(&self) -> &App {
        &self.app
    }
}

impl FromRequestParts<Shared> for Call {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Fault> {
        // Each route's layer puts it there.
        let permit = parts
            .extensions
            .get::<Permit>()
            .cloned()
            .ok_or_else(Fault::internal)?;
        Ok(Self {
            app: app.clone(),
            permit,
        })
    }
}

/// Parts of the path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Path<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Fault> {
        let refused =
            |error: PathRejection| Fault::malformed(format!("the path: {}", error.body_text()));
        let axum::extract::Path(value) = axum::extract::Path::from_request_parts(parts, app)
            .await
            .map_err(refused)?;
        Ok(Self(value))
    }
}

/// The query.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Query<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Fault> {
        let refused =
            |error: QueryRejection| Fault::malformed(format!("the query: {}", error.body_text()));
        let axum::extract::Query(value) = axum::extract::Query::from_request_parts(parts, app)
            .await
            .map_err(refused)?;
        Ok(Self(value))
    }
}

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequest<Shared> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Fault> {
        let kind = request.headers().get(CONTENT_TYPE);
        let essence = kind
            .and_then(|kind| kind.to_str().ok())
            .and_then(|kind| kind.split(';').next());
        if !essence.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Fault::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content-type",
                "expected Content-Type: application/json",
            ));
        }
        let bytes = Bytes::from_request(request, app).await.map_err(|error| {
            Fault::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                error.body_text(),
            )
        })?;
        let malformed = |error: String| Fault::malformed(format!("the body: {error}"));
        let mut json: Value =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        whole_numbers(&mut json);
        let value =
            serde_path_to_error::deserialize(json).map_err(|error| malformed(error.to_string()))?;
        Ok(Self(value))
    }
}

/// `3.0` is an integer, as JSON Schema has it.
fn whole_numbers(json: &mut Value) {
    /// Beyond this a double skips whole numbers.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match json {
        Value::Number(number) => {
            let float = number
                .as_f64()
                .filter(|it| number.is_f64() && it.fract() == 0.0 && it.abs() < EXACT);
            if let Some(whole) = float.and_then(|it| format!("{it:.0}").parse::<i64>().ok()) {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// No body: one that is there would be ignored, and somebody meant something by it.
pub(super) struct NoBody;

impl FromRequest<Shared> for NoBody {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Fault> {
        let bytes = Bytes::from_request(request, app).await;
        match bytes {
            Ok(bytes) if bytes.is_empty() || bytes.as_ref() == b"{}" => Ok(Self),
            _ => Err(Fault::malformed("the body: none is expected here")),
        }
    }
}

/// The precondition of a change (RFC 9110 §13.1.1). Whoever replaces or deletes has to give one; an act that its object's
/// state allows or not may go without.
pub(super) struct IfMatch(HeaderMap);

impl axum::extract::OptionalFromRequestParts<Shared> for IfMatch {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Option<Self>, Fault> {
        let is_there = parts.headers.contains_key(IF_MATCH);
        Ok(is_there.then(|| Self(parts.headers.clone())))
    }
}

impl FromRequestParts<Shared> for IfMatch {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Fault> {
        let given = Option::<Self>::from_request_parts(parts, app).await?;
        given.ok_or_else(|| {
            Fault::new(
                StatusCode::PRECONDITION_REQUIRED,
                "precondition",
                "expected If-Match with the ETag of what is to be changed (`*` for whatever it is now)",
            )
        })
    }
}

impl IfMatch {
    /// Whether it is still at the version that the caller saw.
    ///
    /// # Errors
    /// 412 when it is not.
    pub(super) fn check(&self, version: i64) -> Result<(), Fault> {
        if names(&self.0, IF_MATCH.as_str(), &tag(version)) {
            return Ok(());
        }
        Err(Fault::new(
            StatusCode::PRECONDITION_FAILED,
            "stale",
            format!(
                "it has changed: it is at {} now. Read it again and decide anew",
                tag(version)
            ),
        ))
    }
}

/// An id as the store may be asked for it: none has other letters, and Postgres takes no NUL.
pub(super) fn id(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

fn names(headers: &HeaderMap, header: &str, tag: &str) -> bool {
    let values = headers.get_all(header).iter();
    values.filter_map(|value| value.to_str().ok()).any(|value| {
        value
            .split(',')
            .any(|one| one.trim() == "*" || one.trim() == tag)
    })
}

fn tag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Which of the forms that a thing has is wanted: the first that a range of `Accept` takes, in the order of writing, whatever
/// their weights; the first form where nobody says.
///
/// # Errors
/// 406 when it is none of them.
pub(super) fn accepted<'a>(headers: &HeaderMap, forms: &[&'a str]) -> Result<&'a str, Fault> {
    let values = headers.get_all(ACCEPT).iter();
    let ranges: Vec<String> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .map(|range| range.trim().to_ascii_lowercase())
        .filter(|range| !range.is_empty())
        .collect();
    let takes = |range: &str, form: &str| match range.strip_suffix('*') {
        Some("*/") => true,
        Some(kind) => form.starts_with(kind),
        None => form == range,
    };
    let found = match ranges.is_empty() {
        true => forms.first(),
        false => ranges
            .iter()
            .find_map(|range| forms.iter().find(|form| takes(range, form))),
    };
    found.copied().ok_or_else(|| {
        Fault::new(
            StatusCode::NOT_ACCEPTABLE,
            "accept",
            format!("expected Accept: {}", forms.join(" or ")),
        )
    })
}

/// One thing at a version: with an ETag, and 304 for who has it.
pub(super) fn versioned<T: Serialize>(headers: &HeaderMap, version: i64, body: &T) -> Response {
    let tag = tag(version);
    // Of digits alone.
    let value = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"0\""));
    let etag = [(ETAG, value)];
    if names(headers, IF_NONE_MATCH.as_str(), &tag) {
        return (StatusCode::NOT_MODIFIED, etag).into_response();
    }
    (etag, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_that_takes_a_form_decides() {
        const FORMS: [&str; 3] = ["application/json", PEM, "text/plain"];
        let asked = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            accepted(&headers, &FORMS).map_err(|fault| fault.status)
        };
        assert_eq!(accepted(&HeaderMap::new(), &FORMS).unwrap(), FORMS[0]);
        for (accept, form) in [
            ("", FORMS[0]),
            ("*/*", FORMS[0]),
            ("application/*", FORMS[0]),
            ("text/html, text/*;q=0.5", FORMS[2]),
            ("image/png, Application/X-PEM-File;q=0.1, */*", FORMS[1]),
        ] {
            assert_eq!(asked(accept).unwrap(), form, "{accept}");
        }
        for none in ["text/html", "application", "application/pkix-cert"] {
            assert_eq!(
                asked(none).unwrap_err(),
                StatusCode::NOT_ACCEPTABLE,
                "{none}"
            );
        }
    }
}
