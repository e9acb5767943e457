//! Certificates, up to the signature.

use crate::artefact::Prepared;
use crate::asn1;
use crate::certificate::{Certificate, CertificateError, Fields, Issuer};
use crate::extension::{self as ext, SubjectNames};
use crate::key::{KeyError, PublicKey};
use crate::lint::{self, LintError};
use crate::name::{DistinguishedName, EMPTY_NAME};
use crate::policy::Grant;
use crate::profile::Profile;
use crate::serial::{SERIAL_ENTROPY, Serial};
use crate::time::{Timestamp, Ttl};

/// How far notBefore lies in the past, for readers whose clocks are behind: Istio's own CA takes 2 minutes, replicas
/// of ours may differ by 5 seconds. Half the lifetime where that is less, since ztunnel renews at half of what it sees.
const BACKDATE: Ttl = Ttl::minutes(1);

/// Where a certificate's readers find what belongs to it; absent ones are not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Urls {
    /// The issuer's CRL (RFC 5280 §4.2.1.13).
    pub crl: Option<String>,
    /// The issuer's certificate (RFC 5280 §4.2.2.1).
    pub ca_issuers: Option<String>,
    /// The issuer's OCSP responder (RFC 5280 §4.2.2.1).
    pub ocsp: Option<String>,
    /// The issuer's delta CRL (RFC 5280 §4.2.1.15).
    pub freshest_crl: Option<String>,
}

/// What goes into a leaf.
#[derive(Clone, Copy, Debug)]
pub struct LeafRequest<'a> {
    /// What policy gave.
    pub grant: &'a Grant,
    /// The key to certify, its possession proven.
    pub key: &'a PublicKey,
    /// URLs of the issuer.
    pub urls: &'a Urls,
    /// Random octets of the serial number, used once.
    pub entropy: [u8; SERIAL_ENTROPY],
    /// The time.
    pub now: Timestamp,
}

/// Prepares a leaf. It ends when the grant's lifetime is over or when a CA above it ends, whichever comes first.
///
/// # Errors
/// When the issuer is not valid now, or the certificate would break a clause that its readers enforce.
pub fn prepare_leaf(
    request: &LeafRequest<'_>,
    issuer: &Issuer,
) -> Result<Prepared<Certificate>, PrepareError> {
    let LeafRequest {
        grant,
        key,
        urls,
        now,
        ..
    } = *request;
    let profile = grant.profile;
    if profile.is_authority() {
        return Err(PrepareError::Profile(profile.as_str()));
    }
    let validity = validity(now, grant.ttl, Some(issuer))?;
    let subject = grant
        .subject
        .as_ref()
        .map_or_else(|| EMPTY_NAME.to_vec(), DistinguishedName::to_der);
    let mut extensions = vec![
        ext::key_usage(profile.key_usages(key.algorithm())),
        ext::ext_key_usage(profile.purposes()),
        ext::basic_constraints(false, None),
        ext::subject_key_id(key.id()),
        ext::authority_key_id(issuer.key_id()),
    ];
    if !grant.names.is_empty() {
        extensions.push(ext::subject_alt_name(&grant.names, subject == EMPTY_NAME));
    }
    if profile.is_no_check() {
        extensions.push(ext::ocsp_no_check());
    }
    if !profile.has_revocation() {
        extensions.push(ext::no_rev_avail());
    }
    push_urls(&mut extensions, urls);
    let template = Template {
        profile,
        serial: Serial::issue(validity.1, request.entropy),
        issuer_name: issuer.name(),
        validity,
        subject: &subject,
        key,
        extensions,
    };
    template.prepare(&grant.names, issuer.key(), Some(issuer))
}

/// What goes into an authority's certificate.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityRequest<'a> {
    /// One of the authority profiles.
    pub profile: Profile,
    /// Its name; each generation has one of its own.
    pub subject: &'a DistinguishedName,
    /// The key to certify, its possession proven.
    pub key: &'a PublicKey,
    /// How many CAs may follow below it; `None`, any number, for a root alone.
    pub path_len: Option<u8>,
    /// The lifetime.
    pub ttl: Ttl,
    /// URLs of the issuer.
    pub urls: &'a Urls,
    /// Random octets of the serial number, used once.
    pub entropy: [u8; SERIAL_ENTROPY],
    /// The time.
    pub now: Timestamp,
}

impl<'a> AuthorityRequest<'a> {
    fn authority(&self, subject: &'a [u8]) -> Authority<'a> {
        Authority {
            profile: self.profile,
            subject,
            key: self.key,
            path_len: self.path_len,
            ttl: self.ttl,
            urls: self.urls,
            entropy: self.entropy,
            now: self.now,
        }
    }
}

/// What goes into another certificate of an authority that has one: its name and its key stay, octet for octet, and
/// what is below it follows from either.
#[derive(Clone, Copy, Debug)]
pub struct AgainRequest<'a> {
    /// One of the authority profiles.
    pub profile: Profile,
    /// The certificate that it has.
    pub certificate: &'a Certificate,
    /// How many CAs may follow below it.
    pub path_len: u8,
    /// The lifetime.
    pub ttl: Ttl,
    /// URLs of the issuer.
    pub urls: &'a Urls,
    /// Random octets of the serial number, used once.
    pub entropy: [u8; SERIAL_ENTROPY],
    /// The time.
    pub now: Timestamp,
}

/// Prepares an intermediate's certificate.
///
/// # Errors
/// When it would outlive its issuer, the issuer may not have another CA below it, or the certificate would break a
/// clause that its readers enforce. Unlike a leaf's, its lifetime is never shortened.
pub fn prepare_authority(
    request: &AuthorityRequest<'_>,
    issuer: &Issuer,
) -> Result<Prepared<Certificate>, PrepareError> {
    let subject = request.subject.to_der();
    prepare_below(&request.authority(&subject), issuer)
}

/// Prepares another certificate for the holder of a certificate's key, by this issuer, which need not be the first
/// one's: so a new root is signed by the old one.
///
/// # Errors
/// As [`prepare_authority`], and when the certificate's key is not one that we take.
pub fn prepare_again(
    request: &AgainRequest<'_>,
    issuer: &Issuer,
) -> Result<Prepared<Certificate>, PrepareError> {
    let key = request.certificate.public_key()?;
    let authority = Authority {
        profile: request.profile,
        subject: request.certificate.subject(),
        key: &key,
        path_len: Some(request.path_len),
        ttl: request.ttl,
        urls: request.urls,
        entropy: request.entropy,
        now: request.now,
    };
    prepare_below(&authority, issuer)
}

/// An authority's certificate to be; its name as DER, whoever wrote it.
struct Authority<'a> {
    profile: Profile,
    subject: &'a [u8],
    key: &'a PublicKey,
    path_len: Option<u8>,
    ttl: Ttl,
    urls: &'a Urls,
    entropy: [u8; SERIAL_ENTROPY],
    now: Timestamp,
}

fn prepare_below(
    request: &Authority<'_>,
    issuer: &Issuer,
) -> Result<Prepared<Certificate>, PrepareError> {
    if request.now.plus(request.ttl) > issuer.not_after() {
        return Err(PrepareError::OutlivesIssuer {
            wanted: request.now.plus(request.ttl),
            issuer: issuer.not_after(),
        });
    }
    let Some(path_len) = request.path_len else {
        return Err(PrepareError::PathLength);
    };
    if issuer
        .path_len()
        .is_some_and(|allowed| u64::from(path_len) >= allowed)
    {
        return Err(PrepareError::PathLength);
    }
    prepare_ca(request, Some(issuer))
}

/// Prepares a self-signed root for the holder of `request.key`.
///
/// # Errors
/// When the certificate would break a clause that its readers enforce.
pub fn prepare_root(request: &AuthorityRequest<'_>) -> Result<Prepared<Certificate>, PrepareError> {
    let subject = request.subject.to_der();
    prepare_ca(&request.authority(&subject), None)
}

fn prepare_ca(
    request: &Authority<'_>,
    issuer: Option<&Issuer>,
) -> Result<Prepared<Certificate>, PrepareError> {
    let Authority {
        profile,
        subject,
        key,
        urls,
        now,
        ..
    } = *request;
    if !profile.is_authority() || !profile.takes(key.algorithm()) {
        return Err(PrepareError::Profile(profile.as_str()));
    }
    if request.ttl > profile.max_ttl() {
        return Err(PrepareError::TooLong {
            wanted: request.ttl,
            longest: profile.max_ttl(),
        });
    }
    let validity = validity(now, request.ttl, issuer)?;
    let mut extensions = vec![
        ext::key_usage(profile.key_usages(key.algorithm())),
        ext::basic_constraints(true, request.path_len),
        ext::subject_key_id(key.id()),
    ];
    // RFC 5280 §4.2.1.1: a self-signed root may do without.
    if let Some(issuer) = issuer {
        extensions.push(ext::authority_key_id(issuer.key_id()));
    }
    push_urls(&mut extensions, urls);
    let template = Template {
        profile,
        serial: Serial::issue(validity.1, request.entropy),
        issuer_name: issuer.map_or(subject, Issuer::name),
        validity,
        subject,
        key,
        extensions,
    };
    let signing_key = issuer.map_or(key, Issuer::key);
    template.prepare(&SubjectNames::default(), signing_key, issuer)
}

fn validity(
    now: Timestamp,
    ttl: Ttl,
    issuer: Option<&Issuer>,
) -> Result<(Timestamp, Timestamp), PrepareError> {
    let backdate = Ttl::from_seconds(BACKDATE.seconds().min(ttl.seconds() / 2));
    let mut not_before = backdate.map_or(now, |backdate| now.minus(backdate));
    let mut not_after = now.plus(ttl);
    if let Some(issuer) = issuer {
        if now < issuer.not_before() || now >= issuer.not_after() {
            return Err(PrepareError::IssuerNotValid {
                not_after: issuer.not_after(),
            });
        }
        not_before = not_before.max(issuer.not_before());
        not_after = not_after.min(issuer.not_after());
    }
    Ok((not_before, not_after))
}

fn push_urls(extensions: &mut Vec<Vec<u8>>, urls: &Urls) {
    if let Some(url) = &urls.crl {
        extensions.push(ext::crl_distribution_point(url));
    }
    if let Some(url) = &urls.freshest_crl {
        extensions.push(ext::freshest_crl(url));
    }
    if urls.ca_issuers.is_some() || urls.ocsp.is_some() {
        extensions.push(ext::authority_info_access(
            urls.ca_issuers.as_deref(),
            urls.ocsp.as_deref(),
        ));
    }
}

struct Template<'a> {
    profile: Profile,
    serial: Serial,
    issuer_name: &'a [u8],
    validity: (Timestamp, Timestamp),
    subject: &'a [u8],
    key: &'a PublicKey,
    extensions: Vec<Vec<u8>>,
}

impl Template<'_> {
    /// Writes the TBSCertificate, reads it back and lints it: nothing that fails here is ever signed.
    fn prepare(
        self,
        names: &SubjectNames,
        signing_key: &PublicKey,
        issuer: Option<&Issuer>,
    ) -> Result<Prepared<Certificate>, PrepareError> {
        let extensions: Vec<&[u8]> = self.extensions.iter().map(Vec::as_slice).collect();
        let validity =
            asn1::sequence(&[&asn1::time(self.validity.0), &asn1::time(self.validity.1)]);
        let tbs = asn1::sequence(&[
            // version 3
            &[0xa0, 0x03, asn1::INTEGER, 0x01, 0x02],
            &asn1::tlv(asn1::INTEGER, &[self.serial.as_bytes()]),
            signing_key.algorithm().signs_with().identifier(),
            self.issuer_name,
            &validity,
            self.subject,
            self.key.spki(),
            &asn1::tlv(asn1::explicit(3), &[&asn1::sequence(&extensions)]),
        ]);
        let fields = Fields::parse(&tbs)?;
        lint::check(&fields, self.profile, names, self.key, issuer)?;
        Ok(Prepared::new(tbs, signing_key))
    }
}

/// Why no certificate was prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// A CA of the issuer's chain has ended, or not begun.
    #[error("the issuer is not valid now: its chain ends at {not_after}")]
    IssuerNotValid {
        /// When the first CA of the chain ends.
        not_after: Timestamp,
    },
    /// A key that we do not certify.
    #[error("the key is not acceptable")]
    Key(#[from] KeyError),
    /// A lint failed.
    #[error("the certificate would not be accepted by its readers")]
    Lint(#[from] LintError),
    /// The authority would end after its issuer.
    #[error("the certificate would end at {wanted}, after its issuer, which ends at {issuer}")]
    OutlivesIssuer {
        /// The end that was asked for.
        wanted: Timestamp,
        /// The issuer's.
        issuer: Timestamp,
    },
    /// The issuer may not have such a CA below it, or an intermediate has no path length.
    #[error(
        "the issuer's path length does not allow this CA below it, or the intermediate has none (RFC 5280 §4.2.1.9)"
    )]
    PathLength,
    /// The profile is of the other kind, or does not take the key.
    #[error(
        "profile {0:?} does not fit: it is of the other kind (leaf, authority), or does not take the key"
    )]
    Profile(&'static str),
    /// A longer lifetime than the profile allows.
    #[error("a lifetime of {wanted} was asked for, {longest} is the profile's longest")]
    TooLong {
        /// The lifetime that was asked for.
        wanted: Ttl,
        /// The profile's.
        longest: Ttl,
    },
    /// What was written does not read back.
    #[error("the certificate does not read back")]
    Unreadable(#[from] CertificateError),
}
