//! A client of the REST API: one connection, answers within bounds, and repeats where repeating is safe.
//!
//! [`Call`] says what is asked, [`ApiClient::send`] asks it, [`Pages`] follows a list from page to page. Time and
//! randomness are the process's; nothing is kept on disk.

mod call;
mod connection;
mod error;
mod identity;
mod pages;
mod problem;

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, IF_MATCH, LOCATION, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use call::Call;
pub use error::{ApiError, ApiFailure};
pub use identity::ApiIdentity;
pub use pages::Pages;
pub use problem::Problem;

use crate::endpoint::Endpoint;
use crate::entropy;
use crate::error::ClientError;
use connection::Connection;

/// The largest answer that is read: a page of 500 certificates with their chains is some 3 MB.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How often one call is sent at most.
const MAX_ATTEMPTS: u32 = 4;
/// The longest that a server's `Retry-After` is waited for at a time.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The shortest, whatever the server says.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// Between attempts where the server says nothing about it.
const PAUSE: Duration = Duration::from_secs(1);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A client of one server's API.
pub struct ApiClient {
    endpoint: Endpoint,
    identity: ApiIdentity,
    deadline: Duration,
    connection: Mutex<Option<Connection>>,
}

/// What a server answered with success.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    address: String,
}

impl Answer {
    /// Whether it waits for a second person: the body is the proposal.
    #[must_use]
    pub fn is_proposal(&self) -> bool {
        self.status == StatusCode::ACCEPTED
    }

    /// The version of what was read, quotes included.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.header(&ETAG)
    }

    /// Where what was made is.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.header(&LOCATION)
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as JSON; an empty one is an empty object.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn json(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_slice(&self.body).map_err(|error| ApiError::Answer {
            address: self.address.clone(),
            reason: format!("no JSON ({error})"),
        })
    }

    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl ApiClient {
    /// A client that has `deadline` for each call, its repeats included. Nothing is sent yet.
    #[must_use]
    pub fn new(endpoint: Endpoint, identity: ApiIdentity, deadline: Duration) -> Self {
        Self {
            endpoint,
            identity,
            deadline,
            connection: Mutex::new(None),
        }
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &str {
        self.endpoint.address()
    }

    /// Whose word for the server is taken, and which server it is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a call and gives the answer of a success.
    ///
    /// What reads, and what is posted (under an `Idempotency-Key` that stays the same), is sent up to four times: when the server
    /// asks for patience (429, 503), and when an answer was lost; as often as there is time while the server says that the same request
    /// is under way (409 with `Retry-After`).
    ///
    /// # Errors
    /// When the server cannot be reached in time, or answers with a problem.
    pub async fn send(&self, call: &Call) -> Result<Answer, ApiError> {
        let began = Instant::now();
        let deadline = call.patience.unwrap_or(self.deadline).max(self.deadline);
        let key = idempotency_key(call)?;
        let mut attempt = 1;
        loop {
            let left = deadline.saturating_sub(began.elapsed());
            let sent = tokio::time::timeout(left, self.once(call, key.as_ref()));
            let error = match sent.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.connection.lock().await.take();
                    self.lost("none came in time")
                }
            };
            let left = deadline.saturating_sub(began.elapsed());
            let pause = patience(&error).filter(|pause| *pause < left);
            let has_turns = attempt < MAX_ATTEMPTS || is_under_way(&error);
            let Some(pause) = pause.filter(|_| call.is_repeatable() && has_turns) else {
                return Err(error);
            };
            tracing::info!(seconds = pause.as_secs(), %error, "waiting, then asking again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// The pages of a list, up to `limit` items in all.
    #[must_use]
    pub fn pages(&self, call: Call, limit: Option<usize>) -> Pages<'_> {
        Pages::new(self, call, limit)
    }

    async fn once(&self, call: &Call, key: Option<&HeaderValue>) -> Result<Answer, ApiError> {
        let mut place = self.connection.lock().await;
        let kept = match place.take() {
            Some(mut kept) => kept.is_usable().await.then_some(kept),
            None => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => Connection::open(&self.endpoint, self.identity.tls(&self.endpoint)?).await?,
        };
        let request = self.request(call, key)?;
        let response = match connection.send(request).await {
            Ok(response) => response,
            // The other side had closed it before it took anything.
            Err(error) if error.is_canceled() => {
                let tls = self.identity.tls(&self.endpoint)?;
                connection = Connection::open(&self.endpoint, tls).await?;
                let again = connection.send(self.request(call, key)?).await;
                again.map_err(|error| self.broken(&error))?
            }
            Err(error) => return Err(self.broken(&error)),
        };
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(ApiError::Answer {
                    address: self.address().to_owned(),
                    reason: format!("it has more than {MAX_ANSWER_BYTES} bytes"),
                });
            }
            Err(_) => return Err(self.lost("the connection was closed")),
        };
        *place = Some(connection);
        if head.status.is_success() {
            return Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
                address: self.address().to_owned(),
            });
        }
        let kind = head.headers.get(CONTENT_TYPE);
        let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if is_grpc || head.status == StatusCode::UNSUPPORTED_MEDIA_TYPE && body.is_empty() {
            return Err(ApiError::WrongServer {
                address: self.address().to_owned(),
                reason: "it speaks gRPC, as the `issue` listener does".to_owned(),
            });
        }
        let retry_after = head.headers.get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let problem = Problem::read(head.status, &body, retry_after);
        Err(ApiError::Problem(Box::new(problem)))
    }

    fn request(
        &self,
        call: &Call,
        key: Option<&HeaderValue>,
    ) -> Result<http::Request<Full<Bytes>>, ApiError> {
        let unfit = |what: &str| ApiError::Answer {
            address: self.address().to_owned(),
            reason: format!("{what} cannot be sent in a header"),
        };
        let body = call.body.as_ref().map(Value::to_string);
        let mut request = http::Request::new(Full::new(Bytes::from(body.unwrap_or_default())));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.target().parse().map_err(|_| unfit("the path"))?;
        let headers = request.headers_mut();
        let host = self.endpoint.authority();
        headers.insert(HOST, host.parse().map_err(|_| unfit("the server's name"))?);
        headers.insert(ACCEPT, HeaderValue::from_static(call.accept));
        let agent = concat!("signet-ca/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(etag) = &call.if_match {
            headers.insert(IF_MATCH, etag.parse().map_err(|_| unfit("the version"))?);
        }
        if let Some(key) = key {
            headers.insert(IDEMPOTENCY_KEY, key.clone());
        }
        if let Some(token) = self.identity.token()? {
            headers.insert(AUTHORIZATION, identity::bearer(&token)?);
        }
        Ok(request)
    }

    fn lost(&self, reason: &str) -> ApiError {
        ApiError::from(ClientError::Lost {
            address: self.address().to_owned(),
            reason: reason.to_owned(),
        })
    }

    /// For a connection that broke under a request.
    fn broken(&self, error: &hyper::Error) -> ApiError {
        if error.is_parse() || error.is_parse_status() {
            return ApiError::WrongServer {
                address: self.address().to_owned(),
                reason: "it does not speak HTTP".to_owned(),
            };
        }
        let error = ClientError::from_broken_call(self.address(), error);
        match (&self.identity, error) {
            // A server that wants a certificate says so after the handshake, and the word may be lost to a reset.
            (ApiIdentity::Anonymous, ClientError::Lost { address, .. }) => {
                ClientError::Closed { address }.into()
            }
            (_, error) => error.into(),
        }
    }
}

/// How long to wait before the same call is worth sending again.
fn patience(error: &ApiError) -> Option<Duration> {
    match error {
        ApiError::Problem(problem) => match (problem.status, problem.retry_after) {
            (409 | 429 | 503, Some(seconds)) => {
                Some(Duration::from_secs(seconds).clamp(SHORTEST_WAIT, LONGEST_WAIT))
            }
            (429 | 502 | 503 | 504, None) => Some(PAUSE.mul_f64(0.5 + entropy::jitter())),
            _ => None,
        },
        ApiError::Transport(error) if matches!(**error, ClientError::Lost { .. }) => {
            Some(PAUSE.mul_f64(0.5 + entropy::jitter()))
        }
        _ => None,
    }
}

/// Whether the server still carries out what was sent before: its answer is worth all the time there is.
fn is_under_way(error: &ApiError) -> bool {
    matches!(error, ApiError::Problem(problem) if problem.status == 409 && problem.retry_after.is_some())
}

fn idempotency_key(call: &Call) -> Result<Option<HeaderValue>, ApiError> {
    if !call.is_keyed {
        return Ok(None);
    }
    let key = pki::crypto::hex(&entropy::random::<16>()?);
    // Hexadecimal is a header's value.
    Ok(HeaderValue::from_str(&key).ok())
}
