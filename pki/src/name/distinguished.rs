//! Distinguished names of the shapes that Signet issues.

use crate::asn1;
use crate::name::NameError;

/// A subject or issuer name: an organization, where there is one, and a common name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinguishedName {
    organization: Option<String>,
    common_name: String,
}

/// RFC 5280 appendix A.1: `ub-common-name` and `ub-organization-name`, in characters.
const MAX_CHARACTERS: usize = 64;
const OID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const OID_ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

impl DistinguishedName {
    /// Takes an organization and a common name, each of 1 to 64 printable characters.
    ///
    /// # Errors
    /// When one is empty, too long or has a control character.
    pub fn new(organization: Option<&str>, common_name: &str) -> Result<Self, NameError> {
        for (kind, part) in [
            ("an organization", organization),
            ("a common name", Some(common_name)),
        ] {
            let Some(part) = part else { continue };
            super::check(kind, part, 4 * MAX_CHARACTERS, |c| !c.is_control())?;
            if part.chars().count() > MAX_CHARACTERS {
                return Err(NameError::TooLong {
                    kind,
                    length: part.len(),
                    max: MAX_CHARACTERS,
                });
            }
        }
        Ok(Self {
            organization: organization.map(str::to_owned),
            common_name: common_name.to_owned(),
        })
    }

    /// The common name.
    #[must_use]
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// DER of the RDNSequence, attributes as UTF8String (RFC 5280 §4.1.2.4).
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let organization = self
            .organization
            .as_deref()
            .map(|o| rdn(OID_ORGANIZATION, o));
        let common_name = rdn(OID_COMMON_NAME, &self.common_name);
        asn1::sequence(&[organization.as_deref().unwrap_or_default(), &common_name])
    }
}

/// The empty RDNSequence, a workload's subject.
pub(crate) const EMPTY_NAME: &[u8] = &[0x30, 0x00];

fn rdn(oid: &[u8], value: &str) -> Vec<u8> {
    let attribute = asn1::sequence(&[
        &asn1::tlv(asn1::OID, &[oid]),
        &asn1::tlv(asn1::UTF8_STRING, &[value.as_bytes()]),
    ]);
    asn1::tlv(asn1::SET, &[&attribute])
}
