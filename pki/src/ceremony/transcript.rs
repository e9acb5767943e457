//! The transcript: what was done, for whoever was not there. TOML, signed by the root in its last line.

use serde::{Deserialize, Serialize};

use crate::artefact::{Artefact, Prepared, private};
use crate::asn1::{self, Der, DerError};
use crate::ceremony::file_name::FileName;
use crate::ceremony::plan::Plan;
use crate::ceremony::prepare::Known;
use crate::ceremony::words::name_words;
use crate::certificate::Certificate;
use crate::crl::Crl;
use crate::crypto::{self, BadSignature};
use crate::key::{PublicKey, SignatureAlgorithm};
use crate::time::Timestamp;

/// The longest transcript that is read.
const MAX_BYTES: usize = 1024 * 1024;
/// The version of transcripts that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Stands before what is signed: with it, and as an OCTET STRING, it is never the beginning of a certificate or CRL.
const CONTEXT: &[u8] = b"signet ceremony transcript v1\n";
const SIGNATURE_LINE: &str = "# signed by the root: ";

/// What was done in a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// 1.
    pub version: u32,
    /// The program and its version.
    pub tool: String,
    /// What was done: the plan's word for it.
    pub ceremony: String,
    /// When the plan was read: the time that counts in what was signed.
    pub started: Timestamp,
    /// When everything was signed.
    pub finished: Timestamp,
    /// How it was confirmed.
    pub confirmation: Confirmation,
    /// The root's name.
    pub root_subject: String,
    /// SHA-256 of the root's SubjectPublicKeyInfo.
    pub root_key_sha256: String,
    /// The plan.
    pub plan: PlanRecord,
    /// Earlier transcripts, whose authorities' keys and names were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Input>,
    /// What was read.
    #[serde(default, rename = "input", skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// What was written.
    #[serde(rename = "output")]
    pub outputs: Vec<Output>,
}

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

impl Transcript {
    /// Prepares its signature by the root.
    ///
    /// # Errors
    /// When it cannot be written as TOML.
    pub fn prepare(&self, root: &PublicKey) -> Result<Prepared<SignedTranscript>, TranscriptError> {
        let text = toml::to_string_pretty(self).map_err(|_| TranscriptError::NotToml)?;
        let signed = asn1::tlv(asn1::OCTET_STRING, &[CONTEXT, text.as_bytes()]);
        Ok(Prepared::new(signed, root))
    }

    /// The authorities that it tells of, for a later ceremony that reads it from `source`.
    #[must_use]
    pub fn known(&self, source: &str) -> Vec<Known> {
        let known = |output: &Output| {
            let key = crypto::from_hex(output.key_sha256.as_deref()?)?;
            Some(Known {
                key: key.try_into().ok()?,
                subject: output.subject.clone()?,
                source: format!("{}, in {source}", output.file),
            })
        };
        self.outputs.iter().filter_map(known).collect()
    }
}

/// A transcript and the root's signature over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTranscript {
    text: String,
    transcript: Transcript,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
}

impl SignedTranscript {
    /// Reads a transcript's file. Its signature is not checked: see [`SignedTranscript::verify_by`].
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(file: &[u8]) -> Result<Self, TranscriptError> {
        if file.len() > MAX_BYTES {
            return Err(TranscriptError::TooLarge);
        }
        let file = std::str::from_utf8(file).map_err(|_| TranscriptError::NotToml)?;
        let (text, signature) = file
            .rsplit_once(SIGNATURE_LINE)
            .ok_or(TranscriptError::NotSigned)?;
        let signature = signature
            .strip_suffix('\n')
            .and_then(crypto::from_hex)
            .ok_or(TranscriptError::NotSigned)?;
        let mut der = Der::new(&signature)?;
        let (algorithm, bits) = (der.whole()?, der.whole()?);
        der.end()?;
        let signed = asn1::tlv(asn1::OCTET_STRING, &[CONTEXT, text.as_bytes()]);
        Self::read(asn1::sequence(&[&signed, algorithm, bits]))
    }

    /// The file: the TOML, and the signature in a last line that is a comment.
    #[must_use]
    pub fn to_file(&self) -> String {
        let signature = [
            self.algorithm.identifier(),
            &asn1::bit_string(&self.signature),
        ];
        let signature = crypto::hex(&signature.concat());
        format!("{}{SIGNATURE_LINE}{signature}\n", self.text)
    }

    /// What it says.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Checks the signature, over the text as it came.
    ///
    /// # Errors
    /// When it is not `key`'s.
    pub fn verify_by(&self, key: &PublicKey) -> Result<(), BadSignature> {
        let signed = asn1::tlv(asn1::OCTET_STRING, &[CONTEXT, self.text.as_bytes()]);
        crypto::verify(key, self.algorithm, &signed, &self.signature)
    }
}

impl private::Sealed for SignedTranscript {}

impl Artefact for SignedTranscript {
    type Error = TranscriptError;

    fn read(der: Vec<u8>) -> Result<Self, TranscriptError> {
        let mut outer = Der::new(Der::only(&der, asn1::SEQUENCE)?)?;
        let text = outer.content(asn1::OCTET_STRING)?;
        let algorithm = SignatureAlgorithm::from_identifier(outer.whole()?)
            .ok_or(TranscriptError::NotSigned)?;
        let signature = outer.octet_aligned_bits()?.to_vec();
        outer.end()?;
        let text = text
            .strip_prefix(CONTEXT)
            .and_then(|text| std::str::from_utf8(text).ok())
            .ok_or(TranscriptError::NotToml)?;
        let transcript: Transcript = toml::from_str(text).map_err(|_| TranscriptError::NotToml)?;
        if transcript.version != VERSION {
            return Err(TranscriptError::Version);
        }
        Ok(Self {
            text: text.to_owned(),
            transcript,
            algorithm,
            signature,
        })
    }
}

/// Why a file is not a transcript.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// Its last line is not a signature's.
    #[error("the transcript does not end in the root's signature")]
    NotSigned,
    /// The signature is not DER.
    #[error("the transcript's signature is not DER")]
    NotDer(#[from] DerError),
    /// Not the TOML of a transcript.
    #[error("not the TOML of a transcript")]
    NotToml,
    /// More bytes than are read.
    #[error("the transcript has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// Another version.
    #[error("the transcript is not of version {VERSION}")]
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_never_panics(file: Vec<u8>, tail in "[0-9a-f]{0,40}") {
            let _ = SignedTranscript::parse(&file);
            let _ = SignedTranscript::parse(format!("{SIGNATURE_LINE}{tail}\n").as_bytes());
        }
    }
}
