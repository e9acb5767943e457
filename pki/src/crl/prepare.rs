//! CRLs, up to the signature.

use super::{CrlError, Fields, REASON_CODE, Reason, RevokedCertificate};
use crate::artefact::Prepared;
use crate::asn1;
use crate::certificate::Issuer;
use crate::extension as ext;
use crate::lint::LintError;
use crate::time::Timestamp;

use super::Crl;

/// What a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Every certificate of the authority. What every reader takes.
    Complete {
        /// Where the delta to this list is (RFC 5280 §5.2.6).
        freshest: Option<&'a str>,
    },
    /// The certificates whose distribution point is this URL, byte for byte (RFC 5280 §5.2.5). Older BoringSSL (Envoy to
    /// 1.33) refuses any, Go reads it and takes it for complete, and whoever is given CRLs by file needs every shard.
    Shard {
        /// The URL.
        url: &'a str,
    },
    /// What has changed since the complete list of this number (RFC 5280 §5.2.4). rustls-webpki refuses it, BoringSSL and
    /// Go do not use it, OpenSSL does when asked to (`-use_deltas`).
    Delta {
        /// The number.
        base: u64,
    },
}

impl Scope<'_> {
    /// All, and no delta goes with it.
    pub const COMPLETE: Self = Self::Complete { freshest: None };
}

/// What goes into a CRL.
#[derive(Clone, Copy, Debug)]
pub struct CrlRequest<'a> {
    /// What it is about.
    pub scope: Scope<'a>,
    /// Its CRLNumber: greater than every one before (RFC 5280 §5.2.3).
    pub number: u64,
    /// When it is made.
    pub this_update: Timestamp,
    /// When its successor is out at the latest.
    pub next_update: Timestamp,
    /// The revoked certificates, each once.
    pub revoked: &'a [RevokedCertificate],
}

/// Prepares a CRL.
///
/// # Errors
/// When the issuer may not sign CRLs, the list would be out before it is in, or it would break a clause that its readers
/// enforce.
pub fn prepare_crl(request: &CrlRequest<'_>, issuer: &Issuer) -> Result<Prepared<Crl>, CrlError> {
    if !issuer.signs_crls() {
        return Err(CrlError::NoCrlSign);
    }
    if request.next_update <= request.this_update {
        return Err(CrlError::Dates);
    }
    let entries: Vec<u8> = request.revoked.iter().flat_map(entry).collect();
    // RFC 5280 §5.1.2.6: absent when there is none, not an empty list.
    let entries = if entries.is_empty() {
        entries
    } else {
        asn1::sequence(&[&entries])
    };
    let scope = match request.scope {
        Scope::Complete { freshest: None } => Vec::new(),
        Scope::Complete {
            freshest: Some(url),
        } => ext::freshest_crl(url),
        Scope::Shard { url } => ext::issuing_distribution_point(url),
        Scope::Delta { base } => ext::delta_crl_indicator(base),
    };
    let extensions = asn1::sequence(&[
        &ext::authority_key_id(issuer.key_id()),
        &ext::crl_number(request.number),
        &scope,
    ]);
    let tbs = asn1::sequence(&[
        &asn1::unsigned(1),
        issuer.key().algorithm().signs_with().identifier(),
        issuer.name(),
        &asn1::time(request.this_update),
        &asn1::time(request.next_update),
        &entries,
        &asn1::tlv(asn1::explicit(0), &[&extensions]),
    ]);
    lint(&Fields::parse(&tbs)?, request, issuer)?;
    Ok(Prepared::new(tbs, issuer.key()))
}

fn entry(revoked: &RevokedCertificate) -> Vec<u8> {
    let reason = match revoked.reason {
        Reason::Unspecified => Vec::new(),
        reason => {
            let value = asn1::tlv(asn1::ENUMERATED, &[&[reason as u8]]);
            let code = asn1::sequence(&[
                &asn1::tlv(asn1::OID, &[REASON_CODE]),
                &asn1::tlv(asn1::OCTET_STRING, &[&value]),
            ]);
            asn1::sequence(&[&code])
        }
    };
    asn1::sequence(&[
        &asn1::tlv(asn1::INTEGER, &[revoked.serial.as_bytes()]),
        &asn1::time(revoked.revoked_at),
        &reason,
    ])
}

/// A clause, and whether a list keeps it.
struct Lint {
    clause: &'static str,
    requires: &'static str,
    holds: fn(&Fields, &CrlRequest<'_>, &Issuer) -> bool,
}

/// Runs on what was written, read back from its bytes.
fn lint(written: &Fields, request: &CrlRequest<'_>, issuer: &Issuer) -> Result<(), LintError> {
    match LINTS
        .iter()
        .find(|lint| !(lint.holds)(written, request, issuer))
    {
        None => Ok(()),
        Some(Lint {
            clause, requires, ..
        }) => Err(LintError { clause, requires }),
    }
}

const LINTS: &[Lint] = &[
    Lint {
        clause: "RFC 5280 §5.1.2.2",
        requires: "the signature algorithm is the issuer's",
        holds: |list, _, issuer| list.algorithm == issuer.key().algorithm().signs_with(),
    },
    Lint {
        clause: "RFC 5280 §5.1.2.3",
        requires: "the issuer's name is byte for byte its certificate's subject",
        holds: |list, _, issuer| list.issuer == issuer.name(),
    },
    Lint {
        clause: "RFC 5280 §5.1.2.5",
        requires: "nextUpdate is there, after thisUpdate and not after the issuer's end",
        holds: |list, _, issuer| {
            list.next_update
                .is_some_and(|next| next > list.this_update && next <= issuer.not_after())
        },
    },
    Lint {
        clause: "RFC 5280 §5.1.2.6",
        requires: "each certificate stands there once",
        holds: |list, request, _| {
            let mut serials: Vec<_> = list.revoked.iter().map(|entry| entry.serial).collect();
            serials.sort_unstable();
            list.revoked.len() == request.revoked.len()
                && serials.windows(2).all(|pair| pair[0] != pair[1])
        },
    },
    Lint {
        clause: "RFC 5280 §5.2.1",
        requires: "the authority key identifier is the issuer's subject key identifier",
        holds: |list, _, issuer| list.authority_key_id.as_deref() == Some(issuer.key_id()),
    },
    Lint {
        clause: "RFC 5280 §5.2.3",
        requires: "there is a CRL number, greater than that of a delta's base",
        holds: |list, request, _| {
            list.number == Some(request.number)
                && list.delta_base.is_none_or(|base| base < request.number)
        },
    },
    Lint {
        clause: "RFC 5280 §5.2.5",
        requires: "a shard says which distribution point it is for, and nothing else does",
        holds: |list, request, _| {
            let url = match request.scope {
                Scope::Shard { url } => Some(Some(url)),
                Scope::Complete { .. } | Scope::Delta { .. } => None,
            };
            list.distribution_point.as_ref().map(Option::as_deref) == url
        },
    },
    Lint {
        clause: "RFC 5280 §5.2.6",
        requires: "a delta does not point to another one",
        holds: |list, _, _| list.delta_base.is_none() || !list.has_freshest,
    },
    Lint {
        clause: "RFC 5280 §5.3.1",
        requires: "removeFromCRL stands in deltas alone",
        holds: |list, _, _| {
            let removes = |entry: &RevokedCertificate| entry.reason == Reason::RemoveFromCrl;
            list.delta_base.is_some() || !list.revoked.iter().any(removes)
        },
    },
    Lint {
        clause: "RFC 5280 §5.2",
        requires: "no critical extension that readers do not know",
        holds: |list, _, _| !list.unknown_critical,
    },
];
