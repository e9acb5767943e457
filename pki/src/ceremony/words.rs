//! What is signed, in words for people: aligned lines, the odd character escaped.

use crate::asn1::{self, Der, DerError};
use crate::ceremony::file_name::FileName;
use crate::ceremony::read::REASONS;
use crate::certificate::{Fields, Urls};
use crate::crl::{Crl, CrlRequest};
use crate::crypto;
use crate::csr::VerifiedCsr;
use crate::extension::KeyUsage;
use crate::key::PublicKey;

const SECONDS_PER_DAY: i64 = 86_400;

const ATTRIBUTES: [(&[u8], &str); 6] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
];

/// A Name in its order, each value quoted and what does not print escaped, so that no value looks like two:
/// `O="Example", CN="Example Mesh Root 1"`.
#[must_use]
pub fn name_words(name: &[u8]) -> String {
    attributes(name).map_or_else(
        |_| "(not a name)".to_owned(),
        |found| match found.is_empty() {
            true => "(empty)".to_owned(),
            false => found.join(", "),
        },
    )
}

fn attributes(name: &[u8]) -> Result<Vec<String>, DerError> {
    let mut rdns = Der::new(Der::only(name, asn1::SEQUENCE)?)?;
    let mut found = Vec::new();
    while !rdns.is_empty() {
        let mut rdn = Der::new(rdns.content(asn1::SET)?)?;
        while !rdn.is_empty() {
            let mut attribute = Der::new(rdn.content(asn1::SEQUENCE)?)?;
            let oid = attribute.content(asn1::OID)?;
            let (_, value) = attribute.any()?;
            let known = ATTRIBUTES.iter().find(|(known, _)| *known == oid);
            let kind = known.map_or_else(|| crypto::hex(oid), |(_, kind)| (*kind).to_owned());
            let value = String::from_utf8_lossy(value);
            found.push(format!("{kind}={value:?}"));
        }
    }
    Ok(found)
}

/// A digest in groups of four digits, to be read aloud.
#[must_use]
pub fn digest_words(digest: &[u8]) -> String {
    let groups: Vec<String> = digest.chunks(2).map(crypto::hex).collect();
    groups.join(" ")
}

fn line(what: &str, value: impl std::fmt::Display) -> String {
    format!("  {what:<11} {value}")
}

fn key_lines(spki: &[u8]) -> Vec<String> {
    let key = PublicKey::from_spki(spki);
    let kind = match &key {
        Ok(key) => key.algorithm().to_string(),
        Err(error) => error.to_string(),
    };
    let mut lines = vec![line("key", kind)];
    if let Ok(key) = key {
        lines.push(line("key id", key.id()));
    }
    // Two lines, so that neither reader nor terminal loses the place.
    let digest = crypto::sha256(spki);
    lines.push(line("key SHA-256", digest_words(&digest[..16])));
    lines.push(line("", digest_words(&digest[16..])));
    lines
}

/// A certificate, signed or to be signed.
#[must_use]
pub fn describe_certificate(fields: &Fields) -> Vec<String> {
    let mut lines = vec![line("subject", name_words(fields.subject()))];
    lines.extend(key_lines(fields.spki()));
    lines.push(line("issuer", name_words(fields.issuer())));
    lines.push(line("serial", fields.serial()));
    let (begin, end) = (fields.not_before(), fields.not_after());
    let days = end.seconds_since(begin) / SECONDS_PER_DAY;
    lines.push(line(
        "valid",
        format_args!("{begin} to {end} ({days} days)"),
    ));
    let extensions = fields.extensions();
    let below = match extensions.basic_constraints {
        Some((true, None)) => "any number of CAs may follow below it".to_owned(),
        Some((true, Some(0))) => "no further CA below it (path length 0)".to_owned(),
        Some((true, Some(n))) => format!("CAs below it, {n} deep (path length {n})"),
        _ => "none: it is no CA".to_owned(),
    };
    lines.push(line("CAs below", below));
    if let Some(usages) = extensions.key_usage {
        let names: Vec<&str> = USAGES
            .iter()
            .filter(|(usage, _)| usages.has(*usage))
            .map(|(_, name)| *name)
            .collect();
        lines.push(line("key usage", names.join(", ")));
    }
    if !fields.alt_names().is_empty() {
        let names: Vec<String> = fields
            .alt_names()
            .iter()
            .map(|n| format!("{n:?}"))
            .collect();
        lines.push(line("names", names.join(", ")));
    }
    lines
}

const USAGES: [(KeyUsage, &str); 4] = [
    (KeyUsage::DigitalSignature, "digitalSignature"),
    (KeyUsage::KeyEncipherment, "keyEncipherment"),
    (KeyUsage::KeyCertSign, "keyCertSign"),
    (KeyUsage::CrlSign, "cRLSign"),
];

/// A request whose possession proof holds.
#[must_use]
pub fn describe_request(request: &VerifiedCsr) -> Vec<String> {
    let mut lines = vec![line("subject", name_words(request.subject_der()))];
    lines.extend(key_lines(request.key().spki()));
    lines.push(line(
        "request",
        format_args!("SHA-256 {}", crypto::hex(&request.digest())),
    ));
    lines
}

/// A CRL.
#[must_use]
pub fn describe_crl(crl: &Crl) -> Vec<String> {
    let number = crl.number().map_or("none".to_owned(), |n| n.to_string());
    let end = crl
        .next_update()
        .map_or("no end".to_owned(), |t| t.to_string());
    let mut lines = vec![
        line("issuer", name_words(crl.issuer())),
        line("number", number),
        line("in force", format_args!("{} to {end}", crl.this_update())),
        line(
            "revokes",
            format_args!("{} certificate(s)", crl.revoked().len()),
        ),
    ];
    lines.extend(crl.revoked().iter().map(|entry| line("", entry.serial)));
    lines
}

/// What stands in a certificate beside what [`describe_certificate`] reads from it.
pub(super) fn urls(urls: &Urls) -> Vec<String> {
    let crl = urls.crl.iter().map(|url| line("CRL at", url));
    let issuer = urls.ca_issuers.iter().map(|url| line("issuer at", url));
    crl.chain(issuer).collect()
}

/// A CRL that is to be signed.
pub(super) fn crl_task(output: &FileName, issuer: &[u8], request: &CrlRequest<'_>) -> Vec<String> {
    let days = request.next_update.seconds_since(request.this_update) / SECONDS_PER_DAY;
    let (begin, end) = (request.this_update, request.next_update);
    let mut lines = vec![
        format!("sign a CRL, into {output}"),
        line("issuer", name_words(issuer)),
        line("number", request.number),
        line("in force", format_args!("{begin} to {end} ({days} days)")),
        line(
            "revokes",
            format_args!("{} certificate(s)", request.revoked.len()),
        ),
    ];
    for revoked in request.revoked {
        let known = REASONS.iter().find(|(_, reason)| *reason == revoked.reason);
        let reason = known.map_or("unspecified", |(name, _)| name);
        let text = format!("{} since {}, {reason}", revoked.serial, revoked.revoked_at);
        lines.push(line("", text));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::DistinguishedName;

    #[test]
    fn a_name_cannot_look_like_another() {
        let name = DistinguishedName::new(None, "a\", O=\"b\u{202e}").unwrap();
        assert_eq!(name_words(&name.to_der()), r#"CN="a\", O=\"b\u{202e}""#);
        let name = DistinguishedName::new(Some("o"), "n").unwrap();
        assert_eq!(name_words(&name.to_der()), r#"O="o", CN="n""#);
        assert_eq!(name_words(&[0x30, 0]), "(empty)");
        assert_eq!(name_words(&[0x31]), "(not a name)");
    }
}
