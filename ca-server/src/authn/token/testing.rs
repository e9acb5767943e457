//! An issuer of tokens for this module's tests, hostile ones included.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use pki::time::Timestamp;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};

use super::{TokenIssuer, TokenIssuerConfig};

pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub(super) const EC_KID: &str = "ec-1";
pub(super) const RSA_KID: &str = "rsa-1";
pub(super) const NOW: i64 = 1_795_488_780;

/// Known to everyone who has the source: it must never sign anything but these tests' tokens.
const RSA_TEST_ONLY: &str = include_str!("testdata/test-only-rsa-2048.pkcs8.pem");

pub(super) fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}

/// Holds a P-256 key, made anew, and the test-only RSA key.
pub(super) struct Forge {
    ec_pkcs8: Vec<u8>,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    random: SystemRandom,
}

impl Forge {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let ec_pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .unwrap()
            .as_ref()
            .to_vec();
        let ec =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &ec_pkcs8, &random).unwrap();
        let text: String = RSA_TEST_ONLY
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let rsa = RsaKeyPair::from_pkcs8(&Base64::decode_vec(&text).unwrap()).unwrap();
        Self {
            ec_pkcs8,
            ec,
            rsa,
            random,
        }
    }

    pub(super) fn ec_jwk(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "kid": EC_KID, "use": "sig", "alg": "ES256",
            "x": b64(&point[1..33]), "y": b64(&point[33..]),
        })
    }

    pub(super) fn rsa_jwk(&self) -> Value {
        let public: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        json!({
            "kty": "RSA", "kid": RSA_KID, "use": "sig", "alg": "RS256",
            "n": b64(&public.n), "e": b64(&public.e),
        })
    }

    pub(super) fn ec_point(&self) -> &[u8] {
        self.ec.public_key().as_ref()
    }

    pub(super) fn jwks(&self) -> Value {
        json!({"keys": [self.ec_jwk(), self.rsa_jwk()]})
    }

    pub(super) fn issuer(&self) -> TokenIssuer {
        issuer_of(&self.jwks())
    }

    pub(super) fn ec_signature(&self, message: &str) -> Vec<u8> {
        let signature = self.ec.sign(&self.random, message.as_bytes()).unwrap();
        signature.as_ref().to_vec()
    }

    pub(super) fn ec_der_signature(&self, message: &str) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &self.ec_pkcs8,
            &self.random,
        )
        .unwrap();
        let signature = key.sign(&self.random, message.as_bytes()).unwrap();
        signature.as_ref().to_vec()
    }

    /// Signed by the P-256 key, whatever the header says.
    pub(super) fn ec_token(&self, header: &[u8], payload: &[u8]) -> String {
        let message = message(header, payload);
        let signature = b64(&self.ec_signature(&message));
        format!("{message}.{signature}")
    }

    /// Signed by the RSA key with SHA-256, whatever the header says.
    pub(super) fn rsa_token(&self, header: &[u8], payload: &[u8]) -> String {
        self.rsa_token_by(&RSA_PKCS1_SHA256, header, payload)
    }

    pub(super) fn rsa_sha512_token(&self, header: &[u8], payload: &[u8]) -> String {
        self.rsa_token_by(&RSA_PKCS1_SHA512, header, payload)
    }

    fn rsa_token_by(
        &self,
        encoding: &'static dyn RsaEncoding,
        header: &[u8],
        payload: &[u8],
    ) -> String {
        let message = message(header, payload);
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa
            .sign(encoding, &self.random, message.as_bytes(), &mut signature)
            .unwrap();
        format!("{message}.{}", b64(&signature))
    }

    /// A good ES256 header with these claims.
    pub(super) fn with_claims(&self, claims: &Value) -> String {
        self.with_payload(&claims.to_string())
    }

    pub(super) fn with_payload(&self, payload: &str) -> String {
        self.ec_token(&ec_header(), payload.as_bytes())
    }

    /// Good claims, and one of them set to `value`.
    pub(super) fn with(&self, claim: &str, value: Value) -> String {
        let mut claims = claims();
        claims[claim] = value;
        self.with_claims(&claims)
    }

    pub(super) fn without(&self, claim: &str) -> String {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim).unwrap();
        self.with_claims(&claims)
    }

    /// A good header with a member more, signed by the P-256 key.
    pub(super) fn with_header(&self, member: &str, value: Value) -> String {
        let mut header: Value = serde_json::from_slice(&ec_header()).unwrap();
        header[member] = value;
        self.ec_token(
            header.to_string().as_bytes(),
            claims().to_string().as_bytes(),
        )
    }
}

pub(super) fn issuer_of(jwks: &Value) -> TokenIssuer {
    let config = json!({"issuer": ISSUER, "jwks": jwks});
    let config: TokenIssuerConfig = serde_json::from_value(config).unwrap();
    config.try_into().unwrap()
}

pub(super) fn ec_header() -> Vec<u8> {
    json!({"alg": "ES256", "kid": EC_KID})
        .to_string()
        .into_bytes()
}

pub(super) fn rsa_header() -> Vec<u8> {
    json!({"alg": "RS256", "kid": RSA_KID})
        .to_string()
        .into_bytes()
}

/// What kube-apiserver 1.34 writes into a projected token.
pub(super) fn claims() -> Value {
    json!({
        "aud": ["istio-ca"],
        "exp": NOW + 43_100,
        "iat": NOW - 100,
        "iss": ISSUER,
        "jti": "8a7e3b9e-0a4d-4bd2-8b0c-8a3f8f3f6d5e",
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "edge-1", "uid": "0c4a3a3a-5bb8-4a41-94fc-1c6e4a9ffb8d"},
            "pod": {"name": "web-7f9c", "uid": "5f0c2b52-0c86-4d5a-a0ab-5a7a2d7c9f10"},
            "serviceaccount": {"name": "web", "uid": "e0f1a8a6-7f19-4f0a-9e5e-6d6f2b1a0c11"},
        },
        "nbf": NOW - 100,
        "sub": "system:serviceaccount:shop:web",
    })
}

pub(super) fn b64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

pub(super) fn message(header: &[u8], payload: &[u8]) -> String {
    format!("{}.{}", b64(header), b64(payload))
}
