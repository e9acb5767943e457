//! Certificates: read, prepared, sealed.

mod issuer;
mod prepare;

pub use issuer::{Issuer, IssuerError};
pub use prepare::{
    AgainRequest, AuthorityRequest, LeafRequest, PrepareError, Urls, prepare_again,
    prepare_authority, prepare_leaf, prepare_root,
};

use crate::artefact::{Artefact, private};
use crate::asn1::{self, Der, DerError};
use crate::crypto::{self, BadSignature, Digest};
use crate::extension::{AltName, Extensions, KeyUsage};
use crate::key::{KeyError, PublicKey, SignatureAlgorithm};
use crate::name::{NameError, SpiffeId};
use crate::serial::{Serial, SerialError};
use crate::time::Timestamp;

/// The fields of a TBSCertificate (RFC 5280 §4.1.2), version 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    serial: Serial,
    algorithm: Option<SignatureAlgorithm>,
    issuer: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    subject: Vec<u8>,
    spki: Vec<u8>,
    extensions: Extensions,
}

impl Fields {
    /// Reads the DER of a TBSCertificate.
    pub(crate) fn parse(tbs: &[u8]) -> Result<Self, CertificateError> {
        let mut fields = Der::new(Der::only(tbs, asn1::SEQUENCE)?)?;
        let mut version = Der::new(fields.content(asn1::explicit(0))?)?;
        if version.decode::<u8>()? != 2 {
            return Err(CertificateError::Version);
        }
        version.end()?;
        let serial = Serial::from_der_content(fields.content(asn1::INTEGER)?)?;
        let algorithm = SignatureAlgorithm::from_identifier(fields.whole()?);
        let issuer = fields.whole()?.to_vec();
        let mut validity = Der::new(fields.content(asn1::SEQUENCE)?)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.end()?;
        let subject = fields.whole()?.to_vec();
        let spki = fields.whole()?.to_vec();
        let extensions = match fields.optional(asn1::explicit(3))? {
            Some(extensions) => Extensions::parse(extensions)?,
            None => Extensions::default(),
        };
        fields.end()?;
        Ok(Self {
            serial,
            algorithm,
            issuer,
            not_before,
            not_after,
            subject,
            spki,
            extensions,
        })
    }

    /// The serial number.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// The algorithm it is signed with; `None` for one that we do not take.
    #[must_use]
    pub fn algorithm(&self) -> Option<SignatureAlgorithm> {
        self.algorithm
    }

    /// DER of the issuer's name.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// The first second of validity.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second of validity.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// DER of the subject's name.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The common name of its subject, where there is exactly one.
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        let mut names = crate::csr::common_names(self.subject()).ok()?;
        let name = names.pop();
        name.filter(|_| names.is_empty())
    }

    /// DER of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The extensions.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Whether it is a CA's: basicConstraints with cA TRUE and keyCertSign.
    #[must_use]
    pub fn is_authority(&self) -> bool {
        self.extensions.basic_constraints.is_some_and(|(ca, _)| ca)
            && self
                .extensions
                .key_usage
                .is_some_and(|u| u.has(KeyUsage::KeyCertSign))
    }

    /// Whether it says anything of a CA: X509-SVID §4.1 and §4.3 want none of it in a leaf.
    #[must_use]
    pub fn claims_authority(&self) -> bool {
        self.extensions.basic_constraints.is_some_and(|(ca, _)| ca)
            || self
                .extensions
                .key_usage
                .is_some_and(|u| u.has(KeyUsage::KeyCertSign) || u.has(KeyUsage::CrlSign))
    }

    /// Whether `now` lies in its validity.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// The alternative names.
    #[must_use]
    pub fn alt_names(&self) -> &[AltName] {
        self.extensions
            .alt_names
            .as_ref()
            .map_or(&[], |(names, _)| names)
    }

    /// Its SPIFFE id, as X509-SVID §5.2 reads one: not a CA's, and exactly one URI.
    ///
    /// # Errors
    /// When it is a CA's, has no or several URIs, or the URI is not a SPIFFE id.
    pub fn spiffe_id(&self) -> Result<SpiffeId, SpiffeError> {
        if self.claims_authority() {
            return Err(SpiffeError::Authority);
        }
        let mut uris = self.alt_names().iter().filter_map(|name| match name {
            AltName::Uri(uri) => Some(uri),
            _ => None,
        });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Ok(SpiffeId::parse(uri)?),
            _ => Err(SpiffeError::NotOneUri),
        }
    }
}

/// Why a certificate is no workload's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// A CA's certificate is never used for authentication (X509-SVID §4.1).
    #[error("it is a CA's certificate (X509-SVID §4.1)")]
    Authority,
    /// Not exactly one URI.
    #[error("it has not exactly one URI (X509-SVID §2)")]
    NotOneUri,
    /// The URI is not a SPIFFE id.
    #[error("its URI is not a SPIFFE id")]
    Name(#[from] NameError),
}

/// A certificate, signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    tbs_end: usize,
    tbs_at: usize,
    signature: Vec<u8>,
    fields: Fields,
}

impl Certificate {
    /// Reads the DER of a Certificate. Its signature is not checked: see [`Certificate::verify_by`].
    ///
    /// # Errors
    /// When it is not the DER of a version 3 certificate, or its two signature algorithms differ.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        Self::read(der.to_vec())
    }

    /// Reads every certificate of a PEM text, in order.
    ///
    /// # Errors
    /// When the text has none, or one is not a certificate.
    pub fn parse_pem(text: &[u8]) -> Result<Vec<Self>, CertificateError> {
        crate::pem::read_certificates(text)?
            .into_iter()
            .map(Self::read)
            .collect()
    }

    /// Its DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its PEM, ending in a newline.
    #[must_use]
    pub fn to_pem(&self) -> String {
        crate::pem::certificate(&self.der)
    }

    /// SHA-256 of its DER.
    #[must_use]
    pub fn digest(&self) -> Digest {
        crypto::sha256(&self.der)
    }

    /// Its key.
    ///
    /// # Errors
    /// When it is not one that we take.
    pub fn public_key(&self) -> Result<PublicKey, KeyError> {
        PublicKey::from_spki(&self.fields.spki)
    }

    /// Whether issuer and subject are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.fields.issuer == self.fields.subject
    }

    /// Checks its signature, over the bytes as they came.
    ///
    /// # Errors
    /// When the signature is not `key`'s.
    pub fn verify_by(&self, key: &PublicKey) -> Result<(), BadSignature> {
        let algorithm = self.fields.algorithm.ok_or(BadSignature)?;
        crypto::verify(
            key,
            algorithm,
            &self.der[self.tbs_at..self.tbs_end],
            &self.signature,
        )
    }
}

impl std::ops::Deref for Certificate {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.fields
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.fields.serial)
    }
}

impl private::Sealed for Certificate {}

impl Artefact for Certificate {
    type Error = CertificateError;

    fn read(der: Vec<u8>) -> Result<Self, CertificateError> {
        let content = Der::only(&der, asn1::SEQUENCE)?;
        let mut outer = Der::new(content)?;
        let tbs = outer.whole()?;
        let algorithm = SignatureAlgorithm::from_identifier(outer.whole()?);
        let signature = outer.octet_aligned_bits()?.to_vec();
        outer.end()?;
        let fields = Fields::parse(tbs)?;
        // RFC 5280 §4.1.1.2: both fields name the same algorithm.
        if fields.algorithm != algorithm {
            return Err(CertificateError::Algorithms);
        }
        let tbs_at = der.len() - content.len();
        let tbs_end = tbs_at + tbs.len();
        Ok(Self {
            tbs_at,
            tbs_end,
            signature,
            fields,
            der,
        })
    }
}

/// Why bytes are not a certificate that we read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The two signature algorithms differ.
    #[error("the certificate names two different signature algorithms (RFC 5280 §4.1.1.2)")]
    Algorithms,
    /// Not DER, or not a certificate.
    #[error("not the DER of an X.509 certificate")]
    NotDer(#[from] DerError),
    /// Not PEM.
    #[error("not the PEM of a certificate")]
    NotPem(#[from] crate::pem::PemError),
    /// A serial number that RFC 5280 forbids.
    #[error("its serial number is not acceptable")]
    Serial(#[from] SerialError),
    /// Not version 3.
    #[error("not an X.509 certificate of version 3")]
    Version,
}
