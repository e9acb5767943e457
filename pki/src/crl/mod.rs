//! Certificate revocation lists of version 2 (RFC 5280 §5): one complete list per authority, without issuing distribution
//! point, delta or indirection, because those are what readers refuse; shards and deltas for whoever asks for them.

mod prepare;
mod reason;

use crate::artefact::{Artefact, private};
use crate::asn1::{self, Der, DerError};
use crate::crypto::{self, BadSignature};
use crate::extension as ext;
use crate::key::{PublicKey, SignatureAlgorithm};
use crate::lint::LintError;
use crate::serial::{Serial, SerialError};
use crate::time::Timestamp;

pub use prepare::{CrlRequest, Scope, prepare_crl};
pub use reason::{Reason, UnknownReason};

/// id-ce-cRLReasons.
const REASON_CODE: &[u8] = &[0x55, 0x1d, 0x15];

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Its serial number.
    pub serial: Serial,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// A signed CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
    tbs: (usize, usize),
    signature: Vec<u8>,
    fields: Fields,
}

/// What is signed of a CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    algorithm: SignatureAlgorithm,
    issuer: Vec<u8>,
    this_update: Timestamp,
    next_update: Option<Timestamp>,
    revoked: Vec<RevokedCertificate>,
    number: Option<u64>,
    authority_key_id: Option<Vec<u8>>,
    delta_base: Option<u64>,
    distribution_point: Option<Option<String>>,
    has_freshest: bool,
    unknown_critical: bool,
}

impl Crl {
    /// Reads the DER of a CertificateList. Its signature is not checked: see [`Crl::verify_by`].
    ///
    /// # Errors
    /// When it is not the DER of a version 2 CRL.
    pub fn parse(der: &[u8]) -> Result<Self, CrlError> {
        Self::read(der.to_vec())
    }

    /// Its DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its PEM, ending in a newline.
    #[must_use]
    pub fn to_pem(&self) -> String {
        crate::pem::crl(&self.der)
    }

    /// DER of the issuer's name.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.fields.issuer
    }

    /// When it was made.
    #[must_use]
    pub fn this_update(&self) -> Timestamp {
        self.fields.this_update
    }

    /// When its successor is out at the latest.
    #[must_use]
    pub fn next_update(&self) -> Option<Timestamp> {
        self.fields.next_update
    }

    /// Its CRLNumber, where it fits 64 bits.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.fields.number
    }

    /// The identifier of its issuer's key (RFC 5280 §5.2.1).
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.fields.authority_key_id.as_deref()
    }

    /// The revoked certificates, in its order.
    #[must_use]
    pub fn revoked(&self) -> &[RevokedCertificate] {
        &self.fields.revoked
    }

    /// Whether it lists this certificate.
    #[must_use]
    pub fn lists(&self, serial: &Serial) -> bool {
        self.fields
            .revoked
            .iter()
            .any(|entry| entry.serial == *serial)
    }

    /// The number of the complete CRL that it says what has changed since, when it is a delta (RFC 5280 §5.2.4).
    #[must_use]
    pub fn delta_base(&self) -> Option<u64> {
        self.fields.delta_base
    }

    /// The distribution point that it is limited to, when it is a shard (RFC 5280 §5.2.5).
    #[must_use]
    pub fn distribution_point(&self) -> Option<&str> {
        self.fields.distribution_point.as_ref()?.as_deref()
    }

    /// Whether it tells of every certificate of its issuer: no delta, no shard, and nothing critical that is not known here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.limits().is_none()
    }

    /// What keeps it from being complete, in words.
    #[must_use]
    pub fn limits(&self) -> Option<&'static str> {
        let fields = &self.fields;
        if fields.delta_base.is_some() {
            Some("it is a delta, of what has changed since another CRL (RFC 5280 §5.2.4)")
        } else if fields.distribution_point.is_some() {
            Some(
                "it has an issuing distribution point, which limits what it tells of (RFC 5280 §5.2.5)",
            )
        } else if fields.unknown_critical {
            Some("it has a critical extension that is not known here (RFC 5280 §5.2)")
        } else {
            None
        }
    }

    /// Checks its signature, over the bytes as they came.
    ///
    /// # Errors
    /// When the signature is not `key`'s.
    pub fn verify_by(&self, key: &PublicKey) -> Result<(), BadSignature> {
        crypto::verify(
            key,
            self.fields.algorithm,
            &self.der[self.tbs.0..self.tbs.1],
            &self.signature,
        )
    }
}

impl private::Sealed for Crl {}

impl Artefact for Crl {
    type Error = CrlError;

    fn read(der: Vec<u8>) -> Result<Self, CrlError> {
        let content = Der::only(&der, asn1::SEQUENCE)?;
        let mut outer = Der::new(content)?;
        let tbs = outer.whole()?;
        let identifier = outer.whole()?;
        let signature = outer.octet_aligned_bits()?.to_vec();
        outer.end()?;

        let fields = Fields::parse(tbs)?;
        if identifier != fields.algorithm.identifier() {
            return Err(CrlError::Version);
        }
        let start = der.len() - content.len();
        Ok(Self {
            tbs: (start, start + tbs.len()),
            signature,
            fields,
            der,
        })
    }
}

impl Fields {
    fn parse(tbs: &[u8]) -> Result<Self, CrlError> {
        let mut fields = Der::new(Der::only(tbs, asn1::SEQUENCE)?)?;
        if fields.decode::<u8>()? != 1 {
            return Err(CrlError::Version);
        }
        let algorithm =
            SignatureAlgorithm::from_identifier(fields.whole()?).ok_or(CrlError::Algorithm)?;
        let issuer = fields.whole()?.to_vec();
        let this_update = fields.time()?;
        let dated = fields.next_is(asn1::UTC_TIME) || fields.next_is(asn1::GENERALIZED_TIME);
        let next_update = dated.then(|| fields.time()).transpose()?;
        let revoked = match fields.optional(asn1::SEQUENCE)? {
            Some(entries) => revoked_certificates(entries)?,
            None => Vec::new(),
        };
        let mut read = Self {
            algorithm,
            issuer,
            this_update,
            next_update,
            revoked,
            number: None,
            authority_key_id: None,
            delta_base: None,
            distribution_point: None,
            has_freshest: false,
            unknown_critical: false,
        };
        read.take_extensions(fields.content(asn1::explicit(0))?)?;
        fields.end()?;
        Ok(read)
    }

    fn take_extensions(&mut self, der: &[u8]) -> Result<(), CrlError> {
        self.authority_key_id = ext::Extensions::parse(der)?.authority_key_id;
        let mut list = Der::new(Der::only(der, asn1::SEQUENCE)?)?;
        while !list.is_empty() {
            let mut fields = Der::new(list.content(asn1::SEQUENCE)?)?;
            let oid = fields.content(asn1::OID)?;
            let critical = fields.default_false()?;
            let value = fields.content(asn1::OCTET_STRING)?;
            match oid {
                ext::CRL_NUMBER => self.number = Der::new(value)?.decode::<u64>().ok(),
                // A base that does not fit is still a delta's.
                ext::DELTA_CRL_INDICATOR => {
                    let base = Der::new(value)?.decode::<u64>();
                    self.delta_base = Some(base.unwrap_or(u64::MAX));
                }
                ext::ISSUING_DISTRIBUTION_POINT => {
                    self.distribution_point = Some(ext::one_full_name(value)?);
                }
                ext::FRESHEST_CRL => self.has_freshest = true,
                ext::AUTHORITY_KEY_ID => {}
                _ => self.unknown_critical |= critical,
            }
        }
        Ok(())
    }
}

fn revoked_certificates(entries: &[u8]) -> Result<Vec<RevokedCertificate>, CrlError> {
    let mut list = Der::new(entries)?;
    let mut revoked = Vec::new();
    while !list.is_empty() {
        let mut entry = Der::new(list.content(asn1::SEQUENCE)?)?;
        revoked.push(RevokedCertificate {
            serial: Serial::from_der_content(entry.content(asn1::INTEGER)?)?,
            revoked_at: entry.time()?,
            reason: match entry.optional(asn1::SEQUENCE)? {
                Some(extensions) => entry_reason(extensions)?,
                None => Reason::Unspecified,
            },
        });
        entry.end()?;
    }
    Ok(revoked)
}

/// The reason among an entry's extensions (RFC 5280 §5.3): absent, or one that is not told apart here, is unspecified.
fn entry_reason(extensions: &[u8]) -> Result<Reason, CrlError> {
    let mut list = Der::new(extensions)?;
    let mut reason = Reason::Unspecified;
    while !list.is_empty() {
        let mut fields = Der::new(list.content(asn1::SEQUENCE)?)?;
        let is_reason = fields.content(asn1::OID)? == REASON_CODE;
        let critical = fields.default_false()?;
        let value = fields.content(asn1::OCTET_STRING)?;
        fields.end()?;
        if is_reason {
            let [code] = Der::only(value, asn1::ENUMERATED)? else {
                return Err(CrlError::Reason);
            };
            reason = Reason::from_code(*code).unwrap_or(Reason::Unspecified);
        } else if critical {
            return Err(CrlError::CriticalExtension);
        }
    }
    Ok(reason)
}

/// Why there is no CRL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Signed with an algorithm that we do not take.
    #[error("the CRL is signed with an algorithm that is not known here")]
    Algorithm,
    /// An entry has a critical extension that is not known here (RFC 5280 §5.3).
    #[error("an entry of the CRL has a critical extension that is not known here")]
    CriticalExtension,
    /// A clause that the list would have broken.
    #[error("the CRL would not be accepted by its readers")]
    Lint(#[from] LintError),
    /// nextUpdate is not after thisUpdate.
    #[error("the CRL's nextUpdate is not after its thisUpdate")]
    Dates,
    /// The issuer's certificate lacks cRLSign.
    #[error("the issuer may not sign CRLs: its key usage lacks cRLSign (RFC 5280 §4.2.1.3)")]
    NoCrlSign,
    /// Not DER, or not a CRL.
    #[error("not the DER of a CRL")]
    NotDer(#[from] DerError),
    /// A reason that is not one octet.
    #[error("an entry of the CRL has a reason that is not one octet (RFC 5280 §5.3.1)")]
    Reason,
    /// A serial number that RFC 5280 forbids.
    #[error("a serial number of the CRL is not acceptable")]
    Serial(#[from] SerialError),
    /// Not version 2, or two signature algorithms.
    #[error("not a CRL of version 2 with one signature algorithm (RFC 5280 §5.1)")]
    Version,
}
