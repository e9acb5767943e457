//! The keys of a token issuer, pinned: a JSON Web Key Set (RFC 7517 §5) as bytes, checked once.

use base64ct::{Base64UrlUnpadded, Encoding};
use pki::crypto;
use pki::key::{PublicKey, SignatureAlgorithm};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

use super::error::clip;
use super::json::{Object, present};

/// The largest key set that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// The most keys of a set.
const MAX_KEYS: usize = 64;
/// The longest key id, in bytes.
const MAX_KID_BYTES: usize = 256;

/// A signature algorithm of tokens (RFC 7518 §3.1). It belongs to the pinned key; a token's header can only agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519 (RFC 8037 §3.1).
    EdDsa,
}

impl Algorithm {
    /// Takes the name of RFC 7518, in its exact case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }

    /// The name of RFC 7518.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// The public half of a key, as ring takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { point: Vec<u8> },
    Ed(PublicKey),
}

/// One pinned key: its id, its algorithm, its public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

impl Key {
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`. ECDSA signatures are `r || s` (RFC 7518 §3.4), never DER.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let rsa = match self.algorithm {
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Es256 | Algorithm::Es384 => return self.verifies_ec(message, signature),
            Algorithm::EdDsa => return self.verifies_ed(message, signature),
        };
        match &self.material {
            Material::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(rsa, message, signature)
                .is_ok(),
            Material::Ec { .. } | Material::Ed(_) => false,
        }
    }

    fn verifies_ed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Ed(key) => {
                crypto::verify(key, SignatureAlgorithm::Ed25519, message, signature).is_ok()
            }
            Material::Rsa { .. } | Material::Ec { .. } => false,
        }
    }

    fn verifies_ec(&self, message: &[u8], signature: &[u8]) -> bool {
        let ec = match self.algorithm {
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            _ => &ECDSA_P384_SHA384_FIXED,
        };
        match &self.material {
            Material::Ec { point } => UnparsedPublicKey::new(ec, point)
                .verify(message, signature)
                .is_ok(),
            Material::Rsa { .. } | Material::Ed(_) => false,
        }
    }
}

/// A pinned key set: one to 64 public keys, each with its one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks {
    keys: Vec<Key>,
}

impl Jwks {
    /// Reads a key set as an API server writes it at `/openid/v1/jwks`: at most 64 KiB and 64 keys.
    ///
    /// RSA keys of 2048 to 4096 bits sign RS256, or RS384 or RS512 where `alg` says so; keys on P-256 sign ES256, on
    /// P-384 ES384, Ed25519 keys EdDSA. Keys of other types, curves, algorithms or uses are skipped (RFC 7517 §5). A point's place on its
    /// curve is checked by the first signature check; a key off the curve verifies nothing.
    ///
    /// # Errors
    /// When it is no key set, no key of it is usable, a key is broken, weak or private, an id comes twice, or one of several
    /// keys has none.
    pub fn parse(json: &[u8]) -> Result<Self, JwksError> {
        if json.len() > MAX_BYTES {
            return Err(JwksError::TooLarge(json.len()));
        }
        let Object(set): Object<RawSet> =
            serde_json::from_slice(json).map_err(|e| JwksError::Json(clip(&e.to_string())))?;
        if set.keys.len() > MAX_KEYS {
            return Err(JwksError::TooMany(set.keys.len()));
        }
        let mut keys: Vec<Key> = Vec::new();
        for (at, Object(raw)) in set.keys.into_iter().enumerate() {
            let Some(key) = raw.into_key().map_err(|why| JwksError::Key { at, why })? else {
                continue;
            };
            if keys.iter().any(|k| k.kid == key.kid) {
                return Err(match key.kid {
                    Some(kid) => JwksError::DuplicateId(kid),
                    None => JwksError::MissingId,
                });
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(JwksError::NoUsableKey);
        }
        if keys.len() > 1 && keys.iter().any(|k| k.kid.is_none()) {
            return Err(JwksError::MissingId);
        }
        Ok(Self { keys })
    }

    /// The key that a token with this `kid` must be signed with. A sole key without an id fits every token, and its
    /// signature decides.
    pub(super) fn key(&self, kid: Option<&str>) -> Option<&Key> {
        if let [Key { kid: None, .. }] = self.keys.as_slice() {
            return self.keys.first();
        }
        let kid = kid?;
        self.keys.iter().find(|k| k.kid() == Some(kid))
    }

    /// The ids of its keys, in order; a sole key may have none.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(Key::kid)
    }

    /// Whether a key of `other` is also one of these, whatever their ids. Two clusters must not share one: a token of the
    /// first would be one of the second.
    #[must_use]
    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        self.keys
            .iter()
            .any(|a| other.keys.iter().any(|b| a.material == b.material))
    }
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Object<RawKey>>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    #[serde(default, deserialize_with = "present")]
    d: bool,
    #[serde(default, deserialize_with = "present")]
    p: bool,
    #[serde(default, deserialize_with = "present")]
    k: bool,
}

impl RawKey {
    /// The key, or none when it is not one that signs tokens for us.
    fn into_key(self) -> Result<Option<Key>, KeyFault> {
        if self.d || self.p || self.k {
            return Err(KeyFault::Private);
        }
        let for_signatures = self.usage.as_deref().is_none_or(|u| u == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !for_signatures {
            return Ok(None);
        }
        let algorithm = match self.alg.as_deref().map(Algorithm::parse) {
            None => None,
            Some(None) => return Ok(None),
            Some(known) => known,
        };
        let found = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (
                algorithm.unwrap_or(Algorithm::Rs256),
                rsa(self.n.as_deref(), self.e.as_deref())?,
            ),
            ("EC", Some("P-256")) => (
                algorithm.unwrap_or(Algorithm::Es256),
                ec(self.x.as_deref(), self.y.as_deref(), 32)?,
            ),
            ("EC", Some("P-384")) => (
                algorithm.unwrap_or(Algorithm::Es384),
                ec(self.x.as_deref(), self.y.as_deref(), 48)?,
            ),
            ("OKP", Some("Ed25519")) => (
                algorithm.unwrap_or(Algorithm::EdDsa),
                ed(self.x.as_deref())?,
            ),
            _ => return Ok(None),
        };
        let (algorithm, material) = found;
        if !fits(algorithm, &material) {
            return Err(KeyFault::OtherAlgorithm(algorithm.as_str()));
        }
        if let Some(kid) = &self.kid
            && (kid.is_empty() || kid.len() > MAX_KID_BYTES)
        {
            return Err(KeyFault::Id);
        }
        Ok(Some(Key {
            kid: self.kid,
            algorithm,
            material,
        }))
    }
}

/// Whether keys of this kind sign by `algorithm`; the curve is told by the point's length.
fn fits(algorithm: Algorithm, material: &Material) -> bool {
    match (algorithm, material) {
        (Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512, Material::Rsa { .. }) => true,
        (Algorithm::Es256, Material::Ec { point }) => point.len() == 1 + 2 * 32,
        (Algorithm::Es384, Material::Ec { point }) => point.len() == 1 + 2 * 48,
        (Algorithm::EdDsa, Material::Ed(_)) => true,
        _ => false,
    }
}

fn rsa(n: Option<&str>, e: Option<&str>) -> Result<Material, KeyFault> {
    let n = unsigned(n.ok_or(KeyFault::Missing("n"))?)?;
    let e = unsigned(e.ok_or(KeyFault::Missing("e"))?)?;
    let bits = n.first().map_or(0, |top| {
        n.len() * 8 - usize::try_from(top.leading_zeros()).unwrap_or(0)
    });
    if !(2048..=4096).contains(&bits) {
        return Err(KeyFault::ModulusBits(bits));
    }
    // The bounds of SP 800-89 §5.3.3 as far as they cost nothing; above 33 bits no verifier goes.
    let exponent = e
        .iter()
        .try_fold(0u64, |sum, byte| {
            sum.checked_mul(256)
                .map(|shifted| shifted | u64::from(*byte))
        })
        .unwrap_or(0);
    if !(65_537..1 << 33).contains(&exponent) || exponent % 2 == 0 {
        return Err(KeyFault::Exponent);
    }
    if n.last().is_none_or(|low| low % 2 == 0) {
        return Err(KeyFault::EvenModulus);
    }
    Ok(Material::Rsa { n, e })
}

fn ec(x: Option<&str>, y: Option<&str>, length: usize) -> Result<Material, KeyFault> {
    let mut point = vec![4];
    for (name, text) in [("x", x), ("y", y)] {
        let bytes = decode(text.ok_or(KeyFault::Missing(name))?)?;
        if bytes.len() != length {
            return Err(KeyFault::Coordinate);
        }
        point.extend_from_slice(&bytes);
    }
    Ok(Material::Ec { point })
}

/// SubjectPublicKeyInfo of Ed25519 up to the point (RFC 8410 §4).
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Points of small order, for which anyone can sign, are refused with the others that `pki` does not take.
fn ed(x: Option<&str>) -> Result<Material, KeyFault> {
    let point = decode(x.ok_or(KeyFault::Missing("x"))?)?;
    if point.len() != 32 {
        return Err(KeyFault::Coordinate);
    }
    let spki = [&ED25519_SPKI, point.as_slice()].concat();
    PublicKey::from_spki(&spki)
        .map(Material::Ed)
        .map_err(|_| KeyFault::Point)
}

/// A number, most significant byte first. Leading zeros, which RFC 7518 §6.3.1.1 says some producers write, are dropped.
fn unsigned(text: &str) -> Result<Vec<u8>, KeyFault> {
    let bytes = decode(text)?;
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    Ok(bytes[start..].to_vec())
}

fn decode(text: &str) -> Result<Vec<u8>, KeyFault> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| KeyFault::Base64)
}

/// Why a key set was not accepted. No key material is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// More than 64 KiB.
    #[error("the key set has {0} bytes, expected at most {MAX_BYTES}")]
    TooLarge(usize),
    /// More than 64 keys.
    #[error("the key set has {0} keys, expected at most {MAX_KEYS}")]
    TooMany(usize),
    /// Not a key set.
    #[error("this is not a JSON Web Key Set (RFC 7517): {0}")]
    Json(String),
    /// A key is broken.
    #[error("key {at} (from 0) of the set: {why}")]
    Key {
        /// Its place in the set, from 0.
        at: usize,
        /// What is wrong with it.
        why: KeyFault,
    },
    /// Two keys with one id.
    #[error("the key id {0:?} comes twice")]
    DuplicateId(String),
    /// A key without an id beside others.
    #[error("a key without a \"kid\" must be the only key of its set")]
    MissingId,
    /// None that signs tokens.
    #[error(
        "the key set has no usable key, expected RSA of 2048 to 4096 bits, P-256, P-384 or Ed25519"
    )]
    NoUsableKey,
}

/// What is wrong with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Private or symmetric.
    #[error(
        "a private key was given (\"d\", \"p\" or \"k\"): treat it as disclosed, and pin the public key"
    )]
    Private,
    /// A member is missing.
    #[error("{0:?} is missing")]
    Missing(&'static str),
    /// Not base64url.
    #[error("a number is not base64url without padding")]
    Base64,
    /// Too short or too long.
    #[error("the RSA modulus has {0} bits, expected 2048 to 4096")]
    ModulusBits(usize),
    /// Even.
    #[error("the RSA modulus is even")]
    EvenModulus,
    /// Too small, even or too large.
    #[error("the RSA exponent is not an odd number from 65537 to 2^33")]
    Exponent,
    /// Not of the curve's length.
    #[error("a coordinate is not of its curve's length (RFC 7518 §6.2.1.2)")]
    Coordinate,
    /// An Ed25519 point that is not canonical or of small order.
    #[error("the Ed25519 point is not canonical or of small order: anyone could sign for it")]
    Point,
    /// Another kind of key signs by this algorithm.
    #[error("a key of this type cannot sign by {0}")]
    OtherAlgorithm(&'static str),
    /// Empty or too long.
    #[error("\"kid\" is not 1 to {MAX_KID_BYTES} bytes long")]
    Id,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{Forge, b64};
    use super::*;

    fn parse(keys: &Value) -> Result<Jwks, JwksError> {
        Jwks::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn with(mut jwk: Value, member: &str, value: Value) -> Value {
        jwk[member] = value;
        jwk
    }

    #[test]
    fn the_key_set_of_an_api_server_is_read() {
        let forge = Forge::new();
        let jwks = parse(&json!([forge.ec_jwk(), forge.rsa_jwk()])).unwrap();
        assert_eq!(jwks.key_ids().collect::<Vec<_>>(), ["ec-1", "rsa-1"]);
        assert!(jwks.shares_a_key_with(&parse(&json!([forge.rsa_jwk()])).unwrap()));
        let other = parse(&json!([Forge::new().ec_jwk()])).unwrap();
        assert!(!jwks.shares_a_key_with(&other));
    }

    #[test]
    fn keys_that_do_not_sign_tokens_are_skipped() {
        let forge = Forge::new();
        for skipped in [
            json!({"kty": "OKP", "crv": "Ed448", "x": "AA", "kid": "ed"}),
            json!({"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "x"}),
            json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!({"kty": "made-up"}),
            with(forge.rsa_jwk(), "use", json!("enc")),
            with(forge.rsa_jwk(), "alg", json!("RSA-OAEP")),
            with(forge.rsa_jwk(), "key_ops", json!(["encrypt"])),
        ] {
            assert_eq!(
                parse(&json!([skipped.clone(), forge.ec_jwk()])).map(|j| j.keys.len()),
                Ok(1)
            );
            assert_eq!(parse(&json!([skipped])), Err(JwksError::NoUsableKey));
        }
    }

    #[test]
    fn private_keys_are_refused_by_name() {
        let forge = Forge::new();
        for key in [
            with(forge.ec_jwk(), "d", json!("AAAA")),
            with(forge.rsa_jwk(), "d", Value::Null),
            json!({"kty": "oct", "k": "AAAA"}),
        ] {
            let error = parse(&json!([key])).unwrap_err();
            assert!(
                error.to_string().contains("a private key was given"),
                "{error}"
            );
        }
    }

    #[test]
    fn weak_and_broken_keys_are_refused() {
        let forge = Forge::new();
        let (rsa, ec) = (forge.rsa_jwk(), forge.ec_jwk());
        let odd = |bytes: usize| b64(&vec![0xff; bytes]);
        for (key, why) in [
            (
                with(rsa.clone(), "n", json!(odd(128))),
                KeyFault::ModulusBits(1024),
            ),
            (
                with(rsa.clone(), "n", json!(odd(513))),
                KeyFault::ModulusBits(4104),
            ),
            (with(rsa.clone(), "n", json!("")), KeyFault::Base64),
            (
                with(rsa.clone(), "n", json!(b64(&[0xfe; 256]))),
                KeyFault::EvenModulus,
            ),
            (with(rsa.clone(), "n", json!("A===")), KeyFault::Base64),
            (with(rsa.clone(), "n", Value::Null), KeyFault::Missing("n")),
            (with(rsa.clone(), "e", json!("Aw")), KeyFault::Exponent),
            (with(rsa.clone(), "e", json!("AQAA")), KeyFault::Exponent),
            (with(rsa.clone(), "e", json!(odd(40))), KeyFault::Exponent),
            (
                with(rsa, "alg", json!("ES256")),
                KeyFault::OtherAlgorithm("ES256"),
            ),
            (
                with(ec.clone(), "alg", json!("RS256")),
                KeyFault::OtherAlgorithm("RS256"),
            ),
            (
                with(ec.clone(), "alg", json!("ES384")),
                KeyFault::OtherAlgorithm("ES384"),
            ),
            (with(ec.clone(), "x", json!(odd(31))), KeyFault::Coordinate),
            (with(ec.clone(), "y", Value::Null), KeyFault::Missing("y")),
            (with(ec, "kid", json!("")), KeyFault::Id),
        ] {
            let found = parse(&json!([key]));
            if why == KeyFault::Base64 {
                assert!(matches!(found, Err(JwksError::Key { .. })), "{found:?}");
            } else {
                assert_eq!(found, Err(JwksError::Key { at: 0, why }));
            }
        }
    }

    #[test]
    fn ed25519_keys_are_taken_and_weak_ones_are_not() {
        let forge = Forge::new();
        let good = forge.ed_jwk();
        assert_eq!(
            parse(&json!([good])).unwrap().keys[0].algorithm,
            Algorithm::EdDsa
        );
        let identity = {
            let mut point = [0; 32];
            point[0] = 1;
            b64(&point)
        };
        for (key, why) in [
            (with(good.clone(), "x", json!(identity)), KeyFault::Point),
            (
                with(good.clone(), "x", json!(b64(&[0; 32]))),
                KeyFault::Point,
            ),
            (
                with(good.clone(), "x", json!(b64(&[0xff; 32]))),
                KeyFault::Point,
            ),
            (
                with(good.clone(), "x", json!(b64(&[7; 31]))),
                KeyFault::Coordinate,
            ),
            (with(good.clone(), "x", Value::Null), KeyFault::Missing("x")),
            (
                with(good, "alg", json!("ES256")),
                KeyFault::OtherAlgorithm("ES256"),
            ),
            (
                with(forge.ec_jwk(), "alg", json!("EdDSA")),
                KeyFault::OtherAlgorithm("EdDSA"),
            ),
        ] {
            assert_eq!(parse(&json!([key])), Err(JwksError::Key { at: 0, why }));
        }
    }

    #[test]
    fn ids_are_unique_and_only_a_sole_key_goes_without() {
        let forge = Forge::new();
        let nameless = with(forge.rsa_jwk(), "kid", Value::Null);
        let twin = with(forge.rsa_jwk(), "kid", json!("ec-1"));
        assert_eq!(
            parse(&json!([forge.ec_jwk(), twin])),
            Err(JwksError::DuplicateId("ec-1".to_owned()))
        );
        assert_eq!(
            parse(&json!([forge.ec_jwk(), nameless])),
            Err(JwksError::MissingId)
        );
        assert_eq!(
            parse(&json!([nameless, nameless])),
            Err(JwksError::MissingId)
        );
        let sole = parse(&json!([nameless])).unwrap();
        assert!(sole.key(None).is_some() && sole.key(Some("any")).is_some());
        let named = parse(&json!([forge.rsa_jwk()])).unwrap();
        assert!(named.key(None).is_none() && named.key(Some("any")).is_none());
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        let many: Vec<Value> = (0..65).map(|_| json!({"kty": "x"})).collect();
        assert_eq!(parse(&json!(many)), Err(JwksError::TooMany(65)));
        assert_eq!(
            Jwks::parse(&vec![b' '; 64 * 1024 + 1]),
            Err(JwksError::TooLarge(64 * 1024 + 1))
        );
        for bad in [
            "",
            "null",
            "[]",
            r#"{"keys":null}"#,
            r#"{"keys":[["RSA"]]}"#,
            r#"{"keys":[],"keys":[]}"#,
            r#"{"keys":[{"kty":"EC","kty":"RSA"}]}"#,
        ] {
            assert!(
                matches!(Jwks::parse(bad.as_bytes()), Err(JwksError::Json(_))),
                "{bad}"
            );
        }
    }
}
