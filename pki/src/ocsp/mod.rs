//! OCSP: requests as strangers send them, and responses as their readers want them (RFC 6960, RFC 5019, RFC 9654).

mod request;
mod response;

use crate::asn1;
use crate::certificate::Issuer;
use crate::crypto;

pub use request::{
    CertId, MAX_CERTIFICATES, MAX_REQUEST_BYTES, OcspRequest, OcspRequestError, request_of_path,
};
pub use response::{
    BasicResponse, OcspResponseError, Responder, ResponderError, ResponseRequest, SingleStatus,
    Status, prepare_response,
};

/// id-pkix-ocsp-nonce (RFC 9654 §2.1).
const NONCE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];

/// A hash by which a request names an issuer (RFC 6960 §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-1: what RFC 5019 §2.1.1 had clients send. It names an issuer here and protects nothing.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The contents octets of its object identifier.
    const fn oid(self) -> &'static [u8] {
        match self {
            Self::Sha1 => &[0x2b, 0x0e, 0x03, 0x02, 0x1a],
            Self::Sha256 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
            Self::Sha384 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
            Self::Sha512 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
        }
    }

    fn hash(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => crypto::sha1(data).to_vec(),
            Self::Sha256 => crypto::sha256(data).to_vec(),
            Self::Sha384 => crypto::sha384(data),
            Self::Sha512 => crypto::sha512(data),
        }
    }
}

/// How requests name an issuer: hashes of its name and of its key, the key being the content of its BIT STRING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerHashes(Vec<(HashAlgorithm, Vec<u8>, Vec<u8>)>);

impl IssuerHashes {
    /// Those of an authority.
    #[must_use]
    pub fn of(issuer: &Issuer) -> Self {
        Self::of_parts(issuer.name(), issuer.key().raw())
    }

    /// Those of the CA with this name (DER) and key (the content of its BIT STRING).
    #[must_use]
    pub fn of_parts(name: &[u8], key: &[u8]) -> Self {
        let all = HashAlgorithm::ALL.iter();
        Self(
            all.map(|hash| (*hash, hash.hash(name), hash.hash(key)))
                .collect(),
        )
    }

    /// Whether it is this issuer that `id` names.
    #[must_use]
    pub fn matches(&self, id: &CertId) -> bool {
        self.0.iter().any(|(hash, name, key)| {
            *hash == id.algorithm() && name == id.issuer_name_hash() && key == id.issuer_key_hash()
        })
    }
}

/// An answer without a signature (RFC 6960 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorStatus {
    /// The request does not conform.
    MalformedRequest,
    /// A fault here.
    InternalError,
    /// It cannot be said now.
    TryLater,
    /// Nobody here answers for that issuer (RFC 5019 §2.2.3).
    Unauthorized,
}

impl ErrorStatus {
    /// The whole OCSPResponse.
    #[must_use]
    pub const fn to_der(self) -> [u8; 5] {
        let status = match self {
            Self::MalformedRequest => 1,
            Self::InternalError => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        };
        [asn1::SEQUENCE, 3, asn1::ENUMERATED, 1, status]
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformedRequest",
            Self::InternalError => "internalError",
            Self::TryLater => "tryLater",
            Self::Unauthorized => "unauthorized",
        }
    }
}

#[cfg(test)]
mod tests;
