//! Keys that are fetched, from a little TLS server of this process: what it is asked, how often, and what becomes of its
//! odd answers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use pki::time::{Timestamp, Ttl};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::hostile_tests::{ISSUER, claims, settings};
use super::{OidcError, OidcIssuers};
use crate::authn::token::TokenReason;
use crate::authn::token::testing::{Forge, NOW, ec_header, now};
use crate::config::OidcKeys;

/// What the server does with a question.
#[derive(Clone)]
enum Answer {
    /// These bytes, and the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, ever.
    Silence,
    /// Spaces without end.
    Flood,
}

struct Idp {
    folder: TempDir,
    port: u16,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

fn answer(status: &str, head: &str, body: &str) -> Answer {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{head}\r\n{body}");
    Answer::Bytes(text.into_bytes())
}

fn keys(forge: &Forge) -> Answer {
    answer("200 OK", "", &forge.jwks().to_string())
}

impl Idp {
    async fn start(first: Answer) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let (answer, requests) = (Arc::new(Mutex::new(first)), Arc::<Mutex<Vec<_>>>::default());
        let mut serving = JoinSet::new();
        let (count, say, heard) = (asked.clone(), answer.clone(), requests.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, say, count) = (acceptor.clone(), say.clone(), count.clone());
                let heard = heard.clone();
                connections.spawn(async move {
                    // A client that does not believe us goes.
                    let Ok(mut tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let mut head = vec![0; 4_096];
                    let read = tls.read(&mut head).await.unwrap_or(0);
                    count.fetch_add(1, Ordering::SeqCst);
                    let text = String::from_utf8_lossy(&head[..read]).into_owned();
                    heard.lock().unwrap().push(text);
                    let answer = say.lock().unwrap().clone();
                    match answer {
                        Answer::Bytes(bytes) => {
                            let _ = tls.write_all(&bytes).await;
                            let _ = tls.shutdown().await;
                        }
                        Answer::Silence => std::future::pending().await,
                        Answer::Flood => {
                            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                            while tls.write_all(&[b' '; 16 * 1024]).await.is_ok() {}
                        }
                    }
                });
            }
        });
        Self {
            folder,
            port,
            asked,
            answer,
            requests,
            _serving: serving,
        }
    }

    fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn issuers(&self) -> OidcIssuers {
        self.issuers_at(
            &format!("https://localhost:{}/keys?v=1", self.port),
            self.ca_file(),
        )
    }

    fn issuers_at(&self, url: &str, ca_file: PathBuf) -> OidcIssuers {
        let keys = OidcKeys::Url {
            url: url.parse().unwrap(),
            ca_file: Some(ca_file),
        };
        OidcIssuers::new(&[settings(ISSUER, keys)]).unwrap()
    }
}

fn after(ttl: Ttl) -> Timestamp {
    now().plus(ttl)
}

/// A token that is good for some hours from `at`.
fn token_at(forge: &Forge, at: Timestamp) -> String {
    let mut claims = claims();
    for (claim, seconds) in [("iat", -10), ("nbf", -10), ("exp", 3_600)] {
        claims[claim] = (at.unix() + seconds).into();
    }
    forge.with_payload(&claims.to_string())
}

async fn reason(issuers: &OidcIssuers, token: &str, at: Timestamp) -> Option<TokenReason> {
    match issuers.authenticate(token, at).await {
        Ok(_) => None,
        Err(OidcError::Refused(error)) => Some(error.reason()),
        Err(error) => panic!("{error}"),
    }
}

async fn trouble(issuers: &OidcIssuers, token: &str, at: Timestamp) -> String {
    match issuers.authenticate(token, at).await {
        Err(OidcError::NoKeys(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_are_asked_for_once_and_by_nothing_but_a_token_of_the_issuer() {
    let forge = Forge::new();
    let idp = Idp::start(keys(&forge)).await;
    let issuers = idp.issuers();
    let stranger = forge.with_payload(&claims().to_string().replace(ISSUER, "https://evil"));
    for bad in ["garbage", stranger.as_str()] {
        assert!(reason(&issuers, bad, now()).await.is_some());
    }
    assert_eq!(idp.asked(), 0);
    let token = token_at(&forge, now());
    for _ in 0..3 {
        assert_eq!(reason(&issuers, &token, now()).await, None);
    }
    assert_eq!(idp.asked(), 1);
    let request = idp.requests.lock().unwrap()[0].to_lowercase();
    assert!(
        request.starts_with("get /keys?v=1 http/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains(&format!("host: localhost:{}\r\n", idp.port)));
    for word in ["authorization", "cookie", "accept-encoding"] {
        assert!(!request.contains(word), "{request}");
    }
}

#[tokio::test]
async fn a_storm_of_unknown_key_ids_is_one_question_a_minute() {
    let (forge, next) = (Forge::new(), Forge::new());
    let idp = Idp::start(keys(&forge)).await;
    let issuers = Arc::new(idp.issuers());
    assert_eq!(
        reason(&issuers, &token_at(&forge, now()), now()).await,
        None
    );
    let unknown = |n: usize| {
        let header = json!({"alg": "ES256", "kid": format!("made-up-{n}")}).to_string();
        forge.ec_token(header.as_bytes(), claims().to_string().as_bytes())
    };
    let storm = async |at: Timestamp| {
        let mut all = JoinSet::new();
        for n in 0..1_000 {
            let (issuers, token) = (issuers.clone(), unknown(n));
            all.spawn(async move { reason(&issuers, &token, at).await });
        }
        while let Some(refused) = all.join_next().await {
            assert_eq!(refused.unwrap(), Some(TokenReason::UnknownKey));
        }
    };
    storm(now()).await;
    assert_eq!(idp.asked(), 1, "the minute is not over");
    storm(after(Ttl::minutes(1))).await;
    assert_eq!(idp.asked(), 2);

    // A key that was added meanwhile is found by its id, when the minute is over.
    let jwk = |forge: &Forge| {
        let mut jwk = forge.ec_jwk();
        jwk["kid"] = json!("next");
        json!({"keys": [jwk]}).to_string()
    };
    idp.say(answer("200 OK", "", &jwk(&next)));
    let header = json!({"alg": "ES256", "kid": "next"}).to_string();
    let by_next = next.ec_token(header.as_bytes(), claims().to_string().as_bytes());
    let soon = after(Ttl::from_seconds(119).unwrap());
    assert_eq!(
        reason(&issuers, &by_next, soon).await,
        Some(TokenReason::UnknownKey)
    );
    assert_eq!(
        reason(&issuers, &by_next, after(Ttl::minutes(2))).await,
        None
    );
    assert_eq!(idp.asked(), 3);
    // And what was taken out of the set proves nobody any more.
    let by_first = token_at(&forge, now());
    let refused = reason(&issuers, &by_first, after(Ttl::minutes(2))).await;
    assert_eq!(refused, Some(TokenReason::UnknownKey));
}

#[tokio::test]
async fn a_key_that_was_taken_out_is_refused_within_the_time_that_keys_stay_fresh() {
    let (forge, next) = (Forge::new(), Forge::new());
    let idp = Idp::start(keys(&forge)).await;
    let issuers = idp.issuers();
    let token = token_at(&forge, now());
    assert_eq!(reason(&issuers, &token, now()).await, None);
    idp.say(answer(
        "200 OK",
        "",
        &json!({"keys": [next.rsa_jwk()]}).to_string(),
    ));
    let nine = after(Ttl::minutes(9));
    assert_eq!(reason(&issuers, &token, nine).await, None);
    assert_eq!(idp.asked(), 1);
    let ten = after(Ttl::minutes(10));
    assert_eq!(
        reason(&issuers, &token, ten).await,
        Some(TokenReason::UnknownKey)
    );
    assert_eq!(idp.asked(), 2);
}

#[tokio::test]
async fn known_keys_are_kept_for_a_day_while_the_issuer_is_away() {
    let forge = Forge::new();
    let idp = Idp::start(keys(&forge)).await;
    let issuers = idp.issuers();
    let ask = async |at: Timestamp| reason(&issuers, &token_at(&forge, at), at).await;
    assert_eq!(ask(now()).await, None);
    idp.say(answer("503 Service Unavailable", "", ""));
    assert_eq!(ask(after(Ttl::hours(1))).await, None);
    assert_eq!(idp.asked(), 2);
    // Once a minute, however many come.
    assert_eq!(ask(after(Ttl::hours(1))).await, None);
    assert_eq!(idp.asked(), 2);
    let last = Timestamp::from_unix(NOW + 86_399);
    assert_eq!(ask(last).await, None);
    let day = after(Ttl::hours(24));
    let why = trouble(&issuers, &token_at(&forge, day), day).await;
    assert!(why.contains("503"), "{why}");
    idp.say(keys(&forge));
    let later = after(Ttl::hours(25));
    assert_eq!(ask(later).await, None);
}

#[tokio::test]
async fn odd_answers_are_no_keys_and_lead_nowhere_else() {
    let forge = Forge::new();
    let elsewhere = Idp::start(keys(&forge)).await;
    let idp = Idp::start(keys(&forge)).await;
    let body = forge.jwks().to_string();
    let to = format!("location: https://localhost:{}/keys\r\n", elsewhere.port);
    let large = format!("{body}{}", " ".repeat(64 * 1024));
    let many = "x: y\r\n".repeat(200);
    let mut wrong = Vec::new();
    for (odd, why) in [
        (answer("302 Found", &to, &body), "302"),
        (answer("307 Temporary Redirect", &to, &body), "307"),
        (answer("204 No Content", "", ""), "204"),
        (
            answer("200 OK", "content-encoding: gzip\r\n", &body),
            "compressed",
        ),
        (answer("200 OK", "", &large), "limit"),
        (answer("200 OK", &many, &body), "head is too large"),
        (
            answer(
                "200 OK",
                &format!("x: {}\r\n", "y".repeat(64 * 1024)),
                &body,
            ),
            "large",
        ),
        (answer("200 OK", "", "<html>"), "no key set"),
        (answer("200 OK", "", r#"{"keys":[]}"#), "no usable key"),
        (
            answer(
                "200 OK",
                "",
                &json!({"keys": [{"kty": "oct", "k": "AAAA"}]}).to_string(),
            ),
            "private",
        ),
        (
            answer("200 OK", "content-length: 7\r\n", &body),
            "content-length",
        ),
        (
            Answer::Bytes(
                format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{body}").into_bytes(),
            ),
            "does not read",
        ),
        (Answer::Bytes(b"SSH-2.0-x\r\n".to_vec()), "exchange"),
        (Answer::Bytes(Vec::new()), "exchange"),
        (Answer::Flood, "limit"),
    ] {
        idp.say(odd);
        let said = trouble(&idp.issuers(), &token_at(&forge, now()), now()).await;
        if !said.contains(why) {
            wrong.push(format!("expected {why:?} in {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(elsewhere.asked(), 0);
    // Without a length, up to the connection's end, as some proxies answer.
    idp.say(Answer::Bytes(
        format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes(),
    ));
    assert_eq!(
        reason(&idp.issuers(), &token_at(&forge, now()), now()).await,
        None
    );
}

#[tokio::test]
async fn an_issuer_that_never_answers_costs_five_seconds_once_a_minute() {
    let forge = Forge::new();
    let idp = Idp::start(Answer::Silence).await;
    let issuers = idp.issuers();
    let began = Instant::now();
    let why = trouble(&issuers, &token_at(&forge, now()), now()).await;
    assert!(why.contains("no answer in 5 s"), "{why}");
    assert!(began.elapsed().as_secs() < 10);
    let began = Instant::now();
    trouble(&issuers, &token_at(&forge, now()), now()).await;
    assert!(
        began.elapsed().as_millis() < 1_000,
        "not asked again at once"
    );
    assert_eq!(idp.asked(), 1);
}

#[tokio::test]
async fn a_server_that_cannot_show_who_it_is_is_not_asked() {
    let forge = Forge::new();
    let idp = Idp::start(keys(&forge)).await;
    let other = Idp::start(keys(&forge)).await;
    let url = format!("https://localhost:{}/keys", idp.port);
    let by_address = format!("https://127.0.0.1:{}/keys", idp.port);
    for (url, ca_file) in [(url, other.ca_file()), (by_address, idp.ca_file())] {
        let issuers = idp.issuers_at(&url, ca_file);
        let why = trouble(&issuers, &token_at(&forge, now()), now()).await;
        assert!(why.contains("certificate"), "{why}");
    }
    // Bound and not listening: nobody else can take the port, and connections are refused.
    let port = tokio::net::TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = format!("https://{}/keys", port.local_addr().unwrap());
    let issuers = idp.issuers_at(&nobody, idp.ca_file());
    trouble(&issuers, &token_at(&forge, now()), now()).await;
    assert_eq!(idp.asked(), 0);
}

#[tokio::test]
async fn a_tokens_own_addresses_are_never_asked() {
    let forge = Forge::new();
    let idp = Idp::start(keys(&forge)).await;
    let trap = Idp::start(keys(&forge)).await;
    let issuers = idp.issuers();
    let url = format!("https://localhost:{}/keys", trap.port);
    for member in ["jku", "x5u", "kid"] {
        let mut header: serde_json::Value = serde_json::from_slice(&ec_header()).unwrap();
        header[member] = json!(url);
        let token = forge.ec_token(
            header.to_string().as_bytes(),
            claims().to_string().as_bytes(),
        );
        let _ = issuers.authenticate(&token, after(Ttl::minutes(1))).await;
    }
    assert_eq!((trap.asked(), idp.asked()), (0, 1));
}
