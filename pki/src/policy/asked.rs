//! What a request asks for, as far as policy cares: of a request at hand, or of one that was recorded.

use crate::csr::VerifiedCsr;
use crate::extension::{AltName, Purpose};
use crate::key::KeyAlgorithm;

/// What is asked for. Who decides by it for real has it from a [`VerifiedCsr`]; made of a record's facts it shows what
/// would be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The alternative names, in their order.
    pub alt_names: &'a [AltName],
    /// The non-empty common names.
    pub common_names: &'a [String],
    /// The purposes.
    pub purposes: &'a [Purpose],
    /// Whether a CA certificate is asked for.
    pub asks_for_authority: bool,
    /// The kind of key that is to be certified.
    pub key: KeyAlgorithm,
}

impl<'a> From<&'a VerifiedCsr> for Asked<'a> {
    fn from(csr: &'a VerifiedCsr) -> Self {
        Self {
            alt_names: csr.alt_names(),
            common_names: csr.common_names(),
            purposes: csr.purposes(),
            asks_for_authority: csr.asks_for_authority(),
            key: csr.key().algorithm(),
        }
    }
}
