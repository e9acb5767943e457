//! Certificates, chains, requests and CRLs in words, for people who look at files.
//!
//! A description judges nothing beyond what it says: what it calls signed was checked, what it only read is not called so.

mod found;
mod words;

pub use found::kind_of;
pub use words::{Description, Fact, name};

use crate::asn1::{self, Der, DerError};
use crate::certificate::{Certificate, CertificateError};
use crate::crl::{Crl, CrlError, Reason, RevokedCertificate};
use crate::crypto;
use crate::csr::{CsrError, VerifiedCsr};
use crate::extension::{self as ext, Extensions, KeyUsage, Purpose};
use crate::key::SignatureAlgorithm;
use crate::pem::{self, PemError};
use crate::time::Timestamp;
use words::{oid, pairs, span, standing};

/// Reads `input`, PEM or DER, and describes each thing in it, as it stands at `now`. Certificates that come together
/// are described as a chain: each says who of the others signed it.
///
/// # Errors
/// When it holds none of them, or one that does not read.
pub fn read(input: &[u8], now: Timestamp) -> Result<Vec<Description>, DescribeError> {
    if holds(input, "-----BEGIN ") {
        read_pem(input, now)
    } else {
        read_der(input, now).map(|description| vec![description])
    }
}

fn holds(input: &[u8], text: &str) -> bool {
    input
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn read_pem(input: &[u8], now: Timestamp) -> Result<Vec<Description>, DescribeError> {
    let mut found = Vec::new();
    if holds(input, "-----BEGIN CERTIFICATE-----") {
        found.extend(chain(&Certificate::parse_pem(input)?, now));
    }
    if holds(input, "-----BEGIN CERTIFICATE REQUEST-----") {
        found.push(request(&VerifiedCsr::parse(&pem::read_request(input)?)?));
    }
    if holds(input, "-----BEGIN X509 CRL-----") {
        for der in pem::read_crls(input)? {
            found.push(crl(&Crl::parse(&der)?, now));
        }
    }
    if holds(input, "PRIVATE KEY-----") {
        let mut key = Description::new("private-key");
        key.say("content", "not shown");
        found.push(key);
    }
    if found.is_empty() {
        return Err(DescribeError::Nothing(kind_of(input)));
    }
    Ok(found)
}

fn read_der(input: &[u8], now: Timestamp) -> Result<Description, DescribeError> {
    // The three differ in their first fields, so that at most one reads.
    let as_certificate = match Certificate::parse(input) {
        Ok(read) => return Ok(certificate(&read, now)),
        Err(error) => error,
    };
    let as_crl = match Crl::parse(input) {
        Ok(read) => return Ok(crl(&read, now)),
        Err(error) => error,
    };
    let as_request = match VerifiedCsr::parse(input) {
        Ok(read) => return Ok(request(&read)),
        Err(error) => error,
    };
    // What has the shape of one of them, and some other fault, is that one.
    if !matches!(as_certificate, CertificateError::NotDer(_)) {
        return Err(as_certificate.into());
    }
    if !matches!(as_crl, CrlError::NotDer(_) | CrlError::Version) {
        return Err(as_crl.into());
    }
    if !matches!(
        as_request,
        CsrError::NotDer(_) | CsrError::Version | CsrError::TooLarge(_)
    ) {
        return Err(as_request.into());
    }
    Err(DescribeError::Nothing(kind_of(input)))
}

/// Describes certificates that stand together: each also says who of them signed it.
#[must_use]
pub fn chain(certificates: &[Certificate], now: Timestamp) -> Vec<Description> {
    let described = certificates.iter().enumerate().map(|(i, one)| {
        let mut description = certificate(one, now);
        if certificates.len() > 1 {
            description.say("signed_by", signed_by(one, i, certificates));
        }
        description
    });
    described.collect()
}

fn signed_by(one: &Certificate, at: usize, all: &[Certificate]) -> String {
    let signs = |candidate: &Certificate| {
        candidate.subject() == one.issuer()
            && candidate.is_authority()
            && candidate
                .public_key()
                .is_ok_and(|key| one.verify_by(&key).is_ok())
    };
    match all.iter().position(signs) {
        Some(signer) if signer == at => "itself".to_owned(),
        Some(signer) if signer == at + 1 => "the next certificate".to_owned(),
        Some(signer) => format!("certificate {} of {}", signer + 1, all.len()),
        None if all.iter().any(|other| other.subject() == one.issuer()) => {
            "NONE of these, although one has its issuer's name".to_owned()
        }
        None => "none of these".to_owned(),
    }
}

/// Describes one certificate as it stands at `now`.
#[must_use]
pub fn certificate(certificate: &Certificate, now: Timestamp) -> Description {
    let extensions = certificate.extensions();
    let mut said = Description::new("certificate");
    said.say("what", role(certificate));
    said.list("names", certificate.alt_names());
    said.say("subject", name(certificate.subject()));
    said.say("issuer", name(certificate.issuer()));
    said.say("serial", certificate.serial());
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    said.say("standing", standing(begin, end, now));
    said.say("not_before", begin);
    said.say("not_after", end);
    said.say("lifetime", span(end.seconds_since(begin)));
    match certificate.public_key() {
        Ok(key) => said.say("key", key.algorithm()),
        Err(error) => said.say("key", format!("not one that Signet takes: {error}")),
    }
    said.say("signature", signature(certificate.algorithm()));
    say_uses(&mut said, extensions);
    if let Some(id) = &extensions.subject_key_id {
        said.say("key_id", pairs(id));
    }
    if let Some(id) = &extensions.authority_key_id {
        said.say("issuer_key_id", pairs(id));
    }
    if extensions.has_name_constraints {
        said.say("constraints", "names are constrained");
    }
    if let Ok(urls) = urls(certificate) {
        said.list("crl_at", urls.crl);
        said.list("delta_crl_at", urls.freshest);
        said.list("issuer_and_ocsp", urls.access);
    }
    said.list("other", unread(extensions));
    said.say("sha256", crypto::hex(&certificate.digest()));
    said
}

fn role(certificate: &Certificate) -> String {
    if certificate.is_authority() {
        let path_len = certificate
            .extensions()
            .basic_constraints
            .and_then(|(_, n)| n);
        let below = match path_len {
            None => "any number of CAs below it".to_owned(),
            Some(0) => "no CA below it".to_owned(),
            Some(n) => format!("at most {n} level(s) of CAs below it"),
        };
        let signed_itself = certificate.is_self_issued()
            && certificate
                .public_key()
                .is_ok_and(|key| certificate.verify_by(&key).is_ok());
        let kind = if signed_itself {
            "a root CA, self-signed"
        } else {
            "an intermediate CA"
        };
        format!("{kind}; {below}")
    } else if certificate
        .extensions()
        .basic_constraints
        .is_some_and(|(ca, _)| ca)
    {
        "a CA by its constraints, but its key may not sign certificates (no keyCertSign)".to_owned()
    } else if let Ok(id) = certificate.spiffe_id() {
        format!("workload {id}")
    } else {
        "a leaf, no CA".to_owned()
    }
}

fn signature(algorithm: Option<SignatureAlgorithm>) -> &'static str {
    use SignatureAlgorithm as S;
    match algorithm {
        Some(S::EcdsaSha256) => "ECDSA with SHA-256",
        Some(S::EcdsaSha384) => "ECDSA with SHA-384",
        Some(S::Ed25519) => "Ed25519",
        Some(S::RsaSha256) => "RSA with SHA-256",
        Some(S::RsaSha384) => "RSA with SHA-384",
        Some(S::RsaSha512) => "RSA with SHA-512",
        None => "an algorithm that Signet does not take",
    }
}

fn say_uses(said: &mut Description, extensions: &Extensions) {
    const USES: [(KeyUsage, &str); 4] = [
        (KeyUsage::DigitalSignature, "sign"),
        (KeyUsage::KeyEncipherment, "encipher keys"),
        (KeyUsage::KeyCertSign, "sign certificates"),
        (KeyUsage::CrlSign, "sign CRLs"),
    ];
    if let Some(usages) = extensions.key_usage {
        let mut uses: Vec<&str> = USES
            .iter()
            .filter(|(usage, _)| usages.has(*usage))
            .map(|(_, word)| *word)
            .collect();
        if !usages.is_within(&USES.map(|(usage, _)| usage)) {
            uses.push("others");
        }
        said.say("key_may", uses.join(", "));
    }
    let purposes = extensions.purposes.iter().flatten();
    said.list(
        "good_for",
        purposes.map(|purpose| match purpose {
            Purpose::ClientAuth => "TLS client",
            Purpose::OcspSigning => "OCSP responses",
            Purpose::ServerAuth => "TLS server",
            Purpose::Unknown => "another purpose",
        }),
    );
}

/// The extensions that nothing above says anything about.
fn unread(extensions: &Extensions) -> Vec<String> {
    const SAID: [&[u8]; 9] = [
        ext::SUBJECT_KEY_ID,
        ext::KEY_USAGE,
        ext::SUBJECT_ALT_NAME,
        ext::BASIC_CONSTRAINTS,
        ext::NAME_CONSTRAINTS,
        ext::CRL_DISTRIBUTION_POINTS,
        ext::AUTHORITY_KEY_ID,
        ext::EXT_KEY_USAGE,
        ext::AUTHORITY_INFO_ACCESS,
    ];
    let unread = extensions
        .present
        .iter()
        .filter(|(kind, _)| !SAID.contains(&kind.as_slice()));
    unread
        .map(|(kind, critical)| {
            let critical = if *critical { ", critical" } else { "" };
            if kind == ext::OCSP_NO_CHECK {
                format!("no revocation check (ocsp-nocheck){critical}")
            } else {
                format!("extension {}{critical}", oid(kind))
            }
        })
        .collect()
}

#[derive(Default)]
struct Urls {
    crl: Vec<String>,
    freshest: Vec<String>,
    access: Vec<String>,
}

/// The URLs of the two extensions that carry some, in their order.
fn urls(certificate: &Certificate) -> Result<Urls, DerError> {
    let mut outer = Der::new(Der::only(certificate.der(), asn1::SEQUENCE)?)?;
    let mut fields = Der::new(outer.content(asn1::SEQUENCE)?)?;
    let mut urls = Urls::default();
    while !fields.is_empty() {
        let (tag, content) = fields.any()?;
        if tag != asn1::explicit(3) {
            continue;
        }
        let mut list = Der::new(Der::only(content, asn1::SEQUENCE)?)?;
        while !list.is_empty() {
            let mut extension = Der::new(list.content(asn1::SEQUENCE)?)?;
            let kind = extension.content(asn1::OID)?;
            extension.default_false()?;
            let value = extension.content(asn1::OCTET_STRING)?;
            match kind {
                ext::CRL_DISTRIBUTION_POINTS => collect_uris(value, 0, &mut urls.crl)?,
                ext::FRESHEST_CRL => collect_uris(value, 0, &mut urls.freshest)?,
                ext::AUTHORITY_INFO_ACCESS => collect_uris(value, 0, &mut urls.access)?,
                _ => {}
            }
        }
    }
    Ok(urls)
}

/// Every uniformResourceIdentifier below `der`. Eight levels are more than either extension has.
fn collect_uris(der: &[u8], depth: u8, found: &mut Vec<String>) -> Result<(), DerError> {
    let mut list = Der::new(der)?;
    while !list.is_empty() {
        let (tag, content) = list.any()?;
        if tag == asn1::implicit(6) {
            found.push(String::from_utf8_lossy(content).into_owned());
        } else if tag & 0x20 != 0 && depth < 8 {
            collect_uris(content, depth + 1, found)?;
        }
    }
    Ok(())
}

/// Describes a request whose proof of possession was checked.
#[must_use]
pub fn request(csr: &VerifiedCsr) -> Description {
    let mut said = Description::new("request");
    said.say("subject", name(csr.subject_der()));
    said.list("names", csr.alt_names());
    said.say("key", csr.key().algorithm());
    said.say("key_id", pairs(csr.key().id().as_bytes()));
    said.say("possession", "proven: signed with the key it holds");
    if csr.asks_for_authority() {
        said.say("asks_for", "a CA certificate");
    }
    said.say("sha256", crypto::hex(&csr.digest()));
    said
}

/// Describes a CRL as it stands at `now`. Its signature is not checked: its issuer is not here.
#[must_use]
pub fn crl(crl: &Crl, now: Timestamp) -> Description {
    let mut said = Description::new("crl");
    said.say("issuer", name(crl.issuer()));
    if let Some(number) = crl.number() {
        said.say("number", number);
    }
    if let Some(base) = crl.delta_base() {
        said.say(
            "scope",
            format!("a delta: what has changed since number {base}"),
        );
    }
    if let Some(url) = crl.distribution_point() {
        said.say("scope", format!("a shard: certificates that name {url}"));
    }
    said.say("this_update", crl.this_update());
    match crl.next_update() {
        Some(next) => {
            said.say("next_update", next);
            said.say("standing", standing(crl.this_update(), next, now));
        }
        None => said.say("next_update", "not said"),
    }
    said.say(
        "signature",
        "not checked: the issuer's certificate is not here",
    );
    said.say("revoked_count", crl.revoked().len());
    said.list("revoked", crl.revoked().iter().map(entry));
    said.say("sha256", crypto::hex(&crypto::sha256(crl.der())));
    said
}

fn entry(revoked: &RevokedCertificate) -> String {
    let RevokedCertificate {
        serial,
        revoked_at,
        reason,
    } = revoked;
    let reason = match reason {
        Reason::Unspecified => return format!("{serial} at {revoked_at}"),
        Reason::KeyCompromise => "key compromise",
        Reason::CaCompromise => "the CA's key compromise",
        Reason::AffiliationChanged => "affiliation changed",
        Reason::Superseded => "superseded",
        Reason::CessationOfOperation => "cessation of operation",
        Reason::CertificateHold => "on hold",
        Reason::RemoveFromCrl => "no longer listed",
        Reason::PrivilegeWithdrawn => "privilege withdrawn",
    };
    format!("{serial} at {revoked_at}, {reason}")
}

/// Why nothing was described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// A certificate that does not read.
    #[error("it holds a certificate that does not read")]
    Certificate(#[from] CertificateError),
    /// A CRL that does not read.
    #[error("it holds a CRL that does not read")]
    Crl(#[from] CrlError),
    /// None of them.
    #[error("expected certificates, a request or CRLs, as PEM or DER; found {0}")]
    Nothing(&'static str),
    /// PEM that is broken.
    #[error("the PEM is broken")]
    Pem(#[from] PemError),
    /// A request that does not read, or does not prove possession.
    #[error("it holds a request that a CA would refuse")]
    Request(#[from] CsrError),
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
