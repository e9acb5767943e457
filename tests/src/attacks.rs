//! What hostile callers bring: requests and tokens made by hand, gRPC calls octet by octet, and the reading of a refusal.

use std::path::Path;
use std::process::Command;

use base64ct::{Base64UrlUnpadded, Encoding};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::Value;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::process::{Log, run};
use crate::tlv::{bits, integer, oid, sequence, tlv};

/// Istio's call.
pub const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";

/// DER of a P-256 request with this subject and these attributes, signed as it should be.
pub fn handmade_request(subject: &[u8], attributes: &[&[u8]]) -> Vec<u8> {
    let random = SystemRandom::new();
    let signing = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(signing, pkcs8.as_ref(), &random).unwrap();
    let algorithm = sequence(&[&oid("1.2.840.10045.2.1"), &oid("1.2.840.10045.3.1.7")]);
    let spki = sequence(&[&algorithm, &bits(pair.public_key().as_ref())]);
    let info = sequence(&[&integer(&[]), subject, &spki, &tlv(0xa0, attributes)]);
    let signature = pair.sign(&random, &info).unwrap();
    let algorithm = sequence(&[&oid(ECDSA_SHA256)]);
    sequence(&[&info, &algorithm, &bits(signature.as_ref())])
}

/// A request whose Ed25519 key is the neutral element, with a signature that ring and OpenSSL take for any message.
pub fn forged_ed25519_request() -> Vec<u8> {
    let mut one = [0; 32];
    one[0] = 1;
    let algorithm = sequence(&[&oid("1.3.101.112")]);
    let spki = sequence(&[&algorithm, &bits(&one)]);
    let info = sequence(&[&integer(&[]), &[0x30, 0], &spki, &[0xa0, 0]]);
    sequence(&[&info, &algorithm, &bits(&[one, [0; 32]].concat())])
}

/// PEM of a request by OpenSSL, of a new key that `genpkey` makes with these arguments.
pub fn openssl_request(folder: &Path, genpkey: &[&str]) -> String {
    let key = folder.join(format!("{}.key", genpkey.join("").replace(':', "-")));
    run(Command::new("openssl")
        .arg("genpkey")
        .args(genpkey)
        .arg("-out")
        .arg(&key));
    run(Command::new("openssl")
        .args(["req", "-new", "-batch", "-subj", "/", "-key"])
        .arg(&key))
}

/// A token of these parts; `sign` makes its signature.
pub fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let encode = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let input = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(input.as_bytes());
    format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
}

/// A field of a protobuf message with this number, length-delimited.
pub fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut octets = vec![number << 3 | 2];
    let mut left = content.len();
    while left >= 0x80 {
        octets.push(0x80 | u8::try_from(left & 0x7f).unwrap());
        left >>= 7;
    }
    octets.push(u8::try_from(left).unwrap());
    octets.extend(content);
    octets
}

/// A message in its gRPC frame.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// A unary gRPC call of these octets; gives the answer's body, its frame included.
///
/// # Errors
/// The status, whoever made it.
pub async fn call(
    channel: &mut Channel,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Bytes, Status> {
    let mut request = http::Request::post(path)
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = tonic::body::Body::new(Full::new(Bytes::from(body)));
    let request = request.body(body).unwrap();
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let response = channel
        .call(request)
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    refuse(response.headers())?;
    if response.status() != http::StatusCode::OK {
        return Err(Status::unknown(response.status().to_string()));
    }
    let collected = response.into_body().collect().await?;
    if let Some(trailers) = collected.trailers() {
        refuse(trailers)?;
    }
    Ok(collected.to_bytes())
}

fn refuse(headers: &http::HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

/// The refusals that a scenario has met: each has its code, its reason and a line in the log that carries its id.
#[derive(Default)]
pub struct Refusals(Vec<(String, String)>);

impl Refusals {
    /// Takes note of what came of `what`, which must be a refusal with this code and these words.
    pub fn expect<T>(&mut self, what: &str, came: Result<T, Status>, code: Code, words: &str) {
        let Err(status) = came else {
            panic!("{what}: went through")
        };
        let message = status.message();
        assert_eq!(status.code(), code, "{what}: {message}");
        assert!(
            message.contains(words),
            "{what}: {message:?}, not {words:?}"
        );
        let id = message
            .rsplit_once("(request ")
            .and_then(|(_, id)| id.strip_suffix(')'))
            .unwrap_or_else(|| panic!("{what}: no request id in {message:?}"));
        self.0.push((what.to_owned(), id.to_owned()));
    }

    /// Whether each has exactly one line in the log, a warning.
    pub fn check_log(&self, log: &Log) {
        for (what, id) in &self.0 {
            let line = log.wait_for(&[id.as_str()]);
            assert!(line.contains("WARN"), "{what}: {line}");
            assert!(line.contains("reason="), "{what}: {line}");
        }
        // Every line is there by now: lines come in the order of the calls, and the last one's has come.
        for (what, id) in &self.0 {
            assert_eq!(log.count(id), 1, "{what}: lines with its id");
        }
    }
}
