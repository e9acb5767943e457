//! Floods of HTTP/2 frames at the issue listener: each ends its connection, costs no memory that stays, and keeps nobody else
//! from being served.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tests::fleet::{Fleet, Server};
use tests::process::resident_bytes;
use tests::requests::{KeyAndRequest, create_certificate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

const ME: &str = "spiffe://cluster.local/ns/foo/sa/bar";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A flood that gets so far is not ended at all.
const ENOUGH: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `POST https:/`, by the static table of HPACK.
const POST: &[u8] = &[0x83, 0x87, 0x84];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header by HPACK, in no table.
fn header(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let mut field = vec![0, length(name)];
    field.extend(name.as_bytes());
    field.push(length(value));
    field.extend(value.as_bytes());
    field
}

/// What comes first, and the `n`th thing after it.
type Flood = (&'static str, Vec<u8>, fn(u32) -> Vec<u8>);

fn floods() -> Vec<Flood> {
    let open = |payload: &[u8]| frame(HEADERS, 0, 1, payload);
    vec![
        ("rapid reset", vec![], |n| {
            let begin = frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, POST);
            [begin, frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()
        }),
        ("SETTINGS", vec![], |_| {
            frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])
        }),
        ("acknowledged SETTINGS", vec![], |_| {
            frame(SETTINGS, ACK, 0, &[])
        }),
        ("PING", vec![], |_| frame(PING, 0, 0, &[7; 8])),
        ("acknowledged PING", vec![], |_| {
            frame(PING, ACK, 0, &[7; 8])
        }),
        ("CONTINUATION", open(POST), |_| {
            frame(CONTINUATION, 0, 1, &header("x-flood", "yes"))
        }),
        ("empty CONTINUATION", open(POST), |_| {
            frame(CONTINUATION, 0, 1, &[])
        }),
        ("headers", vec![], |n| {
            let many = [POST, &header("x-flood", &"y".repeat(100)).repeat(120)].concat();
            frame(HEADERS, END_HEADERS, 2 * n + 1, &many)
        }),
        ("empty DATA", frame(HEADERS, END_HEADERS, 1, POST), |_| {
            frame(DATA, 0, 1, &[])
        }),
        ("PRIORITY", vec![], |n| {
            frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 16])
        }),
        (
            "WINDOW_UPDATE",
            frame(HEADERS, END_HEADERS, 1, POST),
            |_| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        ),
        ("unknown frames", vec![], |_| frame(0xbb, 0, 0, &[0; 64])),
    ]
}

/// Pours it over a connection of its own, reading all that comes back; tells how many octets went out before the server ended it,
/// `None` when it did not.
async fn pour(fleet: &Fleet, server: &Server, flood: Flood) -> Option<usize> {
    let (_, first, next) = flood;
    let mut roots = RootCertStore::empty();
    let root = fleet.root.certificate().der().to_vec();
    roots.add(CertificateDer::from(root)).unwrap();
    let mut tls = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(server.issue).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream);
    let (mut reader, mut writer) = tokio::io::split(stream.await.unwrap());
    let reading = async {
        let mut sink = vec![0; 1 << 16];
        while reader.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    };
    let mut sent = 0;
    let writing = async {
        let mut batch = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &first].concat();
        let mut n = 0;
        while sent < ENOUGH {
            while batch.len() < 1 << 14 {
                batch.extend(next(n));
                n += 1;
            }
            if writer.write_all(&batch).await.is_err() {
                return true;
            }
            sent += batch.len();
            batch.clear();
        }
        false
    };
    let ended = tokio::select! {
        () = reading => true,
        ended = writing => ended,
    };
    ended.then_some(sent)
}

async fn is_served(fleet: &Fleet, server: &Server) {
    let request = KeyAndRequest::for_uris(&[ME]);
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let mut istio = server.istio().await;
    let answer = create_certificate(&mut istio, &token, "central", &request.pem(), 3600).await;
    answer.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_ends_its_own_connection_and_nothing_else() {
    tests::install_crypto_provider();
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut server = fleet.serve();
    let pid = server.process().id();
    is_served(&fleet, &server).await;
    let before = resident_bytes(pid);
    let lines = server.log().lines().len();
    let mut endless = Vec::new();
    for flood in floods() {
        let name = flood.0;
        let pouring = pour(&fleet, &server, flood);
        let serving = async {
            for _ in 0..3 {
                is_served(&fleet, &server).await;
            }
        };
        let both = async { tokio::join!(pouring, serving).0 };
        let ended = tokio::time::timeout(PATIENCE, both).await;
        let Ok(Some(sent)) = ended else {
            endless.push(name);
            continue;
        };
        let grown = resident_bytes(pid).saturating_sub(before);
        eprintln!("{name}: ended after {sent} octets, {grown} octets of memory more");
        assert!(grown < 32 << 20, "{name}: {grown} octets more");
    }
    assert!(endless.is_empty(), "not ended: {endless:?}");
    // Nor is the log flooded: what there is to say of an octet more or less is no operator's business.
    let said = server.log().lines().len() - lines;
    assert!(said < 500, "{said} lines");
}
