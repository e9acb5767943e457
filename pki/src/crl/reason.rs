//! Why a certificate is revoked.

use std::fmt;
use std::str::FromStr;

/// Why a certificate is revoked (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No reason given; not written (RFC 5280 §5.3.1 asks for that).
    Unspecified = 0,
    /// The key is in other hands.
    KeyCompromise = 1,
    /// The CA's key is in other hands.
    CaCompromise = 2,
    /// The subject's name or affiliation changed.
    AffiliationChanged = 3,
    /// Replaced by another certificate.
    Superseded = 4,
    /// No longer needed.
    CessationOfOperation = 5,
    /// On hold, may be lifted.
    CertificateHold = 6,
    /// In a delta alone: no longer listed (RFC 5280 §5.2.4).
    RemoveFromCrl = 8,
    /// The subject may no longer have what the certificate says.
    PrivilegeWithdrawn = 9,
}

/// Every reason, with its name in RFC 5280 §5.3.1.
const REASONS: [(Reason, &str); 9] = [
    (Reason::Unspecified, "unspecified"),
    (Reason::KeyCompromise, "keyCompromise"),
    (Reason::CaCompromise, "cACompromise"),
    (Reason::AffiliationChanged, "affiliationChanged"),
    (Reason::Superseded, "superseded"),
    (Reason::CessationOfOperation, "cessationOfOperation"),
    (Reason::CertificateHold, "certificateHold"),
    (Reason::RemoveFromCrl, "removeFromCRL"),
    (Reason::PrivilegeWithdrawn, "privilegeWithdrawn"),
];

impl Reason {
    /// The reason with this number; `None` for 7, which nobody uses, for aACompromise (10), which is no certificate's of
    /// ours, and for what is unknown.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        let mut reasons = REASONS.iter();
        reasons
            .find(|(reason, _)| *reason as u8 == code)
            .map(|(reason, _)| *reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons = REASONS.iter();
        let name = reasons
            .find(|(reason, _)| reason == self)
            .map(|(_, name)| *name);
        f.write_str(name.unwrap_or("unspecified"))
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let mut reasons = REASONS.iter();
        let found = reasons
            .find(|(_, name)| *name == text)
            .map(|(reason, _)| *reason);
        found.ok_or(UnknownReason)
    }
}

/// Not a reason of RFC 5280's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, \
     cessationOfOperation, certificateHold, removeFromCRL or privilegeWithdrawn"
)]
pub struct UnknownReason;
