//! Lints that run before anything is signed, each named after the clause that it enforces.
//!
//! They check what was written, read back from its bytes, not what was meant: RFC 5280, RFC 8813, X509-SVID, and what
//! rustls-webpki, BoringSSL and Go refuse.

use crate::certificate::{Fields, Issuer};
use crate::extension::{self as ext, AltName, KeyUsage, Purpose, SubjectNames};
use crate::key::PublicKey;
use crate::name::EMPTY_NAME;
use crate::profile::{NameRule, Profile};

/// A clause, and whether a certificate keeps it.
struct Lint {
    clause: &'static str,
    requires: &'static str,
    holds: fn(&Subject<'_>) -> bool,
}

struct Subject<'a> {
    fields: &'a Fields,
    profile: Profile,
    names: &'a SubjectNames,
    key: &'a PublicKey,
    issuer: Option<&'a Issuer>,
}

/// A clause that a certificate would have broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{clause}: {requires}")]
pub struct LintError {
    /// The clause.
    pub clause: &'static str,
    /// What it requires.
    pub requires: &'static str,
}

/// Runs every lint.
pub(crate) fn check(
    fields: &Fields,
    profile: Profile,
    names: &SubjectNames,
    key: &PublicKey,
    issuer: Option<&Issuer>,
) -> Result<(), LintError> {
    let subject = Subject {
        fields,
        profile,
        names,
        key,
        issuer,
    };
    match LINTS.iter().find(|lint| !(lint.holds)(&subject)) {
        None => Ok(()),
        Some(Lint {
            clause, requires, ..
        }) => Err(LintError { clause, requires }),
    }
}

const LINTS: &[Lint] = &[
    Lint {
        clause: "RFC 5280 §4.1.2.2",
        requires: "the serial number carries the day of expiry and 128 random bits",
        holds: |s| s.fields.serial().expires_day() == Some(s.fields.not_after().day()),
    },
    Lint {
        clause: "RFC 5280 §4.1.2.3",
        requires: "the signature algorithm is the issuer's",
        holds: |s| {
            let key = s.issuer.map_or(s.key, Issuer::key);
            s.fields.algorithm() == Some(key.algorithm().signs_with())
        },
    },
    Lint {
        clause: "RFC 5280 §4.1.2.4",
        requires: "the issuer's name is not empty and is byte for byte the issuer's subject",
        holds: |s| {
            s.fields.issuer() != EMPTY_NAME
                && s.fields.issuer() == s.issuer.map_or(s.fields.subject(), Issuer::name)
        },
    },
    Lint {
        clause: "RFC 5280 §4.1.2.5",
        requires: "the certificate ends after it begins, and not after its issuer",
        holds: |s| {
            s.fields.not_before() < s.fields.not_after()
                && s.issuer
                    .is_none_or(|issuer| s.fields.not_after() <= issuer.not_after())
        },
    },
    Lint {
        clause: "RFC 5280 §4.1.2.6",
        requires: "a CA's subject is not empty",
        holds: |s| !s.profile.is_authority() || s.fields.subject() != EMPTY_NAME,
    },
    Lint {
        clause: "RFC 5280 §4.1.2.7",
        requires: "the certified key is the one that was asked for, of a kind the profile takes",
        holds: |s| s.fields.spki() == s.key.spki() && s.profile.takes(s.key.algorithm()),
    },
    Lint {
        clause: "RFC 5280 §4.2.1.1",
        requires: "the authority key identifier is the issuer's subject key identifier",
        holds: |s| {
            let id = s.fields.extensions().authority_key_id.as_deref();
            id == s.issuer.map(Issuer::key_id)
        },
    },
    Lint {
        clause: "RFC 5280 §4.2.1.2",
        requires: "the subject key identifier is RFC 7093 §2 method 1 of the key, not critical",
        holds: |s| {
            s.fields.extensions().subject_key_id.as_deref() == Some(s.key.id().as_bytes())
                && s.fields.extensions().find(ext::SUBJECT_KEY_ID) == Some(false)
        },
    },
    Lint {
        clause: "RFC 5280 §4.2.1.3",
        requires: "key usage is critical and is the profile's",
        holds: |s| {
            let wanted = s.profile.key_usages(s.key.algorithm());
            s.fields.extensions().find(ext::KEY_USAGE) == Some(true)
                && s.fields.extensions().key_usage.is_some_and(|usages| {
                    usages.is_within(wanted) && wanted.iter().all(|usage| usages.has(*usage))
                })
        },
    },
    Lint {
        clause: "RFC 8813 §3",
        requires: "an EC key is not for keyEncipherment",
        holds: |s| {
            s.key.algorithm().is_rsa()
                || s.fields
                    .extensions()
                    .key_usage
                    .is_none_or(|usages| !usages.has(KeyUsage::KeyEncipherment))
        },
    },
    Lint {
        clause: "RFC 5280 §4.2.1.6",
        requires: "the alternative names are those granted, critical when the subject is empty",
        holds: alternative_names,
    },
    Lint {
        clause: "RFC 5280 §4.2.1.9",
        requires: "basic constraints are critical, and TRUE for an authority alone",
        holds: |s| {
            let constraints = s.fields.extensions().basic_constraints;
            s.fields.extensions().find(ext::BASIC_CONSTRAINTS) == Some(true)
                && constraints.is_some_and(|(ca, path_len)| {
                    ca == s.profile.is_authority() && (ca || path_len.is_none())
                })
        },
    },
    Lint {
        clause: "RFC 5280 §4.2.1.12",
        requires: "the purposes are the profile's; OCSPSigning stands alone",
        holds: |s| {
            let purposes = s
                .fields
                .extensions()
                .purposes
                .as_deref()
                .unwrap_or_default();
            purposes == s.profile.purposes()
                && (!purposes.contains(&Purpose::OcspSigning) || purposes.len() == 1)
        },
    },
    Lint {
        clause: "RFC 6960 §4.2.2.2.1",
        requires: "ocsp-nocheck is for OCSP responders alone",
        holds: |s| {
            s.fields.extensions().find(ext::OCSP_NO_CHECK).is_some() == s.profile.is_no_check()
        },
    },
    Lint {
        clause: "RFC 9608 §4",
        requires: "noRevAvail stands in leaves without revocation alone, and no CRL or OCSP address beside it",
        holds: |s| {
            let extensions = s.fields.extensions();
            let has = |oid| extensions.find(oid).is_some();
            has(ext::NO_REV_AVAIL) != s.profile.has_revocation()
                && (s.profile.has_revocation()
                    || (extensions.find(ext::NO_REV_AVAIL) == Some(false)
                        && !has(ext::CRL_DISTRIBUTION_POINTS)
                        && !has(ext::FRESHEST_CRL)
                        && !extensions.has_ocsp_url))
        },
    },
    Lint {
        clause: "X509-SVID §2",
        requires: "a workload has exactly one URI, a SPIFFE id, and no other name",
        holds: |s| {
            s.profile.names() != NameRule::OneSpiffeId
                || (s.fields.alt_names().len() == 1
                    && s.fields.spiffe_id().ok() == s.names.spiffe
                    && s.fields.subject() == EMPTY_NAME)
        },
    },
    Lint {
        clause: "X509-SVID §4.4",
        requires: "a SPIFFE certificate is for servers and clients both",
        holds: |s| {
            let purposes = s
                .fields
                .extensions()
                .purposes
                .as_deref()
                .unwrap_or_default();
            s.names.spiffe.is_none()
                || (purposes.contains(&Purpose::ServerAuth)
                    && purposes.contains(&Purpose::ClientAuth))
        },
    },
    Lint {
        clause: "RUSTSEC-2026-0098",
        requires: "no name constraints: rustls-webpki refuses every chain that has URI ones",
        holds: |s| !s.fields.extensions().has_name_constraints,
    },
    Lint {
        clause: "RFC 5280 §4.2",
        requires: "no critical extension that readers do not know",
        holds: |s| !s.fields.extensions().unknown_critical,
    },
];

fn alternative_names(s: &Subject<'_>) -> bool {
    let written = s.fields.alt_names().iter().map(AltName::to_string);
    let extension = s.fields.extensions().find(ext::SUBJECT_ALT_NAME);
    let expected = (!s.names.is_empty()).then_some(s.fields.subject() == EMPTY_NAME);
    extension == expected && written.eq(s.names.to_strings())
}
