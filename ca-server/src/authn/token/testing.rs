//! An issuer of tokens for this module's tests, hostile ones included.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use pki::time::Timestamp;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};

use super::{TokenIssuer, TokenIssuerConfig};

pub(in crate::authn) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub(in crate::authn) const EC_KID: &str = "ec-1";
pub(in crate::authn) const ED_KID: &str = "ed-1";
pub(in crate::authn) const RSA_KID: &str = "rsa-1";
pub(in crate::authn) const NOW: i64 = 1_795_488_780;

/// Known to everyone who has the source: it must never sign anything but these tests' tokens.
const RSA_TEST_ONLY: &str = include_str!("testdata/test-only-rsa-2048.pkcs8.pem");

pub(in crate::authn) fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}

/// Holds a P-256 and an Ed25519 key, made anew, and the test-only RSA key.
pub(in crate::authn) struct Forge {
    ec_pkcs8: Vec<u8>,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    rsa: RsaKeyPair,
    random: SystemRandom,
}

impl Forge {
    pub(in crate::authn) fn new() -> Self {
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
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ed = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap();
        Self {
            ec_pkcs8,
            ec,
            ed,
            rsa,
            random,
        }
    }

    pub(in crate::authn) fn ec_jwk(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "kid": EC_KID, "use": "sig", "alg": "ES256",
            "x": b64(&point[1..33]), "y": b64(&point[33..]),
        })
    }

    pub(in crate::authn) fn rsa_jwk(&self) -> Value {
        let public: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        json!({
            "kty": "RSA", "kid": RSA_KID, "use": "sig", "alg": "RS256",
            "n": b64(&public.n), "e": b64(&public.e),
        })
    }

    pub(in crate::authn) fn ed_jwk(&self) -> Value {
        json!({
            "kty": "OKP", "crv": "Ed25519", "kid": ED_KID, "use": "sig", "alg": "EdDSA",
            "x": b64(self.ed.public_key().as_ref()),
        })
    }

    /// Signed by the Ed25519 key, whatever the header says.
    pub(in crate::authn) fn ed_token(&self, header: &[u8], payload: &[u8]) -> String {
        let message = message(header, payload);
        let signature = b64(self.ed.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }

    pub(in crate::authn) fn ec_point(&self) -> &[u8] {
        self.ec.public_key().as_ref()
    }

    pub(in crate::authn) fn jwks(&self) -> Value {
        json!({"keys": [self.ec_jwk(), self.rsa_jwk()]})
    }

    pub(in crate::authn) fn issuer(&self) -> TokenIssuer {
        issuer_of(&self.jwks())
    }

    pub(in crate::authn) fn ec_signature(&self, message: &str) -> Vec<u8> {
        let signature = self.ec.sign(&self.random, message.as_bytes()).unwrap();
        signature.as_ref().to_vec()
    }

    pub(in crate::authn) fn ec_der_signature(&self, message: &str) -> Vec<u8> {
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
    pub(in crate::authn) fn ec_token(&self, header: &[u8], payload: &[u8]) -> String {
        let message = message(header, payload);
        let signature = b64(&self.ec_signature(&message));
        format!("{message}.{signature}")
    }

    /// Signed by the RSA key with SHA-256, whatever the header says.
    pub(in crate::authn) fn rsa_token(&self, header: &[u8], payload: &[u8]) -> String {
        self.rsa_token_by(&RSA_PKCS1_SHA256, header, payload)
    }

    pub(in crate::authn) fn rsa_sha512_token(&self, header: &[u8], payload: &[u8]) -> String {
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
    pub(in crate::authn) fn with_claims(&self, claims: &Value) -> String {
        self.with_payload(&claims.to_string())
    }

    pub(in crate::authn) fn with_payload(&self, payload: &str) -> String {
        self.ec_token(&ec_header(), payload.as_bytes())
    }

    /// Good claims, and one of them set to `value`.
    pub(in crate::authn) fn with(&self, claim: &str, value: Value) -> String {
        let mut claims = claims();
        claims[claim] = value;
        self.with_claims(&claims)
    }

    pub(in crate::authn) fn without(&self, claim: &str) -> String {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim).unwrap();
        self.with_claims(&claims)
    }

    /// A good header with a member more, signed by the P-256 key.
    pub(in crate::authn) fn with_header(&self, member: &str, value: Value) -> String {
        let mut header: Value = serde_json::from_slice(&ec_header()).unwrap();
        header[member] = value;
        self.ec_token(
            header.to_string().as_bytes(),
            claims().to_string().as_bytes(),
        )
    }
}

pub(in crate::authn) fn issuer_of(jwks: &Value) -> TokenIssuer {
    let config = json!({"issuer": ISSUER, "jwks": jwks});
    let config: TokenIssuerConfig = serde_json::from_value(config).unwrap();
    config.try_into().unwrap()
}

pub(in crate::authn) fn ec_header() -> Vec<u8> {
    json!({"alg": "ES256", "kid": EC_KID})
        .to_string()
        .into_bytes()
}

pub(in crate::authn) fn rsa_header() -> Vec<u8> {
    json!({"alg": "RS256", "kid": RSA_KID})
        .to_string()
        .into_bytes()
}

/// What kube-apiserver 1.34 writes into a projected token.
pub(in crate::authn) fn claims() -> Value {
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

pub(in crate::authn) fn b64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

pub(in crate::authn) fn message(header: &[u8], payload: &[u8]) -> String {
    format!("{}.{}", b64(header), b64(payload))
}
