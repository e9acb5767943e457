//! Entries of the issuance log, and their leaf hashes (RFC 6962 §2.1).
//!
//! An entry's encoding is versioned and never changes once written; integers are big-endian:
//!
//! ```text
//! u8   version   0x01
//! u8   kind      0x01 certificate issued
//! u64  when it was issued, seconds since 1970
//! u8   length, authority id
//! u8   length, serial number
//! u64  notBefore      u64  notAfter
//! 32   SHA-256 of the certificate
//! 32   SHA-256 of the request
//! 32   SHA-256 of the SubjectPublicKeyInfo
//! u8   length, profile
//! u16  length, caller
//! u16  number of names, each u16 length and text with `URI:`, `DNS:` or `IP:`
//! ```
//!
//! ```text
//! u8   version   0x01
//! u8   kind      0x02 certificate revoked, 0x03 put on hold, 0x04 hold lifted, 0x05 authority revoked
//! u64  when, seconds since 1970
//! u8   length, authority id
//! u8   length, serial number; 0 where the authority itself is revoked
//! u8   CRLReason (RFC 5280 §5.3.1)
//! u16  length, who did it
//! ```

use crate::crl::Reason;
use crate::crypto::{Digest, sha256_of};
use crate::name::AuthorityId;
use crate::serial::Serial;
use crate::time::Timestamp;

const VERSION: u8 = 0x01;
const KIND_ISSUED: u8 = 0x01;
/// RFC 6962 §2.1: the prefix that tells a leaf from a node.
const LEAF_PREFIX: u8 = 0x00;

/// A certificate's entry.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Who signed it.
    pub authority: &'a AuthorityId,
    /// Its serial number.
    pub serial: Serial,
    /// The first second of its validity.
    pub not_before: Timestamp,
    /// The last second of its validity.
    pub not_after: Timestamp,
    /// SHA-256 of its DER.
    pub certificate: Digest,
    /// SHA-256 of the request's DER.
    pub request: Digest,
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub key: Digest,
    /// The profile's name.
    pub profile: &'a str,
    /// Who asked; the first 65535 bytes count.
    pub caller: &'a str,
    /// Its names, as [`crate::extension::SubjectNames::to_strings`] writes them.
    pub names: &'a [String],
}

impl Issued<'_> {
    /// The entry's octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend([VERSION, KIND_ISSUED]);
        put_time(&mut out, self.issued_at);
        put_short(&mut out, self.authority.as_str().as_bytes());
        put_short(&mut out, self.serial.as_bytes());
        put_time(&mut out, self.not_before);
        put_time(&mut out, self.not_after);
        for digest in [&self.certificate, &self.request, &self.key] {
            out.extend_from_slice(digest);
        }
        put_short(&mut out, self.profile.as_bytes());
        put_long(&mut out, self.caller.as_bytes());
        let count = u16::try_from(self.names.len()).unwrap_or(u16::MAX);
        out.extend(count.to_be_bytes());
        for name in self.names.iter().take(count.into()) {
            put_long(&mut out, name.as_bytes());
        }
        out
    }

    /// The hash of its leaf: SHA-256 of 0x00 and the entry.
    #[must_use]
    pub fn leaf_hash(&self) -> Digest {
        sha256_of(&[&[LEAF_PREFIX], &self.encode()])
    }
}

/// What happened after the issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RevocationKind {
    /// A certificate was revoked.
    Revoked = 0x02,
    /// A certificate was put on hold.
    Held = 0x03,
    /// A hold was lifted.
    Lifted = 0x04,
    /// The authority was revoked, and with it everything that it issued.
    AuthorityRevoked = 0x05,
}

impl RevocationKind {
    /// Its name in records and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Held => "held",
            Self::Lifted => "lifted",
            Self::AuthorityRevoked => "authority-revoked",
        }
    }
}

/// The entry of a revocation, a hold, or its end.
#[derive(Clone, Copy, Debug)]
pub struct RevocationEntry<'a> {
    /// What happened.
    pub kind: RevocationKind,
    /// When.
    pub at: Timestamp,
    /// Whose certificate, or which authority.
    pub authority: &'a AuthorityId,
    /// The certificate; `None` where it is the authority's own.
    pub serial: Option<Serial>,
    /// Why.
    pub reason: Reason,
    /// Who did it; the first 65535 bytes count.
    pub actor: &'a str,
}

impl RevocationEntry<'_> {
    /// The entry's octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend([VERSION, self.kind as u8]);
        put_time(&mut out, self.at);
        put_short(&mut out, self.authority.as_str().as_bytes());
        let serial = self.serial.as_ref().map(Serial::as_bytes);
        put_short(&mut out, serial.unwrap_or_default());
        out.push(self.reason as u8);
        put_long(&mut out, self.actor.as_bytes());
        out
    }

    /// The hash of its leaf: SHA-256 of 0x00 and the entry.
    #[must_use]
    pub fn leaf_hash(&self) -> Digest {
        sha256_of(&[&[LEAF_PREFIX], &self.encode()])
    }
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend(time.unix().to_be_bytes());
}

/// Every short field (an id, a serial number, a profile) is bounded below 256 bytes by its own type.
fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&bytes[..length.into()]);
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(&bytes[..length.into()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    #[test]
    fn test_vector_of_version_one() {
        let authority = AuthorityId::parse("central-1").unwrap();
        let names = ["URI:spiffe://td/ns/a/sa/b".to_owned()];
        let not_after = Timestamp::from_unix(1_795_575_180);
        let entry = Issued {
            issued_at: Timestamp::from_unix(1_795_488_780),
            authority: &authority,
            serial: Serial::issue(not_after, [0xab; 16]),
            not_before: Timestamp::from_unix(1_795_488_720),
            not_after,
            certificate: [1; 32],
            request: [2; 32],
            key: [3; 32],
            profile: "workload",
            caller: "sa:a/b",
            names: &names,
        };
        let expected = [
            "0101",
            "000000006b04fc0c",
            "0963656e7472616c2d31",
            "1301512e",
            &"ab".repeat(16),
            "000000006b04fbd0",
            "000000006b064d8c",
            &"01".repeat(32),
            &"02".repeat(32),
            &"03".repeat(32),
            "08776f726b6c6f6164",
            "000673613a612f62",
            "0001",
            "0019",
            &hex(b"URI:spiffe://td/ns/a/sa/b"),
        ]
        .concat();
        assert_eq!(hex(&entry.encode()), expected);
        assert_eq!(
            hex(&entry.leaf_hash()),
            "aacfbbdcb7d7865a8a7668ae4364598568d1c4786c055d2b3c82d64296dc2ff3"
        );
    }

    #[test]
    fn test_vectors_of_revocations() {
        let authority = AuthorityId::parse("central-1").unwrap();
        let at = Timestamp::from_unix(1_795_488_780);
        let entry = RevocationEntry {
            kind: RevocationKind::Held,
            at,
            authority: &authority,
            serial: Some(Serial::issue(
                Timestamp::from_unix(1_795_575_180),
                [0xab; 16],
            )),
            reason: Reason::CertificateHold,
            actor: "cli:root",
        };
        let expected = [
            "0103",
            "000000006b04fc0c",
            "0963656e7472616c2d31",
            "1301512e",
            &"ab".repeat(16),
            "06",
            "0008636c693a726f6f74",
        ];
        assert_eq!(hex(&entry.encode()), expected.concat());
        let whole = RevocationEntry {
            kind: RevocationKind::AuthorityRevoked,
            serial: None,
            reason: Reason::CaCompromise,
            ..entry
        };
        let expected = [
            "0105",
            "000000006b04fc0c",
            "0963656e7472616c2d31",
            "00",
            "02",
            "0008636c693a726f6f74",
        ];
        assert_eq!(hex(&whole.encode()), expected.concat());
        assert_ne!(entry.leaf_hash(), whole.leaf_hash());
    }
}
