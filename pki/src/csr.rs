//! Certificate requests (PKCS#10, RFC 2986): `Csr` is read, `VerifiedCsr` is proven to hold its key.

use crate::artefact::{Artefact, Prepared, private};
use crate::asn1::{self, Der, DerError};
use crate::crypto::{self, BadSignature, Digest};
use crate::extension::{AUTHORITY_KEY_ID, AltName, Extensions, KeyUsage, Purpose};
use crate::key::{KeyError, PublicKey, SignatureAlgorithm};
use crate::name::DistinguishedName;

/// The largest request that is read at all: an RSA-4096 key with a hundred names fits in a quarter of it.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// The most names that are read from a request.
pub const MAX_NAMES: usize = 100;

const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// Microsoft's own extension request, 1.3.6.1.4.1.311.2.1.14: read so that nothing hides in it.
const EXTENSION_REQUEST_MICROSOFT: &[u8] =
    &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0e];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// A request that is well-formed, holds a key that we take and asks for nothing that no caller gets. Its
/// signature is not checked yet.
#[derive(Clone, Debug)]
pub struct Csr {
    info: Vec<u8>,
    digest: Digest,
    key: PublicKey,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
    subject: Vec<u8>,
    common_names: Vec<String>,
    extensions: Extensions,
}

impl Csr {
    /// Reads the DER of a CertificationRequest.
    ///
    /// # Errors
    /// When it is too large, not DER, its key or signature algorithm is not one that we take, or it asks for an
    /// extension that only the CA decides about. Sizes are checked before anything is read.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(CsrError::TooLarge(der.len()));
        }
        let mut outer = Der::new(Der::only(der, asn1::SEQUENCE)?)?;
        let info = outer.whole()?;
        let algorithm = outer.whole()?;
        let signature = outer.octet_aligned_bits()?;
        outer.end()?;

        let mut fields = Der::new(Der::only(info, asn1::SEQUENCE)?)?;
        if fields.decode::<u8>()? != 0 {
            return Err(CsrError::Version);
        }
        let subject = fields.whole()?;
        let spki = fields.whole()?;
        let attributes = fields.content(asn1::explicit(0))?;
        fields.end()?;
        let common_names = common_names(subject)?;
        let extensions = requested_extensions(attributes)?;
        let key = PublicKey::from_spki(spki)?;
        let algorithm =
            SignatureAlgorithm::from_request_identifier(algorithm).ok_or(CsrError::Algorithm)?;
        refuse_what_the_ca_decides(&extensions)?;
        Ok(Self {
            info: info.to_vec(),
            digest: crypto::sha256(der),
            key,
            algorithm,
            signature: signature.to_vec(),
            subject: subject.to_vec(),
            common_names,
            extensions,
        })
    }

    /// Checks that the request was signed with the key that it holds: the proof of possession.
    ///
    /// # Errors
    /// When the signature does not verify.
    pub fn verify(self) -> Result<VerifiedCsr, CsrError> {
        crypto::verify(&self.key, self.algorithm, &self.info, &self.signature)?;
        Ok(VerifiedCsr(self))
    }
}

/// A request whose sender holds its key.
#[derive(Clone, Debug)]
pub struct VerifiedCsr(Csr);

impl VerifiedCsr {
    /// Reads and verifies the DER of a CertificationRequest.
    ///
    /// # Errors
    /// As [`Csr::parse`] and [`Csr::verify`].
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        Csr::parse(der)?.verify()
    }

    /// The key that is to be certified.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.0.key
    }

    /// SHA-256 of the request's DER.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// DER of the subject that was asked for.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.0.subject
    }

    /// The non-empty common names that were asked for.
    #[must_use]
    pub fn common_names(&self) -> &[String] {
        &self.0.common_names
    }

    /// The alternative names that were asked for.
    #[must_use]
    pub fn alt_names(&self) -> &[AltName] {
        self.0
            .extensions
            .alt_names
            .as_ref()
            .map_or(&[], |(names, _)| names)
    }

    /// The purposes that were asked for.
    #[must_use]
    pub fn purposes(&self) -> &[Purpose] {
        self.0.extensions.purposes.as_deref().unwrap_or_default()
    }

    /// Whether a CA certificate was asked for: in basicConstraints or by keyCertSign or cRLSign.
    #[must_use]
    pub fn asks_for_authority(&self) -> bool {
        asks_for_authority(&self.0.extensions)
    }
}

fn asks_for_authority(extensions: &Extensions) -> bool {
    extensions.basic_constraints.is_some_and(|(ca, _)| ca)
        || extensions
            .key_usage
            .is_some_and(|u| u.has(KeyUsage::KeyCertSign) || u.has(KeyUsage::CrlSign))
}

fn refuse_what_the_ca_decides(extensions: &Extensions) -> Result<(), CsrError> {
    if extensions.unknown_critical {
        return Err(CsrError::CriticalExtension);
    }
    if extensions.has_name_constraints
        || extensions.has_issuer_extensions
        || extensions.find(AUTHORITY_KEY_ID).is_some()
    {
        return Err(CsrError::IssuerExtension);
    }
    match &extensions.alt_names {
        Some((names, _)) if names.len() > MAX_NAMES => Err(CsrError::TooManyNames(names.len())),
        _ => Ok(()),
    }
}

/// Reads the attributes' extension requests; a request in both places would let the second hide, so it is refused.
fn requested_extensions(attributes: &[u8]) -> Result<Extensions, CsrError> {
    let mut list = Der::new(attributes)?;
    let mut requested = None;
    while !list.is_empty() {
        let mut attribute = Der::new(list.content(asn1::SEQUENCE)?)?;
        let oid = attribute.content(asn1::OID)?;
        let values = attribute.content(asn1::SET)?;
        attribute.end()?;
        if values.is_empty() {
            return Err(CsrError::Attribute);
        }
        if oid == EXTENSION_REQUEST || oid == EXTENSION_REQUEST_MICROSOFT {
            let extensions = Extensions::parse(values)?;
            if requested.replace(extensions).is_some() {
                return Err(CsrError::Attribute);
            }
        }
    }
    Ok(requested.unwrap_or_default())
}

/// The common names of a Name, read as text where they are one; empty ones (Istio's agent sends an empty
/// organization) count as absent.
pub(crate) fn common_names(name: &[u8]) -> Result<Vec<String>, DerError> {
    let mut rdns = Der::new(Der::only(name, asn1::SEQUENCE)?)?;
    let mut found = Vec::new();
    while !rdns.is_empty() {
        let mut attributes = Der::new(rdns.content(asn1::SET)?)?;
        while !attributes.is_empty() {
            let mut attribute = Der::new(attributes.content(asn1::SEQUENCE)?)?;
            let oid = attribute.content(asn1::OID)?;
            let (_, value) = attribute.any()?;
            attribute.end()?;
            if oid == COMMON_NAME && !value.is_empty() {
                found.push(String::from_utf8_lossy(value).into_owned());
            }
        }
    }
    Ok(found)
}

/// A request of ours: an authority's, on its way to whoever signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest(Vec<u8>);

impl CertificateRequest {
    /// DER of the CertificationRequest.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

impl private::Sealed for CertificateRequest {}

impl Artefact for CertificateRequest {
    type Error = CsrError;

    fn read(der: Vec<u8>) -> Result<Self, CsrError> {
        Csr::parse(&der)?;
        Ok(Self(der))
    }
}

/// Prepares a request for a certificate of `key` under `subject`, without extensions: what the certificate becomes
/// is for its signer to say.
#[must_use]
pub fn prepare_request(
    subject: &DistinguishedName,
    key: &PublicKey,
) -> Prepared<CertificateRequest> {
    let info = asn1::sequence(&[
        &asn1::unsigned(0),
        &subject.to_der(),
        key.spki(),
        &asn1::tlv(asn1::explicit(0), &[]),
    ]);
    Prepared::new(info, key)
}

/// Why a request was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Signed with an algorithm that we do not take.
    #[error(
        "the request is signed with an algorithm other than ECDSA or RSA with SHA-2, or Ed25519"
    )]
    Algorithm,
    /// An attribute without a value, or two extension requests.
    #[error("an attribute has no value, or extensions are requested twice (RFC 2986 §4.1)")]
    Attribute,
    /// A critical extension that we do not know.
    #[error("the request has a critical extension that is not known here")]
    CriticalExtension,
    /// An extension that only the issuer gives.
    #[error(
        "the request asks for an extension that only the issuer gives (name constraints, AIA, CRL distribution points, authority key id, ocsp-nocheck)"
    )]
    IssuerExtension,
    /// The key is not one that we take.
    #[error("the request's key is not acceptable")]
    Key(#[from] KeyError),
    /// Not DER, or not a CertificationRequest.
    #[error("the request is not the DER of a PKCS#10 request")]
    NotDer(#[from] DerError),
    /// The sender has not proven that it holds the key.
    #[error("the request's signature does not prove possession of its key")]
    Possession(#[from] BadSignature),
    /// More bytes than are read.
    #[error("the request has {0} bytes, {MAX_REQUEST_BYTES} are allowed")]
    TooLarge(usize),
    /// More names than are read.
    #[error("the request asks for {0} names, {MAX_NAMES} are allowed")]
    TooManyNames(usize),
    /// Not version 0.
    #[error("the request's version is not 0 (RFC 2986 §4.1)")]
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(algorithm: &'static rcgen::SignatureAlgorithm, names: &[&str]) -> Vec<u8> {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            let uri = rcgen::string::Ia5String::try_from(*name).unwrap();
            params.subject_alt_names.push(rcgen::SanType::URI(uri));
        }
        params.serialize_request(&pair).unwrap().der().to_vec()
    }

    #[test]
    fn reads_what_rcgen_writes() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ] {
            let csr = VerifiedCsr::parse(&request(algorithm, &["spiffe://td/a"])).unwrap();
            assert_eq!(csr.alt_names(), [AltName::Uri("spiffe://td/a".into())]);
            assert!(!csr.asks_for_authority());
        }
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        let good = request(&rcgen::PKCS_ECDSA_P256_SHA256, &["spiffe://td/a"]);
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x01;
            assert!(VerifiedCsr::parse(&bad).is_err(), "byte {i}");
        }
        for length in 0..good.len() {
            assert!(Csr::parse(&good[..length]).is_err());
        }
    }

    #[test]
    fn oversize_is_refused_before_reading() {
        assert_eq!(
            Csr::parse(&vec![0x30; MAX_REQUEST_BYTES + 1]).unwrap_err(),
            CsrError::TooLarge(MAX_REQUEST_BYTES + 1)
        );
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = Csr::parse(&bytes);
        }
    }
}
