//! X.509 extensions: reading them from certificates and requests, writing ours.

use std::net::IpAddr;

use crate::asn1::{self, Der, DerError};
use crate::key::KeyId;
use crate::name::{DnsName, NameError, SpiffeId};

pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
pub(crate) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
pub(crate) const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
pub(crate) const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
pub(crate) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
pub(crate) const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 0x1f];
pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
pub(crate) const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
pub(crate) const FRESHEST_CRL: &[u8] = &[0x55, 0x1d, 0x2e];
pub(crate) const NO_REV_AVAIL: &[u8] = &[0x55, 0x1d, 0x38];
pub(crate) const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01];
pub(crate) const OCSP_NO_CHECK: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x05];
const AD_CA_ISSUERS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];
const AD_OCSP: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];

/// A use of the key (RFC 5280 §4.2.1.3), by its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyUsage {
    /// digitalSignature.
    DigitalSignature = 0,
    /// keyEncipherment.
    KeyEncipherment = 2,
    /// keyCertSign.
    KeyCertSign = 5,
    /// cRLSign.
    CrlSign = 6,
}

/// The set of uses of a key as it stands in a certificate or request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyUsages(u16);

impl KeyUsages {
    /// Whether `usage` is in the set.
    #[must_use]
    pub const fn has(self, usage: KeyUsage) -> bool {
        self.0 & (0x8000 >> usage as u16) != 0
    }

    /// Whether every use is one of `allowed`.
    #[must_use]
    pub fn is_within(self, allowed: &[KeyUsage]) -> bool {
        let mask = allowed
            .iter()
            .fold(0u16, |mask, usage| mask | (0x8000 >> *usage as u16));
        self.0 & !mask == 0
    }

    fn parse(value: &[u8]) -> Result<Self, DerError> {
        let content = Der::only(value, asn1::BIT_STRING)?;
        match content {
            [0, first] | [1..=7, first] => Ok(Self(u16::from(*first) << 8)),
            [7, first, second] => Ok(Self(u16::from(*first) << 8 | u16::from(*second))),
            [0] => Ok(Self(0)),
            _ => Err(asn1::unexpected(asn1::BIT_STRING)),
        }
    }
}

/// A purpose of the key (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// id-kp-clientAuth.
    ClientAuth,
    /// id-kp-OCSPSigning.
    OcspSigning,
    /// id-kp-serverAuth.
    ServerAuth,
    /// Any other, anyExtendedKeyUsage included.
    Unknown,
}

const PURPOSES: [(Purpose, &[u8]); 3] = [
    (
        Purpose::ServerAuth,
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01],
    ),
    (
        Purpose::ClientAuth,
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02],
    ),
    (
        Purpose::OcspSigning,
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09],
    ),
];

/// A subject's alternative name (RFC 5280 §4.2.1.6) as written, not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AltName {
    /// dNSName.
    Dns(String),
    /// iPAddress of four or sixteen octets.
    Ip(IpAddr),
    /// uniformResourceIdentifier.
    Uri(String),
    /// Any other kind, by its context tag number.
    Other(u8),
}

impl std::fmt::Display for AltName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Uri(uri) => write!(f, "URI:{uri}"),
            Self::Other(1) => f.write_str("an email address"),
            Self::Other(4) => f.write_str("a directory name"),
            Self::Other(tag) => write!(f, "a name of kind {tag}"),
        }
    }
}

impl std::str::FromStr for AltName {
    type Err = NameError;

    /// What it is displayed as: `DNS:…`, `IP:…`, `URI:…`, and the words for the other kinds.
    fn from_str(s: &str) -> Result<Self, NameError> {
        let other = || -> Option<u8> {
            match s {
                "an email address" => Some(1),
                "a directory name" => Some(4),
                _ => s.strip_prefix("a name of kind ")?.parse().ok(),
            }
        };
        let ip = |s: &str| s.strip_prefix("IP:")?.parse().ok();
        if let Some(name) = s.strip_prefix("DNS:") {
            Ok(Self::Dns(name.to_owned()))
        } else if let Some(uri) = s.strip_prefix("URI:") {
            Ok(Self::Uri(uri.to_owned()))
        } else if let Some(address) = ip(s) {
            Ok(Self::Ip(address))
        } else {
            other().map(Self::Other).ok_or_else(|| NameError::Shape {
                kind: "a subject alternative name",
                name: s.chars().take(100).collect(),
                expected: "DNS:<name>, IP:<address> or URI:<uri>",
            })
        }
    }
}

impl std::fmt::Display for Purpose {
    /// The name of RFC 5280 §4.2.1.12.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ClientAuth => "clientAuth",
            Self::OcspSigning => "OCSPSigning",
            Self::ServerAuth => "serverAuth",
            Self::Unknown => "other",
        })
    }
}

impl std::str::FromStr for Purpose {
    type Err = NameError;

    /// What it is displayed as.
    fn from_str(s: &str) -> Result<Self, NameError> {
        [
            Self::ClientAuth,
            Self::OcspSigning,
            Self::ServerAuth,
            Self::Unknown,
        ]
        .into_iter()
        .find(|purpose| purpose.to_string() == s)
        .ok_or_else(|| NameError::Shape {
            kind: "a purpose",
            name: s.chars().take(100).collect(),
            expected: "one of serverAuth, clientAuth, OCSPSigning and other",
        })
    }
}

/// Names that a certificate may carry, judged and in their order of encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectNames {
    /// At most one SPIFFE id (X509-SVID §2).
    pub spiffe: Option<SpiffeId>,
    /// Host names.
    pub dns: Vec<DnsName>,
    /// Addresses.
    pub ip: Vec<IpAddr>,
}

impl SubjectNames {
    /// Exactly one SPIFFE id.
    #[must_use]
    pub fn of_spiffe(id: SpiffeId) -> Self {
        Self {
            spiffe: Some(id),
            ..Self::default()
        }
    }

    /// Whether there is no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spiffe.is_none() && self.dns.is_empty() && self.ip.is_empty()
    }

    /// Each name as text, `URI:`, `DNS:` or `IP:` in front.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        let spiffe = self.spiffe.iter().map(|id| format!("URI:{id}"));
        let dns = self.dns.iter().map(|name| format!("DNS:{name}"));
        let ip = self.ip.iter().map(|address| format!("IP:{address}"));
        spiffe.chain(dns).chain(ip).collect()
    }
}

/// What the extensions of a certificate or a request say; what is not listed is kept as a flag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// subjectAltName and whether it is critical.
    pub alt_names: Option<(Vec<AltName>, bool)>,
    /// keyUsage.
    pub key_usage: Option<KeyUsages>,
    /// extKeyUsage, in its order.
    pub purposes: Option<Vec<Purpose>>,
    /// basicConstraints: cA, and pathLenConstraint where present.
    pub basic_constraints: Option<(bool, Option<u64>)>,
    /// subjectKeyIdentifier.
    pub subject_key_id: Option<Vec<u8>>,
    /// authorityKeyIdentifier's keyIdentifier.
    pub authority_key_id: Option<Vec<u8>>,
    /// Whether nameConstraints stands there.
    pub has_name_constraints: bool,
    /// Whether authorityInfoAccess, cRLDistributionPoints, freshestCRL, noRevAvail, ocsp-nocheck or a certificate-only extension stands there.
    pub has_issuer_extensions: bool,
    /// Whether authorityInfoAccess names an OCSP responder.
    pub has_ocsp_url: bool,
    /// Whether a critical extension stands there that is not read here.
    pub unknown_critical: bool,
    /// The object identifiers, dotted-hex of their content, in their order.
    pub present: Vec<(Vec<u8>, bool)>,
}

impl Extensions {
    /// Reads the DER of `SEQUENCE OF Extension`.
    ///
    /// # Errors
    /// When it is not DER, is empty (RFC 5280 §4.1.2.9), or an extension stands twice (§4.2).
    pub fn parse(der: &[u8]) -> Result<Self, DerError> {
        let mut list = Der::new(Der::only(der, asn1::SEQUENCE)?)?;
        let mut extensions = Self::default();
        if list.is_empty() {
            return Err(asn1::unexpected(asn1::SEQUENCE));
        }
        while !list.is_empty() {
            let mut fields = Der::new(list.content(asn1::SEQUENCE)?)?;
            let oid = fields.content(asn1::OID)?;
            let critical = fields.default_false()?;
            let value = fields.content(asn1::OCTET_STRING)?;
            fields.end()?;
            if extensions.present.iter().any(|(seen, _)| seen == oid) {
                return Err(asn1::unexpected(asn1::OID));
            }
            extensions.present.push((oid.to_vec(), critical));
            extensions.take(oid, critical, value)?;
        }
        Ok(extensions)
    }

    fn take(&mut self, oid: &[u8], critical: bool, value: &[u8]) -> Result<(), DerError> {
        match oid {
            SUBJECT_ALT_NAME => self.alt_names = Some((parse_alt_names(value)?, critical)),
            KEY_USAGE => self.key_usage = Some(KeyUsages::parse(value)?),
            EXT_KEY_USAGE => self.purposes = Some(parse_purposes(value)?),
            BASIC_CONSTRAINTS => self.basic_constraints = Some(parse_basic_constraints(value)?),
            SUBJECT_KEY_ID => {
                self.subject_key_id = Some(Der::only(value, asn1::OCTET_STRING)?.to_vec());
            }
            AUTHORITY_KEY_ID => self.authority_key_id = parse_authority_key_id(value)?,
            NAME_CONSTRAINTS => self.has_name_constraints = true,
            AUTHORITY_INFO_ACCESS => {
                self.has_issuer_extensions = true;
                self.has_ocsp_url = names_ocsp(value)?;
            }
            CRL_DISTRIBUTION_POINTS | FRESHEST_CRL | NO_REV_AVAIL | OCSP_NO_CHECK => {
                self.has_issuer_extensions = true;
            }
            _ if critical => self.unknown_critical = true,
            _ => {}
        }
        Ok(())
    }

    /// Whether the extension with this identifier's content octets stands there, and whether critical.
    pub(crate) fn find(&self, oid: &[u8]) -> Option<bool> {
        self.present
            .iter()
            .find(|(seen, _)| seen == oid)
            .map(|(_, critical)| *critical)
    }
}

fn parse_alt_names(value: &[u8]) -> Result<Vec<AltName>, DerError> {
    let mut list = Der::new(Der::only(value, asn1::SEQUENCE)?)?;
    let mut names = Vec::new();
    while !list.is_empty() {
        let (tag, content) = list.any()?;
        let text = || -> Result<String, DerError> {
            match std::str::from_utf8(content) {
                Ok(text) if text.is_ascii() => Ok(text.to_owned()),
                _ => Err(asn1::unexpected(asn1::UTF8_STRING)),
            }
        };
        names.push(match tag {
            0x82 => AltName::Dns(text()?),
            0x86 => AltName::Uri(text()?),
            0x87 => match (<[u8; 4]>::try_from(content), <[u8; 16]>::try_from(content)) {
                (Ok(v4), _) => AltName::Ip(v4.into()),
                (_, Ok(v6)) => AltName::Ip(v6.into()),
                _ => return Err(asn1::unexpected(asn1::OCTET_STRING)),
            },
            other if other & 0xc0 == 0x80 => AltName::Other(other & 0x1f),
            _ => return Err(asn1::unexpected(asn1::SEQUENCE)),
        });
    }
    if names.is_empty() {
        return Err(asn1::unexpected(asn1::SEQUENCE));
    }
    Ok(names)
}

fn parse_purposes(value: &[u8]) -> Result<Vec<Purpose>, DerError> {
    let mut list = Der::new(Der::only(value, asn1::SEQUENCE)?)?;
    let mut purposes = Vec::new();
    while !list.is_empty() {
        let oid = list.content(asn1::OID)?;
        let purpose = PURPOSES.iter().find(|(_, known)| *known == oid);
        purposes.push(purpose.map_or(Purpose::Unknown, |(purpose, _)| *purpose));
    }
    Ok(purposes)
}

fn parse_basic_constraints(value: &[u8]) -> Result<(bool, Option<u64>), DerError> {
    let mut fields = Der::new(Der::only(value, asn1::SEQUENCE)?)?;
    let ca = fields.default_false()?;
    let path_len = if fields.is_empty() {
        None
    } else {
        Some(fields.decode::<u64>()?)
    };
    fields.end()?;
    Ok((ca, path_len))
}

fn parse_authority_key_id(value: &[u8]) -> Result<Option<Vec<u8>>, DerError> {
    let mut fields = Der::new(Der::only(value, asn1::SEQUENCE)?)?;
    Ok(fields.optional(asn1::implicit(0))?.map(<[u8]>::to_vec))
}

fn names_ocsp(value: &[u8]) -> Result<bool, DerError> {
    let mut list = Der::new(Der::only(value, asn1::SEQUENCE)?)?;
    let mut found = false;
    while !list.is_empty() {
        let mut access = Der::new(list.content(asn1::SEQUENCE)?)?;
        found |= access.content(asn1::OID)? == AD_OCSP;
    }
    Ok(found)
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical {
        &[asn1::BOOLEAN, 1, 0xff]
    } else {
        &[]
    };
    asn1::sequence(&[
        &asn1::tlv(asn1::OID, &[oid]),
        critical,
        &asn1::tlv(asn1::OCTET_STRING, &[value]),
    ])
}

/// keyUsage, critical (RFC 5280 §4.2.1.3).
pub(crate) fn key_usage(usages: &[KeyUsage]) -> Vec<u8> {
    let bits: Vec<u8> = usages.iter().map(|usage| *usage as u8).collect();
    extension(KEY_USAGE, true, &asn1::named_bits(&bits))
}

/// extKeyUsage, not critical.
pub(crate) fn ext_key_usage(purposes: &[Purpose]) -> Vec<u8> {
    let oids: Vec<Vec<u8>> = purposes
        .iter()
        .filter_map(|purpose| PURPOSES.iter().find(|(known, _)| known == purpose))
        .map(|(_, oid)| asn1::tlv(asn1::OID, &[oid]))
        .collect();
    let parts: Vec<&[u8]> = oids.iter().map(Vec::as_slice).collect();
    extension(EXT_KEY_USAGE, false, &asn1::sequence(&parts))
}

/// basicConstraints, critical: RFC 5280 §4.2.1.9 for CAs, Istio's readers expect it on leaves too.
pub(crate) fn basic_constraints(ca: bool, path_len: Option<u8>) -> Vec<u8> {
    let ca: &[u8] = if ca { &[asn1::BOOLEAN, 1, 0xff] } else { &[] };
    let path_len = path_len
        .map(|n| asn1::unsigned(n.into()))
        .unwrap_or_default();
    extension(BASIC_CONSTRAINTS, true, &asn1::sequence(&[ca, &path_len]))
}

/// subjectKeyIdentifier, not critical (RFC 5280 §4.2.1.2).
pub(crate) fn subject_key_id(id: KeyId) -> Vec<u8> {
    extension(
        SUBJECT_KEY_ID,
        false,
        &asn1::tlv(asn1::OCTET_STRING, &[id.as_bytes()]),
    )
}

/// authorityKeyIdentifier with the key identifier alone, not critical (RFC 5280 §4.2.1.1).
pub(crate) fn authority_key_id(id: &[u8]) -> Vec<u8> {
    let value = asn1::sequence(&[&asn1::tlv(asn1::implicit(0), &[id])]);
    extension(AUTHORITY_KEY_ID, false, &value)
}

/// subjectAltName; critical when the subject is empty (RFC 5280 §4.2.1.6).
pub(crate) fn subject_alt_name(names: &SubjectNames, critical: bool) -> Vec<u8> {
    let mut list = Vec::new();
    if let Some(id) = &names.spiffe {
        list.extend(asn1::tlv(asn1::implicit(6), &[id.as_str().as_bytes()]));
    }
    for name in &names.dns {
        list.extend(asn1::tlv(asn1::implicit(2), &[name.as_str().as_bytes()]));
    }
    for address in &names.ip {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        list.extend(asn1::tlv(asn1::implicit(7), &[&octets]));
    }
    extension(SUBJECT_ALT_NAME, critical, &asn1::sequence(&[&list]))
}

/// DistributionPointName with one URL.
fn full_name(url: &str) -> Vec<u8> {
    let uri = asn1::tlv(asn1::implicit(6), &[url.as_bytes()]);
    asn1::tlv(asn1::explicit(0), &[&asn1::tlv(asn1::explicit(0), &[&uri])])
}

/// CRLDistributionPoints with one URL.
fn distribution_points(url: &str) -> Vec<u8> {
    asn1::sequence(&[&asn1::sequence(&[&full_name(url)])])
}

/// cRLDistributionPoints with one URL (RFC 5280 §4.2.1.13).
pub(crate) fn crl_distribution_point(url: &str) -> Vec<u8> {
    extension(CRL_DISTRIBUTION_POINTS, false, &distribution_points(url))
}

/// freshestCRL with one URL, of a certificate (RFC 5280 §4.2.1.15) or a complete CRL (§5.2.6).
pub(crate) fn freshest_crl(url: &str) -> Vec<u8> {
    extension(FRESHEST_CRL, false, &distribution_points(url))
}

/// issuingDistributionPoint with one URL and no other limit, critical (RFC 5280 §5.2.5).
pub(crate) fn issuing_distribution_point(url: &str) -> Vec<u8> {
    extension(
        ISSUING_DISTRIBUTION_POINT,
        true,
        &asn1::sequence(&[&full_name(url)]),
    )
}

/// The URL of an issuingDistributionPoint, where it has one and no other limit.
pub(crate) fn one_full_name(value: &[u8]) -> Result<Option<String>, DerError> {
    let mut fields = Der::new(Der::only(value, asn1::SEQUENCE)?)?;
    let Some(name) = fields.optional(asn1::explicit(0))? else {
        return Ok(None);
    };
    if !fields.is_empty() {
        return Ok(None);
    }
    let Some(names) = Der::new(name)?.optional(asn1::explicit(0))? else {
        return Ok(None);
    };
    let mut names = Der::new(names)?;
    let uri = names.optional(asn1::implicit(6))?;
    let only = names.is_empty();
    Ok(uri
        .filter(|_| only)
        .and_then(|uri| std::str::from_utf8(uri).ok())
        .map(str::to_owned))
}

/// deltaCRLIndicator, critical (RFC 5280 §5.2.4).
pub(crate) fn delta_crl_indicator(base: u64) -> Vec<u8> {
    extension(DELTA_CRL_INDICATOR, true, &asn1::unsigned(base))
}

/// noRevAvail (RFC 9608 §2).
pub(crate) fn no_rev_avail() -> Vec<u8> {
    extension(NO_REV_AVAIL, false, &[asn1::NULL, 0])
}

/// authorityInfoAccess (RFC 5280 §4.2.2.1); at least one URL is given.
pub(crate) fn authority_info_access(ca_issuers: Option<&str>, ocsp: Option<&str>) -> Vec<u8> {
    let describe = |method: &[u8], url: &str| {
        let uri = asn1::tlv(asn1::implicit(6), &[url.as_bytes()]);
        asn1::sequence(&[&asn1::tlv(asn1::OID, &[method]), &uri])
    };
    let ocsp = ocsp.map(|url| describe(AD_OCSP, url)).unwrap_or_default();
    let issuers = ca_issuers
        .map(|url| describe(AD_CA_ISSUERS, url))
        .unwrap_or_default();
    extension(
        AUTHORITY_INFO_ACCESS,
        false,
        &asn1::sequence(&[&ocsp, &issuers]),
    )
}

/// id-pkix-ocsp-nocheck (RFC 6960 §4.2.2.2.1).
pub(crate) fn ocsp_no_check() -> Vec<u8> {
    extension(OCSP_NO_CHECK, false, &[asn1::NULL, 0])
}

/// cRLNumber (RFC 5280 §5.2.3).
pub(crate) fn crl_number(number: u64) -> Vec<u8> {
    extension(CRL_NUMBER, false, &asn1::unsigned(number))
}
