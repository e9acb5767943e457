//! A new key and the request that asks for its certificate.

use std::str::FromStr;

use pki::certificate::Fields;
use pki::extension::{AltName, SubjectNames};
use pki::name::{DistinguishedName, DnsName, NameError, SpiffeId};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What kind of key is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// ECDSA on P-256: what every reader takes.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
}

impl KeyKind {
    fn algorithm(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }
}

impl FromStr for KeyKind {
    type Err = IdentityError;

    fn from_str(s: &str) -> Result<Self, IdentityError> {
        match s {
            "p256" => Ok(Self::P256),
            "p384" => Ok(Self::P384),
            _ => Err(IdentityError::KeyKind(s.chars().take(40).collect())),
        }
    }
}

/// A key that was just made, and its request.
pub struct NewKey {
    key: Zeroizing<String>,
    csr: Vec<u8>,
}

impl NewKey {
    /// Makes a key and a request that names `names` and nothing else; no names is a request for whatever the server
    /// says the caller is.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(kind: KeyKind, names: &SubjectNames) -> Result<Self, IdentityError> {
        let algorithm = kind.algorithm();
        // rcgen's copy of the key is wiped too; what ring keeps in its own is not (it has no way to ask for it).
        Self::of_pair(&Zeroizing::new(KeyPair::generate_for(algorithm)?), names)
    }

    /// The same for a key that was made before, PEM of PKCS#8.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn from_pem(key: &str, names: &SubjectNames) -> Result<Self, IdentityError> {
        Self::of_pair(&Zeroizing::new(KeyPair::from_pem(key)?), names)
    }

    /// Makes a key and a request for an administrator's certificate, whose whole name is this common name.
    ///
    /// # Errors
    /// When the name is none, or the system gives no randomness.
    pub fn generate_for_person(kind: KeyKind, name: &str) -> Result<Self, IdentityError> {
        let algorithm = kind.algorithm();
        Self::for_person(&Zeroizing::new(KeyPair::generate_for(algorithm)?), name)
    }

    /// The same for a key that was made before, PEM of PKCS#8.
    ///
    /// # Errors
    /// When the key or the name is none.
    pub fn from_pem_for_person(key: &str, name: &str) -> Result<Self, IdentityError> {
        Self::for_person(&Zeroizing::new(KeyPair::from_pem(key)?), name)
    }

    fn for_person(pair: &KeyPair, name: &str) -> Result<Self, IdentityError> {
        // What the server takes is checked before there is a key that it would have no use for.
        DistinguishedName::new(None, name)?;
        let mut subject = rcgen::DistinguishedName::new();
        subject.push(rcgen::DnType::CommonName, name);
        Self::request(pair, subject, &SubjectNames::default())
    }

    fn of_pair(pair: &KeyPair, names: &SubjectNames) -> Result<Self, IdentityError> {
        Self::request(pair, rcgen::DistinguishedName::new(), names)
    }

    fn request(
        pair: &KeyPair,
        subject: rcgen::DistinguishedName,
        names: &SubjectNames,
    ) -> Result<Self, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.subject_alt_names = alt_names(names)?;
        let csr = params.serialize_request(pair)?.der().to_vec();
        Ok(Self {
            key: Zeroizing::new(pair.serialize_pem()),
            csr,
        })
    }

    /// PEM of the PKCS#8 key.
    #[must_use]
    pub fn key_pem(&self) -> &Zeroizing<String> {
        &self.key
    }

    /// DER of the request.
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewKey(...)")
    }
}

fn alt_names(names: &SubjectNames) -> Result<Vec<SanType>, IdentityError> {
    let mut list = Vec::new();
    if let Some(id) = &names.spiffe {
        list.push(SanType::URI(id.as_str().try_into()?));
    }
    for name in &names.dns {
        list.push(SanType::DnsName(name.as_str().try_into()?));
    }
    list.extend(names.ip.iter().copied().map(SanType::IpAddress));
    Ok(list)
}

/// The names of a certificate, to ask for them again.
pub(crate) fn names_of(certificate: &Fields) -> Result<SubjectNames, IdentityError> {
    let mut names = SubjectNames::default();
    for name in certificate.alt_names() {
        match name {
            AltName::Uri(uri) if names.spiffe.is_none() => {
                names.spiffe = Some(SpiffeId::parse(uri)?);
            }
            AltName::Dns(name) => names.dns.push(DnsName::parse(name)?),
            AltName::Ip(address) => names.ip.push(*address),
            other => return Err(IdentityError::OtherName(other.to_string())),
        }
    }
    Ok(names)
}

/// Whether `key`, PEM of PKCS#8, is the private half of the certificate's key.
pub(crate) fn is_key_of(key: &str, certificate: &Fields) -> bool {
    let (Ok(pair), Ok(public)) = (
        KeyPair::from_pem(key).map(Zeroizing::new),
        pki::key::PublicKey::from_spki(certificate.spki()),
    ) else {
        return false;
    };
    pair.public_key_raw() == public.raw()
}

/// Why a key or a request was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a kind of key.
    #[error("{0:?} is not a kind of key: p256 or p384")]
    KeyKind(String),
    /// rcgen made none.
    #[error("no key or request was made")]
    Make(#[from] rcgen::Error),
    /// A request that the server would refuse unread.
    #[error("the request is not one")]
    Csr(#[from] pki::csr::CsrError),
    /// A name that does not read.
    #[error("a name is not acceptable")]
    Name(#[from] NameError),
    /// A name in the current certificate that is never asked for here.
    #[error("the certificate has a name that cannot be asked for again: {0}")]
    OtherName(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::csr::VerifiedCsr;
    use pki::key::KeyAlgorithm;

    #[test]
    fn the_request_holds_the_key_and_the_names_and_nothing_else() {
        let names = SubjectNames {
            spiffe: None,
            dns: vec![DnsName::parse("a.example").unwrap()],
            ip: vec!["192.0.2.1".parse().unwrap()],
        };
        for (kind, algorithm) in [
            (KeyKind::P256, KeyAlgorithm::EcdsaP256),
            (KeyKind::P384, KeyAlgorithm::EcdsaP384),
        ] {
            let made = NewKey::generate(kind, &names).unwrap();
            let csr = VerifiedCsr::parse(made.csr()).unwrap();
            assert_eq!(csr.key().algorithm(), algorithm);
            let asked: Vec<String> = csr.alt_names().iter().map(ToString::to_string).collect();
            assert_eq!(asked, names.to_strings());
            assert!(csr.common_names().is_empty() && csr.purposes().is_empty());
            assert!(!format!("{made:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn an_administrators_request_holds_the_key_and_the_name() {
        let made = NewKey::generate_for_person(KeyKind::P256, "Ada Lovelace").unwrap();
        let csr = VerifiedCsr::parse(made.csr()).unwrap();
        assert_eq!(csr.common_names(), ["Ada Lovelace"]);
        assert!(csr.alt_names().is_empty());
        let again = NewKey::from_pem_for_person(made.key_pem(), "Ada Lovelace").unwrap();
        let again = VerifiedCsr::parse(again.csr()).unwrap();
        assert_eq!(again.key().spki(), csr.key().spki());
        assert!(NewKey::generate_for_person(KeyKind::P256, "").is_err());
    }

    #[test]
    fn every_request_has_a_key_of_its_own() {
        let make = || NewKey::generate(KeyKind::P256, &SubjectNames::default()).unwrap();
        assert_ne!(make().key_pem(), make().key_pem());
    }
}
