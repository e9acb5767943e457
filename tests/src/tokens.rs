//! A stand-in for a cluster's service-account token issuer: a real one is kube-apiserver, in `token_review.rs`.

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// An issuer with one ES256 key.
pub struct TokenAuthority {
    issuer: String,
    key_id: String,
    pair: EcdsaKeyPair,
}

impl TokenAuthority {
    /// An issuer of this name, with a new key.
    pub fn new(issuer: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
                .unwrap();
        let key_id = pki::crypto::hex(&pki::crypto::sha256(pair.public_key().as_ref())[..8]);
        Self {
            issuer: issuer.to_owned(),
            key_id,
            pair,
        }
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key's id.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public key's point, uncompressed.
    pub fn public_point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The key set that a cluster pins.
    pub fn jwks(&self) -> Value {
        let point = self.public_point();
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id,
            "x": Base64UrlUnpadded::encode_string(&point[1..33]),
            "y": Base64UrlUnpadded::encode_string(&point[33..65]),
        }] })
    }

    /// Claims such as a projected token has, for audience `istio-ca`, good for an hour from now.
    pub fn claims(&self, namespace: &str, account: &str) -> Value {
        let now = crate::now().unix();
        json!({
            "iss": self.issuer, "aud": ["istio-ca"], "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "iat": now, "nbf": now, "exp": now + 3600, "jti": "6a5e8ad1-2c7d-4b2c-9e7e-0f6f0a7e0001",
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": { "name": account, "uid": "8b5d1f0e-0000-4000-8000-000000000001" },
                "pod": { "name": format!("{account}-0"), "uid": "8b5d1f0e-0000-4000-8000-000000000002" },
                "node": { "name": "node-1", "uid": "8b5d1f0e-0000-4000-8000-000000000003" },
            },
        })
    }

    /// A good token.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        self.sign(&self.claims(namespace, account))
    }

    /// A token with these claims, whatever they say.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(
            &json!({ "alg": "ES256", "typ": "JWT", "kid": self.key_id }),
            claims,
        )
    }

    /// A token with this header and these claims, whatever they say, signed with the key all the same.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
        let input = format!("{}.{}", encode(header), encode(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), input.as_bytes())
            .unwrap();
        format!(
            "{input}.{}",
            Base64UrlUnpadded::encode_string(signature.as_ref())
        )
    }
}
