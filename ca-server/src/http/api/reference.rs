//! The API's description: OpenAPI 3.1 for machines, and a page with curl commands for people.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::Json;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::openapi::path::{Operation as Described, Paths};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, OpenApi as Document, Ref, RefOr, Response as DescribedResponse,
    SecurityRequirement,
};
use utoipa::{PartialSchema, ToSchema};

use super::extract::Call;
use crate::app::operations::{Operation, Reach};
use crate::serve::problem::Problem;

static DOCUMENT: LazyLock<Value> = LazyLock::new(super::document);
static PAGE: LazyLock<String> = LazyLock::new(|| page(&DOCUMENT));

/// Names a route's description after its operation, and says what it takes.
pub(super) fn name(paths: &mut Paths, operation: Operation) {
    let needed = operation.requirement();
    let takes = match needed.reach {
        Reach::Oneself => "Takes a credential, and no role.".to_owned(),
        Reach::Cluster => format!("Takes the role `{}` in the cluster.", needed.role),
        Reach::Installation => {
            format!(
                "Takes the role `{}` in the whole installation.",
                needed.role
            )
        }
    };
    each(paths, |described| {
        described.operation_id = Some(operation.as_str().to_owned());
        let more = described.description.take().unwrap_or_default();
        described.description = Some(format!("{more} {takes}").trim().to_owned());
    });
}

fn each(paths: &mut Paths, mut change: impl FnMut(&mut Described)) {
    for item in paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
        ];
        for described in operations.into_iter().flatten() {
            change(described);
        }
    }
}

/// Adds what is true of every route: how callers are proven, and what refusals look like.
pub(super) fn complete(document: &mut Document) {
    let problem = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    let mut refused = DescribedResponse::new("A refusal or a failure (RFC 9457).");
    refused
        .content
        .insert("application/problem+json".to_owned(), problem.into());
    each(&mut document.paths, |described| {
        described
            .responses
            .responses
            .insert("default".to_owned(), RefOr::T(refused.clone()));
        described.security = Some(vec![
            SecurityRequirement::new("certificate", Vec::<String>::new()),
            SecurityRequirement::new("token", Vec::<String>::new()),
        ]);
    });
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert("Problem".to_owned(), Problem::schema());
    let mut schemas = Vec::new();
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    components.add_security_scheme(
        "certificate",
        SecurityScheme::MutualTls {
            description: Some("A client certificate of profile `admin`.".to_owned()),
            extensions: None,
            deprecated: None,
        },
    );
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("An OIDC token of a configured issuer."))
        .build();
    components.add_security_scheme("token", SecurityScheme::Http(token));
}

/// The API's description: OpenAPI 3.1.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "Server", responses((status = 200, body = Object)))]
pub(super) async fn openapi(_: Call) -> Json<&'static Value> {
    Json(&DOCUMENT)
}

/// The API's reference for people: each operation with a curl command.
#[utoipa::path(get, path = "/v1/reference", tag = "Server", responses((status = 200, body = String, content_type = "text/html")))]
pub(super) async fn show(_: Call) -> Response {
    let kind = [(CONTENT_TYPE, "text/html; charset=utf-8")];
    (kind, PAGE.as_str()).into_response()
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}\
pre{background:#f3f4f6;padding:.75rem;overflow:auto}code{font-size:.9em}section{border-top:1px solid #d0d7de;padding:.5rem 0}\
table{border-collapse:collapse}td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}pre{background:#161b22}}";

const INTRODUCTION: &str = "<p>Every call is proven by a client certificate of profile <code>admin</code> or an OIDC token. The commands below \
take the server's address and the caller's files from the environment:</p>\
<pre>export SIGNET=https://127.0.0.1:8444\nalias signet='curl --fail-with-body --cacert root.pem --cert admin.crt --key admin.key'</pre>\
<p>Lists come in pages: <code>?limit=</code> 1 to 500, and <code>?page=</code> with the <code>next</code> of the page before. What changes one thing \
takes <code>If-Match</code> with its <code>ETag</code>. A POST with an <code>Idempotency-Key</code> may be sent again for a day: it is carried out once. \
Refusals are problem documents (RFC 9457); <code>X-Request-Id</code> finds them in the server's log and audit trail. 202 means that a second person has to agree: \
the answer is the proposal. 429 and 503 say in <code>Retry-After</code> when to come back.</p>";

/// The page, from the description alone.
fn page(document: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Signet API</title><style>{STYLE}</style><h1>Signet API</h1>{INTRODUCTION}"
    );
    let paths = document.get("paths").and_then(Value::as_object);
    let mut tags: Vec<&str> = Vec::new();
    let operations: Vec<_> = paths
        .into_iter()
        .flatten()
        .flat_map(|(path, item)| {
            let methods = ["get", "post", "put", "delete"];
            methods
                .into_iter()
                .filter_map(move |method| Some((path.as_str(), method, item.get(method)?)))
        })
        .collect();
    for (_, _, described) in &operations {
        let tag = text(described, "/tags/0");
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags.sort_unstable();
    for tag in tags {
        let _ = write!(html, "<h2>{}</h2>", escape(tag));
        for (path, method, described) in &operations {
            if text(described, "/tags/0") == tag {
                section(&mut html, document, path, method, described);
            }
        }
    }
    html.push_str("</html>");
    html
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn section(html: &mut String, document: &Value, path: &str, method: &str, described: &Value) {
    let id = escape(text(described, "/operationId"));
    let _ = write!(
        html,
        "<section id=\"{id}\"><h3>{} <code>{}</code></h3><p>{} {}</p><pre>{}</pre>",
        method.to_uppercase(),
        escape(path),
        escape(text(described, "/summary")),
        escape(text(described, "/description")),
        escape(&curl(document, path, method, described)),
    );
    rows(html, described.pointer("/parameters"), "Parameters");
    let body = described.pointer("/requestBody/content/application~1json/schema");
    if let Some(schema) = body.map(|schema| resolve(document, schema)) {
        fields(html, document, schema, "Body");
    }
    let answer = described
        .pointer("/responses/200")
        .or_else(|| described.pointer("/responses/201"))
        .and_then(|answer| answer.pointer("/content/application~1json/schema"));
    if let Some(schema) = answer.map(|schema| resolve(document, schema)) {
        fields(html, document, schema, "Answer");
    }
    html.push_str("</section>");
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|name| document.pointer(name.trim_start_matches('#')))
        .unwrap_or(schema)
}

fn rows(html: &mut String, parameters: Option<&Value>, title: &str) {
    let Some(parameters) = parameters.and_then(Value::as_array) else {
        return;
    };
    let _ = write!(html, "<details><summary>{title}</summary><table>");
    for parameter in parameters {
        let _ = write!(
            html,
            "<tr><td><code>{}</code><td>{}<td>{}",
            escape(text(parameter, "/name")),
            escape(text(parameter, "/in")),
            escape(text(parameter, "/description"))
        );
    }
    html.push_str("</table></details>");
}

fn fields(html: &mut String, document: &Value, schema: &Value, title: &str) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let _ = write!(html, "<details><summary>{title}</summary><table>");
    for (name, property) in properties {
        let said = match text(property, "/description") {
            "" => text(resolve(document, property), "/description"),
            said => said,
        };
        let _ = write!(
            html,
            "<tr><td><code>{}</code><td>{}",
            escape(name),
            escape(said)
        );
    }
    html.push_str("</table></details>");
}

/// The command that does it. What has to be filled in stands in capitals.
fn curl(document: &Value, path: &str, method: &str, described: &Value) -> String {
    let mut place = String::new();
    for part in path.split_inclusive(['{', '}']) {
        match part.strip_suffix('}') {
            Some(name) => place.push_str(&name.to_uppercase()),
            None => place.push_str(part.trim_end_matches('{')),
        }
    }
    let mut command = "signet".to_owned();
    if method != "get" && method != "post" {
        let _ = write!(command, " -X {}", method.to_uppercase());
    }
    let parameters = described.get("parameters").and_then(Value::as_array);
    let parameters = || parameters.into_iter().flatten();
    let headers = parameters().filter(|it| text(it, "/in") == "header" && it["required"] == true);
    for header in headers {
        let _ = write!(command, " -H '{}: \"VERSION\"'", text(header, "/name"));
    }
    let body = described.pointer("/requestBody/content/application~1json/schema");
    match body.map(|schema| resolve(document, schema)) {
        Some(schema) => {
            let _ = write!(
                command,
                " -H 'Content-Type: application/json' -d '{}'",
                example(document, schema)
            );
        }
        None if method == "post" => command.push_str(" -X POST"),
        None => {}
    }
    let needed = parameters().filter(|it| text(it, "/in") == "query" && it["required"] == true);
    for (at, parameter) in needed.enumerate() {
        let name = text(parameter, "/name");
        let _ = write!(
            place,
            "{}{name}={}",
            if at == 0 { '?' } else { '&' },
            name.to_uppercase()
        );
    }
    let _ = write!(command, " \"$SIGNET{place}\"");
    command
}

/// A body with what has to be there.
fn example(document: &Value, schema: &Value) -> Value {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| {
        required.is_some_and(|required| required.iter().any(|it| it.as_str() == Some(name)))
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    let fields = properties
        .into_iter()
        .flatten()
        .filter(|(name, _)| is_required(name));
    let example = fields.map(|(name, property)| {
        let property = resolve(document, property);
        let one_of = property
            .pointer("/enum/0")
            .or_else(|| property.pointer("/oneOf/0/enum/0"));
        let value = match (one_of, text(property, "/type")) {
            (Some(first), _) => first.clone(),
            (None, "boolean") => false.into(),
            (None, "integer") => 1.into(),
            (None, "array") => Value::Array(Vec::new()),
            (None, "object") => example(document, property),
            (None, _) => name.to_uppercase().into(),
        };
        (name.clone(), value)
    });
    Value::Object(example.collect())
}
