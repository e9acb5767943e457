//! What a transcript records, part by part.

use serde::{Deserialize, Serialize};

use crate::ceremony::file_name::FileName;
use crate::ceremony::people::Person;
use crate::ceremony::plan::Plan;
use crate::ceremony::words::name_words;
use crate::certificate::Certificate;
use crate::crl::Crl;
use crate::crypto;
use crate::key::PublicKey;
use crate::name::KeyUri;
use crate::time::Timestamp;

/// How what was shown was confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// Somebody typed `yes`.
    Asked,
    /// Nobody was asked: a flag said so.
    ByFlag,
}

/// The plan as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRecord {
    /// Its file's name.
    pub file: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// Its text.
    pub text: String,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its name.
    pub file: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

impl Input {
    /// A file of these bytes.
    #[must_use]
    pub fn of(file: &str, bytes: &[u8]) -> Self {
        Self {
            file: file.to_owned(),
            sha256: crypto::hex(&crypto::sha256(bytes)),
        }
    }
}

/// What a witness saw and confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Who, as the plan writes it and the witness typed it.
    pub name: Person,
    /// The first digits of the plan's SHA-256 as the witness typed them; absent when nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256: Option<String>,
    /// The first digits of the SHA-256 of the root's key as the witness typed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_sha256: Option<String>,
}

/// How many digits of a digest a witness types.
pub const WITNESSED_DIGITS: usize = 8;

/// Shares that were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The set that they are of, as it stands on each of them.
    pub set: String,
    /// How many it takes.
    pub threshold: u8,
    /// Each of them; nothing of what they hold.
    #[serde(rename = "share")]
    pub shares: Vec<ShareRecord>,
}

/// Shares that opened a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The set that they are of.
    pub set: String,
    /// How many it takes.
    pub threshold: u8,
    /// Each that was used.
    #[serde(rename = "share")]
    pub shares: Vec<ShareRecord>,
}

/// A share, by its number and its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareRecord {
    /// Its number.
    pub number: u8,
    /// Who keeps it.
    pub holder: Person,
}

/// What a token says about the root's key, as it was when the ceremony was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOrigin {
    /// The key, as the token calls it.
    pub uri: KeyUri,
    /// Made in the token (`CKA_LOCAL`).
    pub local: bool,
    /// Cannot be read in the clear (`CKA_SENSITIVE`).
    pub sensitive: bool,
    /// Never could be (`CKA_ALWAYS_SENSITIVE`).
    pub always_sensitive: bool,
    /// Can be taken out, wrapped (`CKA_EXTRACTABLE`).
    pub extractable: bool,
    /// Never could be (`CKA_NEVER_EXTRACTABLE`).
    pub never_extractable: bool,
}

impl KeyOrigin {
    /// Whether it was made in its token and neither could nor can leave it, if the token is to be believed.
    #[must_use]
    pub fn is_confined(&self) -> bool {
        let cannot = self.sensitive && !self.extractable;
        self.local && cannot && self.always_sensitive && self.never_extractable
    }
}

/// What kind of file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputKind {
    /// A CA's certificate.
    Certificate,
    /// A CRL.
    Crl,
    /// The root's key file; nothing of its content is recorded.
    Key,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its name.
    pub file: FileName,
    /// What it is.
    pub kind: OutputKind,
    /// SHA-256 of its bytes; a key's is not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// A certificate's serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// A CRL's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// A certificate's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// SHA-256 of a certificate's or a key's SubjectPublicKeyInfo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_sha256: Option<String>,
    /// A certificate's or CRL's last second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
}

impl Output {
    fn new(file: &FileName, kind: OutputKind) -> Self {
        Self {
            file: file.clone(),
            kind,
            sha256: None,
            serial: None,
            number: None,
            subject: None,
            key_sha256: None,
            ends: None,
        }
    }

    /// A certificate, as its file's bytes hold it.
    #[must_use]
    pub fn certificate(file: &FileName, bytes: &[u8], certificate: &Certificate) -> Self {
        Self {
            sha256: Some(crypto::hex(&crypto::sha256(bytes))),
            serial: Some(certificate.serial().to_string()),
            subject: Some(name_words(certificate.subject())),
            key_sha256: Some(crypto::hex(&crypto::sha256(certificate.spki()))),
            ends: Some(certificate.not_after()),
            ..Self::new(file, OutputKind::Certificate)
        }
    }

    /// A CRL, as its file's bytes hold it.
    #[must_use]
    pub fn crl(file: &FileName, bytes: &[u8], crl: &Crl) -> Self {
        Self {
            sha256: Some(crypto::hex(&crypto::sha256(bytes))),
            number: crl.number(),
            ends: crl.next_update(),
            ..Self::new(file, OutputKind::Crl)
        }
    }

    /// The file of this key.
    #[must_use]
    pub fn key(file: &FileName, key: &PublicKey) -> Self {
        Self {
            key_sha256: Some(crypto::hex(&key.digest())),
            ..Self::new(file, OutputKind::Key)
        }
    }
}

impl PlanRecord {
    /// The plan, read from a file of this name.
    #[must_use]
    pub fn of(file: &str, plan: &Plan) -> Self {
        Self {
            file: file.to_owned(),
            sha256: crypto::hex(&plan.digest()),
            text: plan.text().to_owned(),
        }
    }
}
