//! Callers of the administration API: real TLS, one request on one connection, everything seen as it came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::fleet::Fleet;
use crate::http::{Answer, parse};
use crate::process::run;
use crate::requests::KeyAndRequest;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Somebody who calls the API.
#[derive(Clone)]
pub struct Admin {
    tls: Arc<ClientConfig>,
    bearer: Option<String>,
}

impl Admin {
    /// Somebody with an administrator's certificate, and a role where one is given: in these clusters, or everywhere.
    pub fn new(fleet: &Fleet, name: &str, role: Option<&str>, clusters: &[&str]) -> Self {
        let (chain, key) = issue(fleet, name, role, clusters, &[]);
        Self::with(fleet, &chain, &key)
    }

    /// Somebody without any credential.
    pub fn anonymous(fleet: &Fleet) -> Self {
        Self::of(fleet, None)
    }

    /// Somebody with a bearer token.
    pub fn bearing(fleet: &Fleet, token: &str) -> Self {
        Self {
            bearer: Some(token.to_owned()),
            ..Self::of(fleet, None)
        }
    }

    /// Somebody with this certificate (PEM, leaf first) and key.
    pub fn with(fleet: &Fleet, chain: &str, key: &str) -> Self {
        Self::of(fleet, Some((chain, key)))
    }

    fn of(fleet: &Fleet, client: Option<(&str, &str)>) -> Self {
        Self {
            tls: Arc::new(tls(fleet, client)),
            bearer: None,
        }
    }

    /// A GET.
    pub fn get(&self, server: SocketAddr, path: &str) -> Answer {
        self.call(server, "GET", path, &[], None)
    }

    /// A POST of JSON.
    pub fn post(&self, server: SocketAddr, path: &str, body: &Value) -> Answer {
        self.call(server, "POST", path, &[], Some(body))
    }

    /// Any request. One with a body is JSON.
    pub fn call(
        &self,
        server: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(token) = &self.bearer {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        if !body.is_empty() {
            head.push_str("content-type: application/json\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let bytes = self.exchange(server, &[head.as_bytes(), &body].concat());
        parse(&bytes).unwrap_or_else(|| {
            panic!(
                "{method} {path}: no answer: {:?}",
                String::from_utf8_lossy(&bytes)
            )
        })
    }

    /// What comes for these bytes until the server closes.
    pub fn exchange(&self, server: SocketAddr, request: &[u8]) -> Vec<u8> {
        let tcp = TcpStream::connect(server).unwrap();
        tcp.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(self.tls.clone(), name).unwrap();
        let mut stream = StreamOwned::new(tls, tcp);
        stream.write_all(request).unwrap();
        let mut bytes = Vec::new();
        // Some close without a close_notify; what had come by then counts.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    }
}

/// TLS of a client that believes in the fleet's root; with a certificate (chain and key, PEM) where one is given.
pub fn tls(fleet: &Fleet, client: Option<(&str, &str)>) -> ClientConfig {
    crate::install_crypto_provider();
    let mut roots = RootCertStore::empty();
    let root = fleet.root.certificate().der().to_vec();
    roots.add(CertificateDer::from(root)).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
                .map(Result::unwrap)
                .collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

/// Has `ca-server admin issue` make a certificate; gives chain and key as PEM.
pub fn issue(
    fleet: &Fleet,
    name: &str,
    role: Option<&str>,
    clusters: &[&str],
    more: &[&str],
) -> (String, String) {
    let request = KeyAndRequest::for_uris(&[]);
    let (csr, out) = (fleet.path("admin.csr"), fleet.path("admin.crt"));
    std::fs::write(&csr, request.pem()).unwrap();
    let _ = std::fs::remove_file(&out);
    let mut command = fleet.ca_server(&["admin", "issue", "--name", name]);
    command.arg("--csr").arg(&csr).arg("--out").arg(&out);
    if let Some(role) = role {
        command.args(["--role", role]);
    }
    for cluster in clusters {
        command.args(["--cluster", cluster]);
    }
    run(command.args(more));
    let chain = std::fs::read_to_string(&out).unwrap();
    (chain, request.key.serialize_pem())
}

impl Answer {
    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The `reason` of a problem document; empty where it is none.
    pub fn reason(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["reason"].as_str().unwrap_or_default().to_owned()
    }
}
