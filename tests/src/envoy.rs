//! Real Envoys that get their certificates from agents over SDS: a server that asks for a client's certificate, and a
//! client that a plain HTTP request goes in at.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64ct::{Base64, Encoding};
use pki::certificate::Certificate;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, get};
use crate::istio::{Identity, wait_until};
use crate::process::{Log, Process};

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

/// A running Envoy; dropping it kills it.
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    listener: SocketAddr,
    _directory: TempDir,
}

impl Envoy {
    /// An Envoy that answers `hello` to whoever proves to be `peer`, with the certificate that the agent at `sds` has.
    pub fn server(program: &Path, sds: &Path, peer: &str) -> Self {
        let tls = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": tls_context(peer),
                "require_client_certificate": true,
                "disable_stateless_session_resumption": true,
            },
        });
        let route = json!({
            "match": { "prefix": "/" },
            "direct_response": { "status": 200, "body": { "inline_string": "hello" } },
        });
        let headers = [
            ("x-client-id", "%DOWNSTREAM_PEER_URI_SAN%"),
            ("x-client-issuer", "%DOWNSTREAM_PEER_ISSUER%"),
        ];
        let listener = listener(&json!([route]), &headers, Some(&tls));
        Self::start(program, &[listener], &[sds_cluster(sds)])
    }

    /// An Envoy that sends what it is asked to `server`, which has to prove to be `peer`; each request is a connection
    /// and a handshake of its own.
    pub fn client(program: &Path, sds: &Path, server: SocketAddr, peer: &str) -> Self {
        let mut tls = tls_context(peer);
        tls["alpn_protocols"] = json!(["http/1.1"]);
        let upstream = json!({
            "name": "upstream",
            "connect_timeout": "5s",
            "load_assignment": endpoint("upstream", &socket_address(server)),
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext"),
                    "common_tls_context": tls,
                    // No resumption: every connection verifies both certificates.
                    "max_session_keys": 0,
                },
            },
            "typed_extension_protocol_options": http_options(&json!({
                "common_http_protocol_options": { "max_requests_per_connection": 1 },
                "explicit_http_config": { "http_protocol_options": {} },
            })),
        });
        let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } });
        let headers = [("x-server-issuer", "%UPSTREAM_PEER_ISSUER%")];
        let listener = listener(&json!([route]), &headers, None);
        Self::start(program, &[listener], &[upstream, sds_cluster(sds)])
    }

    fn start(program: &Path, listeners: &[Value], clusters: &[Value]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("e")
            .tempdir_in("/tmp")
            .unwrap();
        let config = json!({
            "node": { "id": "tests", "cluster": "tests" },
            "admin": { "address": socket_address(SocketAddr::from(([127, 0, 0, 1], 0))) },
            "static_resources": { "listeners": listeners, "clusters": clusters },
        });
        let file = directory.path().join("envoy.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let admin = directory.path().join("admin");
        let mut command = Command::new(program);
        command
            .args([
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "-l",
                "warning",
                "-c",
            ])
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin);
        let mut process = Process::start(&mut command);
        let said = process.log().clone();
        let admin = wait_until("Envoy's admin address", || {
            assert!(process.is_running(), "{}", said.lines().join("\n"));
            let text = std::fs::read_to_string(&admin).ok()?;
            text.trim().parse().ok()
        });
        // It listens as soon as its first certificates are there.
        let listener = wait_until("Envoy's listener", || {
            let page = get(admin, "/listeners?format=json").ok()?;
            let page: Value = serde_json::from_slice(&page.body).ok()?;
            let at = &page["listener_statuses"][0]["local_address"]["socket_address"];
            let port = at["port_value"].as_u64().filter(|port| *port != 0)?;
            Some(SocketAddr::from((
                [127, 0, 0, 1],
                u16::try_from(port).ok()?,
            )))
        });
        Self {
            process,
            admin,
            listener,
            _directory: directory,
        }
    }

    /// Where it listens.
    pub fn listener(&self) -> SocketAddr {
        self.listener
    }

    /// What it has said.
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// Requests `/` from its plain listener.
    pub fn request(&self) -> std::io::Result<Answer> {
        get(self.listener, "/")
    }

    /// The sum of the counters and gauges whose names end so.
    pub fn stat(&self, ending: &str) -> u64 {
        let page = get(self.admin, "/stats").unwrap();
        page.text()
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.ends_with(ending))
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum()
    }

    /// What it holds as `default` and `ROOTCA`, once both are there.
    pub fn identity(&self) -> Identity {
        wait_until("Envoy's secrets", || self.read())
    }

    /// Waits for a certificate other than this one.
    pub fn identity_after(&self, before: &Identity) -> Identity {
        wait_until("Envoy's next certificate", || {
            self.read().filter(|next| next.leaf() != before.leaf())
        })
    }

    fn read(&self) -> Option<Identity> {
        let page = get(self.admin, "/config_dump?mask=dynamic_active_secrets").ok()?;
        let dump: Value = serde_json::from_slice(&page.body).ok()?;
        let secrets = dump["configs"].as_array()?.iter();
        let secrets: Vec<_> = secrets
            .filter_map(|config| config["dynamic_active_secrets"].as_array())
            .flatten()
            .collect();
        let certificates = |name: &str, pointer: &str| {
            let secret = secrets.iter().find(|secret| secret["name"] == name)?;
            let bytes = secret["secret"].pointer(pointer)?.as_str()?;
            Certificate::parse_pem(&Base64::decode_vec(bytes).ok()?).ok()
        };
        Some(Identity {
            chain: certificates("default", "/tls_certificate/certificate_chain/inline_bytes")?,
            roots: certificates("ROOTCA", "/validation_context/trusted_ca/inline_bytes")?,
        })
    }
}

/// Certificate and roots from the agent, and the one peer that is accepted.
fn tls_context(peer: &str) -> Value {
    let secret = |name: &str| {
        json!({
            "name": name,
            "sds_config": {
                "resource_api_version": "V3",
                "initial_fetch_timeout": "30s",
                "api_config_source": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{ "envoy_grpc": { "cluster_name": "agent" } }],
                },
            },
        })
    };
    json!({
        "tls_certificate_sds_secret_configs": [secret("default")],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": peer } }],
            },
            "validation_context_sds_secret_config": secret("ROOTCA"),
        },
    })
}

fn listener(routes: &Value, headers: &[(&str, &str)], tls: Option<&Value>) -> Value {
    let headers: Vec<_> = headers
        .iter()
        .map(|(key, value)| json!({ "header": { "key": key, "value": value } }))
        .collect();
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "http",
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router") },
            }],
            "route_config": { "virtual_hosts": [{
                "name": "all", "domains": ["*"], "routes": routes, "response_headers_to_add": headers,
            }] },
        },
    }] });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls.clone();
    }
    json!({
        "name": "listener",
        "address": socket_address(SocketAddr::from(([127, 0, 0, 1], 0))),
        "filter_chains": [chain],
    })
}

fn sds_cluster(socket: &Path) -> Value {
    json!({
        "name": "agent",
        "connect_timeout": "5s",
        "load_assignment": endpoint("agent", &json!({ "pipe": { "path": socket } })),
        "typed_extension_protocol_options": http_options(&json!({
            "explicit_http_config": { "http2_protocol_options": {} },
        })),
    })
}

fn endpoint(cluster: &str, address: &Value) -> Value {
    json!({
        "cluster_name": cluster,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
    })
}

fn http_options(options: &Value) -> Value {
    const NAME: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let mut options = options.clone();
    options["@type"] = json!(format!("type.googleapis.com/{NAME}"));
    json!({ NAME: options })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

/// The installed Envoy; where it is missing, `test` is reported as skipped.
pub fn envoy_or_skip(test: &str) -> Option<PathBuf> {
    crate::parts::part_or_skip(test, "SIGNET_ENVOY")
}
