//! Responses: prepared here, signed by a responder, sealed here again.

use crate::artefact::{Artefact, Prepared, private};
use crate::asn1::{self, Der, DerError};
use crate::certificate::{Certificate, Issuer};
use crate::crl::Reason;
use crate::crypto;
use crate::extension::{self as ext, Purpose};
use crate::key::{KeyError, PublicKey};
use crate::serial::{Serial, SerialError};
use crate::time::Timestamp;

use super::{CertId, NONCE};

/// id-pkix-ocsp-basic (RFC 6960 §4.2.1).
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// What a responder says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is on record and not revoked.
    Good,
    /// It is revoked, or on hold.
    Revoked {
        /// Since when.
        at: Timestamp,
        /// Why; an unspecified reason is not written.
        reason: Reason,
    },
    /// It is not on record.
    Unknown,
}

/// The status of one certificate.
#[derive(Clone, Copy, Debug)]
pub struct SingleStatus<'a> {
    /// Which, as the request names it.
    pub id: &'a CertId,
    /// What is said of it.
    pub status: Status,
}

/// What goes into a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseRequest<'a> {
    /// When it is signed.
    pub produced_at: Timestamp,
    /// When what it says is known to hold.
    pub this_update: Timestamp,
    /// When there is newer at the latest.
    pub next_update: Timestamp,
    /// What it says.
    pub statuses: &'a [SingleStatus<'a>],
    /// The request's nonce, repeated (RFC 9654 §2.1).
    pub nonce: Option<&'a [u8]>,
}

/// Who signs responses for an issuer.
#[derive(Clone, Debug)]
pub struct Responder {
    key: PublicKey,
    /// SHA-1 of the key: what RFC 6960 §4.2.1 names a responder by.
    key_hash: [u8; 20],
    /// DER of the `certs` field, for a delegated one.
    certs: Vec<u8>,
    not_after: Timestamp,
}

impl Responder {
    /// The issuer itself (RFC 6960 §4.2.2.2, case 2).
    #[must_use]
    pub fn direct(issuer: &Issuer) -> Self {
        Self {
            key: issuer.key().clone(),
            key_hash: crypto::sha1(issuer.key().raw()),
            certs: Vec::new(),
            not_after: issuer.not_after(),
        }
    }

    /// Whom the issuer delegated to (RFC 6960 §4.2.2.2, case 3): its certificate goes with each response.
    ///
    /// # Errors
    /// When `certificate` is not one that the issuer itself signed for OCSP, or says nothing of its own revocation.
    pub fn delegated(
        certificate: &Certificate,
        issuer_key: &PublicKey,
    ) -> Result<Self, ResponderError> {
        let extensions = certificate.extensions();
        let purposes = extensions.purposes.as_deref().unwrap_or_default();
        if !purposes.contains(&Purpose::OcspSigning) {
            return Err(ResponderError::Purpose);
        }
        if extensions.find(ext::OCSP_NO_CHECK).is_none() {
            return Err(ResponderError::NoCheck);
        }
        if certificate.verify_by(issuer_key).is_err() {
            return Err(ResponderError::Issuer);
        }
        let key = certificate.public_key()?;
        let certs = asn1::tlv(asn1::explicit(0), &[&asn1::sequence(&[certificate.der()])]);
        Ok(Self {
            key_hash: crypto::sha1(key.raw()),
            key,
            certs,
            not_after: certificate.not_after(),
        })
    }

    /// The last second at which it may answer.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// Why a certificate is no delegated responder's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponderError {
    /// Another CA signed it: RFC 6960 §4.2.2.2 wants the one that issued what is asked for.
    #[error(
        "the responder's certificate is not signed by the issuer whom it answers for (RFC 6960 §4.2.2.2)"
    )]
    Issuer,
    /// A key that we do not take.
    #[error("the responder's key is not acceptable")]
    Key(#[from] KeyError),
    /// Without id-pkix-ocsp-nocheck its readers would ask for its status in turn.
    #[error("the responder's certificate lacks id-pkix-ocsp-nocheck (RFC 6960 §4.2.2.2.1)")]
    NoCheck,
    /// Not for OCSP.
    #[error("the responder's certificate lacks the purpose OCSPSigning (RFC 6960 §4.2.2.2)")]
    Purpose,
}

/// Prepares a response.
///
/// # Errors
/// When it says nothing, its times do not follow each other, or it would outlive its responder.
pub fn prepare_response(
    request: &ResponseRequest<'_>,
    responder: &Responder,
) -> Result<Prepared<BasicResponse>, OcspResponseError> {
    let ResponseRequest {
        produced_at,
        this_update,
        next_update,
        statuses,
        nonce,
    } = *request;
    if statuses.is_empty() {
        return Err(OcspResponseError::Empty);
    }
    if this_update > produced_at || next_update <= produced_at {
        return Err(OcspResponseError::Dates);
    }
    if next_update > responder.not_after {
        return Err(OcspResponseError::OutlivesResponder {
            not_after: responder.not_after,
        });
    }
    let this = asn1::generalized_time(this_update);
    let next = asn1::tlv(asn1::explicit(0), &[&asn1::generalized_time(next_update)]);
    let mut singles = Vec::with_capacity(160 * statuses.len());
    for single in statuses {
        let status = status(single.status);
        singles.extend(asn1::sequence(&[single.id.der(), &status, &this, &next]));
    }
    let responder_id = asn1::tlv(
        asn1::explicit(2),
        &[&asn1::tlv(asn1::OCTET_STRING, &[&responder.key_hash])],
    );
    let extensions = nonce.map_or_else(Vec::new, |nonce| {
        let value = asn1::tlv(asn1::OCTET_STRING, &[nonce]);
        let extension = asn1::sequence(&[
            &asn1::tlv(asn1::OID, &[NONCE]),
            &asn1::tlv(asn1::OCTET_STRING, &[&value]),
        ]);
        asn1::tlv(asn1::explicit(1), &[&asn1::sequence(&[&extension])])
    });
    let tbs = asn1::sequence(&[
        &responder_id,
        &asn1::generalized_time(produced_at),
        &asn1::sequence(&[&singles]),
        &extensions,
    ]);
    Ok(Prepared::with_trailer(
        tbs,
        &responder.key,
        responder.certs.clone(),
    ))
}

fn status(status: Status) -> Vec<u8> {
    match status {
        Status::Good => vec![asn1::implicit(0), 0],
        Status::Revoked { at, reason } => {
            let code = match reason {
                Reason::Unspecified => Vec::new(),
                reason => asn1::tlv(
                    asn1::explicit(0),
                    &[&asn1::tlv(asn1::ENUMERATED, &[&[reason as u8]])],
                ),
            };
            asn1::tlv(asn1::explicit(1), &[&asn1::generalized_time(at), &code])
        }
        Status::Unknown => vec![asn1::implicit(2), 0],
    }
}

/// A signed BasicOCSPResponse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicResponse {
    der: Vec<u8>,
    produced_at: Timestamp,
    statuses: Vec<ReadStatus>,
    nonce: Option<Vec<u8>>,
}

/// A status as a response says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadStatus {
    /// The certificate's serial number; `None` for a number that no certificate has.
    pub serial: Option<Serial>,
    /// What is said of it.
    pub status: Status,
    /// When that is known to hold.
    pub this_update: Timestamp,
    /// When there is newer at the latest.
    pub next_update: Option<Timestamp>,
}

impl BasicResponse {
    /// Its DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// When it was signed.
    #[must_use]
    pub fn produced_at(&self) -> Timestamp {
        self.produced_at
    }

    /// What it says.
    #[must_use]
    pub fn statuses(&self) -> &[ReadStatus] {
        &self.statuses
    }

    /// The nonce that it repeats.
    #[must_use]
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    /// The whole OCSPResponse: successful, with this in it.
    #[must_use]
    pub fn to_response_der(&self) -> Vec<u8> {
        let bytes = asn1::sequence(&[
            &asn1::tlv(asn1::OID, &[BASIC]),
            &asn1::tlv(asn1::OCTET_STRING, &[&self.der]),
        ]);
        asn1::sequence(&[
            &[asn1::ENUMERATED, 1, 0],
            &asn1::tlv(asn1::explicit(0), &[&bytes]),
        ])
    }

    /// Reads a whole OCSPResponse. Its signature is not checked.
    ///
    /// # Errors
    /// When it is not a successful one with a basic response in it.
    pub fn of_response_der(der: &[u8]) -> Result<Self, OcspResponseError> {
        let mut outer = Der::new(Der::only(der, asn1::SEQUENCE)?)?;
        match outer.content(asn1::ENUMERATED)? {
            [0] => {}
            [code] => return Err(OcspResponseError::Unsuccessful(*code)),
            _ => return Err(OcspResponseError::Status),
        }
        let bytes = outer.content(asn1::explicit(0))?;
        outer.end()?;
        let mut bytes = Der::new(Der::only(bytes, asn1::SEQUENCE)?)?;
        if bytes.content(asn1::OID)? != BASIC {
            return Err(OcspResponseError::Status);
        }
        let response = bytes.content(asn1::OCTET_STRING)?.to_vec();
        bytes.end()?;
        Self::read(response)
    }
}

impl private::Sealed for BasicResponse {}

impl Artefact for BasicResponse {
    type Error = OcspResponseError;

    fn read(der: Vec<u8>) -> Result<Self, OcspResponseError> {
        let mut outer = Der::new(Der::only(&der, asn1::SEQUENCE)?)?;
        let mut fields = Der::new(outer.content(asn1::SEQUENCE)?)?;
        outer.content(asn1::SEQUENCE)?;
        outer.octet_aligned_bits()?;
        outer.optional(asn1::explicit(0))?;
        outer.end()?;
        // responderID: by name or by key
        if fields.optional(asn1::explicit(1))?.is_none() {
            fields.content(asn1::explicit(2))?;
        }
        let produced_at = fields.time()?;
        let mut list = Der::new(fields.content(asn1::SEQUENCE)?)?;
        let mut statuses = Vec::with_capacity(1);
        while !list.is_empty() {
            statuses.push(read_single(list.content(asn1::SEQUENCE)?)?);
        }
        let nonce = match fields.optional(asn1::explicit(1))? {
            Some(extensions) => read_nonce(extensions)?,
            None => None,
        };
        fields.end()?;
        Ok(Self {
            produced_at,
            statuses,
            nonce,
            der,
        })
    }
}

fn read_single(content: &[u8]) -> Result<ReadStatus, OcspResponseError> {
    let mut fields = Der::new(content)?;
    let mut id = Der::new(fields.content(asn1::SEQUENCE)?)?;
    id.content(asn1::SEQUENCE)?;
    id.content(asn1::OCTET_STRING)?;
    id.content(asn1::OCTET_STRING)?;
    let serial = Serial::from_der_content(id.content(asn1::INTEGER)?).ok();
    id.end()?;
    let (tag, content) = fields.any()?;
    let status = if tag == asn1::implicit(0) && content.is_empty() {
        Status::Good
    } else if tag == asn1::implicit(2) && content.is_empty() {
        Status::Unknown
    } else if tag == asn1::explicit(1) {
        let mut info = Der::new(content)?;
        let at = info.time()?;
        let reason = match info.optional(asn1::explicit(0))? {
            Some(code) => match Der::only(code, asn1::ENUMERATED)? {
                [code] => Reason::from_code(*code).unwrap_or(Reason::Unspecified),
                _ => return Err(OcspResponseError::Status),
            },
            None => Reason::Unspecified,
        };
        info.end()?;
        Status::Revoked { at, reason }
    } else {
        return Err(OcspResponseError::Status);
    };
    let this_update = fields.time()?;
    let next_update = match fields.optional(asn1::explicit(0))? {
        Some(time) => {
            let mut reader = Der::new(time)?;
            let time = reader.time()?;
            reader.end()?;
            Some(time)
        }
        None => None,
    };
    Ok(ReadStatus {
        serial,
        status,
        this_update,
        next_update,
    })
}

fn read_nonce(extensions: &[u8]) -> Result<Option<Vec<u8>>, OcspResponseError> {
    let mut list = Der::new(Der::only(extensions, asn1::SEQUENCE)?)?;
    let mut nonce = None;
    while !list.is_empty() {
        let mut fields = Der::new(list.content(asn1::SEQUENCE)?)?;
        let oid = fields.content(asn1::OID)?;
        fields.default_false()?;
        let value = fields.content(asn1::OCTET_STRING)?;
        if oid == NONCE {
            nonce = Some(Der::only(value, asn1::OCTET_STRING)?.to_vec());
        }
    }
    Ok(nonce)
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspResponseError {
    /// thisUpdate ≤ producedAt < nextUpdate does not hold.
    #[error("thisUpdate ≤ producedAt < nextUpdate does not hold (RFC 6960 §4.2.2.1)")]
    Dates,
    /// It says nothing.
    #[error("a response speaks of at least one certificate")]
    Empty,
    /// Not DER, or not a response.
    #[error("not the DER of an OCSP response")]
    NotDer(#[from] DerError),
    /// Its readers would find the responder's certificate expired.
    #[error(
        "the response would hold longer than its responder's certificate, which ends at {not_after}"
    )]
    OutlivesResponder {
        /// When the responder's certificate ends.
        not_after: Timestamp,
    },
    /// A serial number that RFC 5280 forbids.
    #[error("a serial number of the response is not acceptable")]
    Serial(#[from] SerialError),
    /// A status that RFC 6960 does not know.
    #[error("a status of the response is none of RFC 6960's")]
    Status,
    /// An error of the responder's.
    #[error("the responder answered with status {0}")]
    Unsuccessful(u8),
}
