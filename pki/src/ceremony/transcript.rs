//! The transcript: what was done, for whoever was not there. TOML, signed by the root in its last line.

use serde::{Deserialize, Serialize};

use crate::artefact::{Artefact, Prepared, private};
use crate::asn1::{self, Der, DerError};
use crate::ceremony::prepare::Known;
use crate::ceremony::record::{
    Confirmation, Input, KeyOrigin, Opened, Output, PlanRecord, Split, Witness,
};
use crate::crypto::{self, BadSignature};
use crate::key::{PublicKey, SignatureAlgorithm};
use crate::time::Timestamp;

/// The longest transcript that is read.
const MAX_BYTES: usize = 1024 * 1024;
/// The version of transcripts that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Stands before what is signed. No reader takes it for anything else that a root signs: 0xff 0x80 is a tag that X.690
/// §8.1.2.4.2 forbids (its number would begin with an empty septet), so that what follows never parses as BER or DER,
/// which certificates, CRLs and requests begin as. The length of the text follows, in eight octets.
const CONTEXT: &[u8] = b"\xff\x80signet ceremony transcript v1\n";
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
    /// Where the root's key was made and is kept, when it is in a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<KeyOrigin>,
    /// Whose shares opened the root's key, when it was shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Opened>,
    /// Into whose shares what opens the new key was split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// What each witness saw.
    #[serde(default, rename = "witness", skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<Witness>,
    /// Earlier transcripts, whose authorities' keys and names were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Input>,
    /// What was read.
    #[serde(default, rename = "input", skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// What was written.
    #[serde(default, rename = "output", skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
}

impl Transcript {
    /// Prepares its signature by the root.
    ///
    /// # Errors
    /// When it cannot be written as TOML.
    pub fn prepare(&self, root: &PublicKey) -> Result<Prepared<SignedTranscript>, TranscriptError> {
        let text = toml::to_string_pretty(self).map_err(|_| TranscriptError::NotToml)?;
        Ok(Prepared::new(signed_octets(&text), root))
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
        Self::read(asn1::sequence(&[&signed_octets(text), algorithm, bits]))
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
        let signed = signed_octets(&self.text);
        crypto::verify(key, self.algorithm, &signed, &self.signature)
    }
}

fn signed_octets(text: &str) -> Vec<u8> {
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes();
    [CONTEXT, &length, text.as_bytes()].concat()
}

/// The text that was signed, and what follows it.
fn split_signed(octets: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = octets.strip_prefix(CONTEXT)?.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

impl private::Sealed for SignedTranscript {}

impl Artefact for SignedTranscript {
    type Error = TranscriptError;

    fn read(der: Vec<u8>) -> Result<Self, TranscriptError> {
        let content = Der::only(&der, asn1::SEQUENCE)?;
        let (text, rest) = split_signed(content).ok_or(TranscriptError::NotToml)?;
        let mut outer = Der::new(rest)?;
        let algorithm = SignatureAlgorithm::from_identifier(outer.whole()?)
            .ok_or(TranscriptError::NotSigned)?;
        let signature = outer.octet_aligned_bits()?.to_vec();
        outer.end()?;
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

    #[test]
    fn what_is_signed_never_parses_as_der_whatever_the_text() {
        use der::{Decode, SliceReader};
        for text in ["", "version = 1\n", "\u{0}", "0\u{82}"] {
            let octets = signed_octets(text);
            assert!(der::Any::from_der(&octets).is_err());
            assert!(der::Header::decode(&mut SliceReader::new(&octets).unwrap()).is_err());
            assert!(crate::certificate::Fields::parse(&octets).is_err());
            assert_eq!(split_signed(&octets), Some((text, &[][..])));
        }
        // Nor does the context alone, nor any beginning of it.
        for end in 1..=CONTEXT.len() {
            assert!(der::Any::from_der(&CONTEXT[..end]).is_err());
        }
        let mut long = signed_octets("x");
        long[CONTEXT.len()] = 1;
        assert_eq!(split_signed(&long), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(file: Vec<u8>, tail in "[0-9a-f]{0,40}") {
            let _ = SignedTranscript::parse(&file);
            let _ = SignedTranscript::parse(format!("{SIGNATURE_LINE}{tail}\n").as_bytes());
        }
    }
}
