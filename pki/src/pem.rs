//! PEM (RFC 7468): what strangers send is read leniently, what we write is strict.

use pem_rfc7468::LineEnding;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer,
};

/// Why a text gave no PEM block of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// A block is broken: its base64, or its end line.
    #[error("a PEM block is broken: its base64, or its END line")]
    Broken,
    /// Another number of blocks than wanted.
    #[error("expected {expected} PEM block(s) {label:?}, found {found}")]
    Count {
        /// The wanted label.
        label: &'static str,
        /// How many were wanted.
        expected: &'static str,
        /// How many there were.
        found: usize,
    },
}

const CERTIFICATE: &str = "CERTIFICATE";
const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
const CRL: &str = "X509 CRL";

/// The one certificate request in `text`, as DER.
///
/// # Errors
/// When there is none, more than one, or a broken block.
pub fn read_request(text: &[u8]) -> Result<Vec<u8>, PemError> {
    let found = collect(CertificateSigningRequestDer::pem_slice_iter(text))?;
    match <[CertificateSigningRequestDer<'_>; 1]>::try_from(found) {
        Ok([request]) => Ok(request.to_vec()),
        Err(found) => Err(PemError::Count {
            label: CERTIFICATE_REQUEST,
            expected: "one",
            found: found.len(),
        }),
    }
}

/// Every certificate in `text`, in order, as DER; at least one.
///
/// # Errors
/// When there is none, or a broken block.
pub fn read_certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let found = collect(CertificateDer::pem_slice_iter(text))?;
    if found.is_empty() {
        return Err(PemError::Count {
            label: CERTIFICATE,
            expected: "one or more",
            found: 0,
        });
    }
    Ok(found.iter().map(|der| der.to_vec()).collect())
}

/// Every CRL in `text`, in order, as DER; at least one.
///
/// # Errors
/// When there is none, or a broken block.
pub fn read_crls(text: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let found = collect(CertificateRevocationListDer::pem_slice_iter(text))?;
    if found.is_empty() {
        return Err(PemError::Count {
            label: CRL,
            expected: "one or more",
            found: 0,
        });
    }
    Ok(found.iter().map(|der| der.as_ref().to_vec()).collect())
}

fn collect<T>(
    blocks: impl Iterator<Item = Result<T, rustls_pki_types::pem::Error>>,
) -> Result<Vec<T>, PemError> {
    blocks
        .collect::<Result<_, _>>()
        .map_err(|_| PemError::Broken)
}

/// A certificate as PEM, ending in a newline.
#[must_use]
pub fn certificate(der: &[u8]) -> String {
    encode(CERTIFICATE, der)
}

/// A certificate request as PEM, ending in a newline.
#[must_use]
pub fn request(der: &[u8]) -> String {
    encode(CERTIFICATE_REQUEST, der)
}

/// A CRL as PEM, ending in a newline.
#[must_use]
pub fn crl(der: &[u8]) -> String {
    encode(CRL, der)
}

fn encode(label: &'static str, der: &[u8]) -> String {
    #[expect(
        clippy::expect_used,
        reason = "fails only on a label with control characters or on 2^60 bytes"
    )]
    pem_rfc7468::encode_string(label, LineEnding::LF, der).expect("our labels are printable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        let pem = certificate(&[7; 100]);
        assert!(pem.ends_with("-----END CERTIFICATE-----\n"));
        assert_eq!(read_certificates(pem.as_bytes()), Ok(vec![vec![7; 100]]));
    }

    #[test]
    fn one_request_is_one_request() {
        let one = request(&[1, 2, 3]);
        assert_eq!(read_request(one.as_bytes()), Ok(vec![1, 2, 3]));
        assert!(read_request(format!("{one}{one}").as_bytes()).is_err());
        assert!(read_request(b"").is_err());
        assert_eq!(
            read_request(
                b"-----BEGIN CERTIFICATE REQUEST-----\n!!\n-----END CERTIFICATE REQUEST-----\n"
            ),
            Err(PemError::Broken)
        );
    }
}
