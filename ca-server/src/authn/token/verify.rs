//! The envelope of a token (JWS compact serialization, RFC 7515 §3.1): taken apart, and its signature checked.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;

use super::MAX_TOKEN_BYTES;
use super::claims::ServiceAccountClaims;
use super::error::{TokenError, TokenPart, clip};
use super::json::{Object, present};
use super::jwks::{Algorithm, Jwks};

/// A token that was taken apart, and that nobody may believe yet.
#[derive(Clone)]
pub struct UnverifiedToken<'t> {
    /// The header and the payload as they were signed: base64, with the dot.
    signed: &'t str,
    algorithm: Algorithm,
    kid: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// Everything of a header that is looked at. Whatever names a key to be fetched (`jku`, `x5u`) or brings one (`jwk`, `x5c`)
/// is not: keys come from the cluster's definition alone.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    b64: bool,
    #[serde(default, deserialize_with = "present")]
    zip: bool,
}

#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

impl<'t> UnverifiedToken<'t> {
    /// Takes a token apart: at most 16 KiB, three non-empty parts in base64url without padding, a header of an algorithm
    /// that we know, without `crit` and `b64`, and of the type `JWT` or none.
    ///
    /// # Errors
    /// When it is not that.
    pub fn parse(token: &'t str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong(token.len()));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Parts)?;
        if header.is_empty() || payload.is_empty() || payload.contains('.') || signature.is_empty()
        {
            return Err(TokenError::Parts);
        }
        let header = decode(TokenPart::Header, header)?;
        let payload = decode(TokenPart::Payload, payload)?;
        let signature = decode(TokenPart::Signature, signature)?;
        let Object(header): Object<Header> =
            serde_json::from_slice(&header).map_err(|e| TokenError::json(TokenPart::Header, &e))?;
        let algorithm = header.algorithm()?;
        Ok(Self {
            signed,
            algorithm,
            kid: header.kid,
            payload,
            signature,
        })
    }

    /// The issuer that it names, unproven: good for choosing the keys to check it with, and for nothing else.
    ///
    /// # Errors
    /// When the payload is no object or names no issuer, or more than one.
    pub fn claimed_issuer(&self) -> Result<String, TokenError> {
        let Object(IssuerClaim { iss }) = serde_json::from_slice(&self.payload)
            .map_err(|e| TokenError::json(TokenPart::Payload, &e))?;
        Ok(iss)
    }

    /// Checks the signature with the pinned key of the token's key id.
    ///
    /// # Errors
    /// When no key has that id, the header's algorithm is not the key's, or the signature is wrong.
    pub fn verify_with(&self, jwks: &Jwks) -> Result<VerifiedPayload, TokenError> {
        let key = jwks
            .key(self.kid.as_deref())
            .ok_or_else(|| TokenError::UnknownKey(self.kid.as_deref().map(clip)))?;
        if key.algorithm() != self.algorithm {
            return Err(TokenError::Algorithm {
                got: self.algorithm.as_str().to_owned(),
                expected: Some(key.algorithm()),
            });
        }
        if !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(TokenError::Signature(key.kid().map(clip)));
        }
        Ok(VerifiedPayload(self.payload.clone()))
    }

    /// The payload, on the word of somebody who checked this very token: the cluster's API server.
    #[cfg(feature = "token-review")]
    pub(super) fn vouched_for(self) -> VerifiedPayload {
        VerifiedPayload(self.payload)
    }
}

impl std::fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnverifiedToken(...)")
    }
}

impl Header {
    fn algorithm(&self) -> Result<Algorithm, TokenError> {
        if self.crit {
            return Err(TokenError::Header("crit"));
        }
        if self.b64 {
            return Err(TokenError::Header("b64"));
        }
        if self.zip {
            return Err(TokenError::Header("zip"));
        }
        if let Some(typ) = &self.typ
            && typ != "JWT"
        {
            return Err(TokenError::Type(clip(typ)));
        }
        Algorithm::parse(&self.alg).ok_or_else(|| TokenError::Algorithm {
            got: clip(&self.alg),
            expected: None,
        })
    }
}

fn decode(part: TokenPart, text: &str) -> Result<Vec<u8>, TokenError> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| TokenError::Base64(part))
}

/// A payload whose signature was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedPayload(Vec<u8>);

impl VerifiedPayload {
    /// Reads the claims of a service account's token.
    ///
    /// # Errors
    /// When a claim is missing, comes twice, has another type, or disagrees with another.
    pub fn claims(&self) -> Result<ServiceAccountClaims, TokenError> {
        ServiceAccountClaims::parse(&self.0)
    }

    /// The claims as they were signed, for who reads other ones.
    pub(in crate::authn) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for VerifiedPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VerifiedPayload(...)")
    }
}
