//! A stand-in for the `admin` listener: TLS with an optional client certificate, and answers that a test has laid ready. The
//! real API is met in the scenarios of package `tests`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    missing_docs,
    reason = "test code, of which each program uses its own part"
)]

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ca_client::{KeyKind, NewKey};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pki::extension::SubjectNames;
use pki::name::DnsName;
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::authority::Authority;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: http::HeaderMap,
    pub body: Value,
    pub has_certificate: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An answer that is laid ready.
#[derive(Clone, Debug)]
pub enum Reply {
    Json(u16, Value, Vec<(&'static str, String)>),
    Raw(u16, &'static str, Vec<u8>),
    /// The connection ends in place of an answer.
    HangUp,
}

impl Reply {
    pub fn ok(value: Value) -> Self {
        Self::Json(200, value, Vec::new())
    }

    pub fn created(value: Value) -> Self {
        Self::Json(201, value, Vec::new())
    }

    pub fn versioned(version: u32, value: Value) -> Self {
        Self::Json(200, value, vec![("etag", format!("\"{version}\""))])
    }

    pub fn problem(status: u16, reason: &str, detail: &str) -> Self {
        let body = json!({
            "type": "about:blank", "title": "t", "status": status, "detail": detail, "reason": reason, "request_id": "r-1",
        });
        Self::Json(status, body, Vec::new())
    }

    pub fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Json(status, body, mut headers) => {
                headers.push((name, value.to_owned()));
                Self::Json(status, body, headers)
            }
            other => other,
        }
    }
}

#[derive(Default)]
struct Script {
    /// By method and target; the last of several stays.
    replies: HashMap<String, VecDeque<Reply>>,
    seen: Vec<Seen>,
}

/// A running stand-in, and a home for `ca`. It ends when dropped.
pub struct Api {
    pub address: String,
    pub home: tempfile::TempDir,
    pub authority: Authority,
    script: Arc<Mutex<Script>>,
    _tasks: JoinSet<()>,
}

impl Api {
    pub async fn start(now: Timestamp) -> Self {
        ca_client::install_crypto_provider();
        let authority = Authority::new(now.minus(Ttl::days(30)));
        let script = Arc::new(Mutex::new(Script::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls(&authority, now)));
        let mut tasks = JoinSet::new();
        let of_tasks = script.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, script) = (tls.clone(), of_tasks.clone());
                connections.spawn(async move {
                    let Ok(stream) = tls.accept(tcp).await else {
                        return;
                    };
                    let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                    let service =
                        service_fn(move |request| answer(request, script.clone(), has_certificate));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let home = tempfile::tempdir().unwrap();
        let api = Self {
            address,
            home,
            authority,
            script,
            _tasks: tasks,
        };
        std::fs::write(api.path("roots.pem"), api.authority.root.to_pem()).unwrap();
        api.put_administrator(now);
        api
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Lays an answer ready. Several for one target are given one after the other, and the last stays.
    pub fn reply(&self, what: &str, reply: Reply) -> &Self {
        let mut script = self.script.lock().unwrap();
        script
            .replies
            .entry(what.to_owned())
            .or_default()
            .push_back(reply);
        drop(script);
        self
    }

    /// Takes every answer away again.
    pub fn forget(&self) {
        self.script.lock().unwrap().replies.clear();
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    /// What came with this method, the newest last.
    pub fn seen_by(&self, method: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.method == method);
        seen
    }

    /// A client certificate that the stand-in takes, whose name is nobody's.
    fn put_administrator(&self, now: Timestamp) {
        let names = SubjectNames {
            dns: vec![DnsName::parse("ada.example").unwrap()],
            ..SubjectNames::default()
        };
        let key = NewKey::generate(KeyKind::P256, &names).unwrap();
        let leaf = self
            .authority
            .leaf(key.csr(), Profile::CLIENT, Ttl::hours(1), now);
        let chain = format!("{}{}", leaf.to_pem(), self.authority.intermediate.to_pem());
        std::fs::write(self.path("ada.pem"), chain).unwrap();
        std::fs::write(self.path("ada.key"), key.key_pem().as_bytes()).unwrap();
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    script: Arc<Mutex<Script>>,
    has_certificate: bool,
) -> Result<http::Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let target = head
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let seen = Seen {
        method: head.method.to_string(),
        target: target.to_owned(),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        has_certificate,
    };
    let path = target.split('?').next().unwrap_or_default();
    let keys = [
        format!("{} {target}", seen.method),
        format!("{} {path}", seen.method),
    ];
    let mut script = script.lock().unwrap();
    script.seen.push(seen);
    let queue = keys.iter().find_map(|key| {
        let queue = script.replies.get(key)?;
        (!queue.is_empty()).then(|| key.clone())
    });
    let reply = match queue.and_then(|key| script.replies.get_mut(&key)) {
        Some(queue) if queue.len() > 1 => queue.pop_front().unwrap(),
        Some(queue) => queue.front().unwrap().clone(),
        None => Reply::problem(404, "no-resource", "there is no such resource"),
    };
    drop(script);
    let builder = http::Response::builder();
    Ok(match reply {
        Reply::Json(status, value, headers) => {
            let kind = if status < 400 {
                "application/json"
            } else {
                "application/problem+json"
            };
            let mut builder = builder.status(status).header("content-type", kind);
            for (name, value) in headers {
                builder = builder.header(name, value);
            }
            builder.body(Full::new(Bytes::from(value.to_string())))?
        }
        Reply::Raw(status, kind, body) => builder
            .status(status)
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))?,
        Reply::HangUp => return Err("hang up".into()),
    })
}

fn tls(authority: &Authority, now: Timestamp) -> ServerConfig {
    let names = SubjectNames {
        dns: vec![DnsName::parse("localhost").unwrap()],
        ..SubjectNames::default()
    };
    let key = NewKey::generate(KeyKind::P256, &names).unwrap();
    let leaf = authority.leaf(key.csr(), Profile::SERVING, Ttl::hours(1), now);
    let chain =
        [&leaf, &authority.intermediate].map(|one| CertificateDer::from(one.der().to_vec()));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(authority.root.der().to_vec()))
        .unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(roots))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.key_pem().as_bytes()).unwrap();
    ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.to_vec(), key)
        .unwrap()
}
