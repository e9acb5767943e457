//! Requests: bytes of strangers.

use crate::asn1::{self, Der, DerError};
use crate::serial::Serial;

use super::{HashAlgorithm, NONCE};

/// The longest request that is read. RFC 5019 §5 has clients stay below 255 octets for GET; sixteen certificates with
/// SHA-512 take 3 KiB.
pub const MAX_REQUEST_BYTES: usize = 4096;
/// The most certificates that one request asks for.
pub const MAX_CERTIFICATES: usize = 16;
/// RFC 9654 §2.1.
const NONCE_OCTETS: std::ops::RangeInclusive<usize> = 1..=128;

/// A request, read. Its signature, if it has one, is not looked at: everyone gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspRequest {
    certificates: Vec<CertId>,
    nonce: Option<Vec<u8>>,
}

impl OcspRequest {
    /// Reads the DER of an OCSPRequest.
    ///
    /// # Errors
    /// When it is not one, is too long, asks for no certificate or for too many, or has an extension that is critical and
    /// not known here.
    pub fn parse(der: &[u8]) -> Result<Self, OcspRequestError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(OcspRequestError::TooLong(der.len()));
        }
        let mut outer = Der::new(Der::only(der, asn1::SEQUENCE)?)?;
        let mut tbs = Der::new(outer.content(asn1::SEQUENCE)?)?;
        // optionalSignature
        outer.optional(asn1::explicit(0))?;
        outer.end()?;
        if let Some(version) = tbs.optional(asn1::explicit(0))?
            && Der::only(version, asn1::INTEGER)? != [0]
        {
            return Err(OcspRequestError::Version);
        }
        // requestorName
        tbs.optional(asn1::explicit(1))?;
        let mut list = Der::new(tbs.content(asn1::SEQUENCE)?)?;
        let extensions = tbs.optional(asn1::explicit(2))?;
        tbs.end()?;
        let mut certificates = Vec::with_capacity(1);
        while !list.is_empty() {
            if certificates.len() == MAX_CERTIFICATES {
                return Err(OcspRequestError::Certificates);
            }
            let mut request = Der::new(list.content(asn1::SEQUENCE)?)?;
            certificates.push(CertId::read(request.whole()?)?);
            if let Some(extensions) = request.optional(asn1::explicit(0))? {
                read_extensions(extensions)?;
            }
            request.end()?;
        }
        if certificates.is_empty() {
            return Err(OcspRequestError::Certificates);
        }
        let nonce = match extensions {
            Some(extensions) => read_extensions(extensions)?,
            None => None,
        };
        Ok(Self {
            certificates,
            nonce,
        })
    }

    /// What it asks for: one to [`MAX_CERTIFICATES`].
    #[must_use]
    pub fn certificates(&self) -> &[CertId] {
        &self.certificates
    }

    /// Its nonce, 1 to 128 octets (RFC 9654 §2.1).
    #[must_use]
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }
}

/// The nonce among extensions. What is critical and not known here refuses the request (RFC 6960 §4.4).
fn read_extensions(der: &[u8]) -> Result<Option<Vec<u8>>, OcspRequestError> {
    let mut list = Der::new(Der::only(der, asn1::SEQUENCE)?)?;
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut nonce = None;
    while !list.is_empty() {
        let mut fields = Der::new(list.content(asn1::SEQUENCE)?)?;
        let oid = fields.content(asn1::OID)?;
        let critical = fields.default_false()?;
        let value = fields.content(asn1::OCTET_STRING)?;
        fields.end()?;
        if seen.contains(&oid) {
            return Err(OcspRequestError::Extension);
        }
        seen.push(oid);
        if oid == NONCE {
            let octets = Der::only(value, asn1::OCTET_STRING)?;
            if !NONCE_OCTETS.contains(&octets.len()) {
                return Err(OcspRequestError::Nonce(octets.len()));
            }
            nonce = Some(octets.to_vec());
        } else if critical {
            return Err(OcspRequestError::Extension);
        }
    }
    Ok(nonce)
}

/// A certificate as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertId {
    der: Vec<u8>,
    algorithm: HashAlgorithm,
    issuer_name_hash: Vec<u8>,
    issuer_key_hash: Vec<u8>,
    serial: Option<Serial>,
    usual: bool,
}

impl CertId {
    fn read(der: &[u8]) -> Result<Self, OcspRequestError> {
        let mut fields = Der::new(Der::only(der, asn1::SEQUENCE)?)?;
        let mut identifier = Der::new(fields.content(asn1::SEQUENCE)?)?;
        let oid = identifier.content(asn1::OID)?;
        // Parameters are NULL or absent (RFC 5754 §2).
        let usual = identifier.optional(asn1::NULL)?.is_some();
        identifier.end()?;
        let mut algorithms = HashAlgorithm::ALL.into_iter();
        let algorithm = algorithms
            .find(|hash| hash.oid() == oid)
            .ok_or(OcspRequestError::Hash)?;
        let issuer_name_hash = fields.content(asn1::OCTET_STRING)?.to_vec();
        let issuer_key_hash = fields.content(asn1::OCTET_STRING)?.to_vec();
        let serial = fields.content(asn1::INTEGER)?;
        fields.end()?;
        if serial.is_empty() {
            return Err(OcspRequestError::Serial);
        }
        Ok(Self {
            der: der.to_vec(),
            algorithm,
            issuer_name_hash,
            issuer_key_hash,
            serial: Serial::from_der_content(serial).ok(),
            usual,
        })
    }

    /// The id of the certificate that the CA with this name (DER) and key (the content of its BIT STRING) issued.
    #[must_use]
    pub fn new(algorithm: HashAlgorithm, name: &[u8], key: &[u8], serial: &Serial) -> Self {
        let (issuer_name_hash, issuer_key_hash) = (algorithm.hash(name), algorithm.hash(key));
        let oid = asn1::tlv(asn1::OID, &[algorithm.oid()]);
        let der = asn1::sequence(&[
            &asn1::sequence(&[&oid, &[asn1::NULL, 0]]),
            &asn1::tlv(asn1::OCTET_STRING, &[&issuer_name_hash]),
            &asn1::tlv(asn1::OCTET_STRING, &[&issuer_key_hash]),
            &asn1::tlv(asn1::INTEGER, &[serial.as_bytes()]),
        ]);
        Self {
            der,
            algorithm,
            issuer_name_hash,
            issuer_key_hash,
            serial: Some(*serial),
            usual: true,
        }
    }

    /// Whether it is written as [`CertId::new`] writes it, octet for octet.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        self.usual
    }

    /// The hash that it names the issuer by.
    #[must_use]
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The hash of the issuer's name.
    #[must_use]
    pub fn issuer_name_hash(&self) -> &[u8] {
        &self.issuer_name_hash
    }

    /// The hash of the issuer's key.
    #[must_use]
    pub fn issuer_key_hash(&self) -> &[u8] {
        &self.issuer_key_hash
    }

    /// The serial number; `None` for a number that no certificate has (RFC 5280 §4.1.2.2).
    #[must_use]
    pub fn serial(&self) -> Option<&Serial> {
        self.serial.as_ref()
    }

    /// Its DER as it was asked: the answer repeats it octet for octet.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

/// The request in a GET's path: what follows the responder's URL, percent-encoded base64 (RFC 6960 appendix A.1).
/// Clients leave slashes and padding out or in, and use the alphabet for URLs: all of that reads.
///
/// # Errors
/// When it is too long or not base64.
pub fn request_of_path(path: &str) -> Result<Vec<u8>, OcspRequestError> {
    // Each octet of base64 may be written with three.
    if path.len() > MAX_REQUEST_BYTES * 4 {
        return Err(OcspRequestError::TooLong(path.len()));
    }
    let mut text = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        (rest, text) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let octet = hex_digit(*high)
                    .zip(hex_digit(*low))
                    .ok_or(OcspRequestError::Base64)?;
                text.push(octet.0 << 4 | octet.1);
                (tail, text)
            }
            (b'%', _) => return Err(OcspRequestError::Base64),
            (octet, tail) => {
                text.push(*octet);
                (tail, text)
            }
        };
    }
    decode(&text)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn decode(text: &[u8]) -> Result<Vec<u8>, OcspRequestError> {
    let padding = text
        .iter()
        .rev()
        .take_while(|octet| **octet == b'=')
        .count();
    let text = &text[..text.len() - padding];
    if padding > 2 || text.len() % 4 == 1 {
        return Err(OcspRequestError::Base64);
    }
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for octet in group {
            bits = bits << 6 | u32::from(sextet(*octet).ok_or(OcspRequestError::Base64)?);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Ok(out)
}

fn sextet(octet: u8) -> Option<u8> {
    Some(match octet {
        b'A'..=b'Z' => octet - b'A',
        b'a'..=b'z' => octet - b'a' + 26,
        b'0'..=b'9' => octet - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

/// Why a request was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspRequestError {
    /// Not base64 in a URL.
    #[error("the path is not percent-encoded base64")]
    Base64,
    /// None, or too many.
    #[error("expected 1 to {MAX_CERTIFICATES} certificates in a request")]
    Certificates,
    /// An extension twice, or one that is critical and not known here.
    #[error("an extension stands twice, or is critical and not known here")]
    Extension,
    /// A hash that is not known here.
    #[error("the issuer is named by a hash that is none of SHA-1, SHA-256, SHA-384 and SHA-512")]
    Hash,
    /// A nonce without octets, or with too many.
    #[error("the nonce has {0} octets, 1 to 128 are allowed (RFC 9654 §2.1)")]
    Nonce(usize),
    /// Not DER, or not a request.
    #[error("not the DER of an OCSP request")]
    NotDer(#[from] DerError),
    /// An INTEGER without octets.
    #[error("a serial number has no octets")]
    Serial,
    /// Too long.
    #[error("the request has {0} bytes, {MAX_REQUEST_BYTES} are allowed")]
    TooLong(usize),
    /// Not version 1.
    #[error("not an OCSP request of version 1")]
    Version,
}
