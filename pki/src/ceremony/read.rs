//! Reading a plan's TOML, section by section: all faults, not only the first.

use crate::ceremony::fault::{Faults, Section};
use crate::ceremony::file_name::{FileName, FileNameError};
use crate::ceremony::plan::{
    Ceremony, CreateRoot, Intermediate, IssueCrl, Revoke, RootFiles, SignIntermediate, Which,
};
use crate::certificate::Urls;
use crate::crl::Reason;
use crate::crypto;
use crate::key::KeyAlgorithm;
use crate::name::{DistinguishedName, ProfileName};
use crate::profile::Profile;
use crate::serial::Serial;
use crate::time::{Timestamp, Ttl};

/// The only version of plans.
const VERSION: i64 = 1;
/// A root's CRL stays in force for a year and some weeks, so that one ceremony a year renews it.
const CRL_LIFE: Ttl = Ttl::days(400);
/// Longer than this nobody would notice that the root's keepers are gone.
const MAX_CRL_LIFE: Ttl = Ttl::days(800);
const MAX_INTERMEDIATES: usize = 100;
const MAX_REVOKED: usize = 1000;
const MAX_KNOWN: usize = 1000;
const MAX_URL_BYTES: usize = 500;

/// Reads the text of a plan.
pub(super) fn ceremony(text: &str) -> Result<Ceremony, Faults> {
    let table = text
        .parse()
        .map_err(|error: toml::de::Error| Faults::one("plan", error.to_string().trim_end()))?;
    let mut plan = Section::root(table);
    let mut faults = Faults::default();
    if plan.take("version").and_then(|v| v.as_integer()) != Some(VERSION) {
        faults.push("version", format_args!("expected {VERSION}"));
    }
    let kind = plan.required(&mut faults, "ceremony", |kind| {
        KINDS
            .iter()
            .find(|(name, _)| *name == kind)
            .map(|(_, read)| *read)
            .ok_or(Expected("create-root, sign-intermediate or issue-crl"))
    });
    // Without its kind nothing more can be said about a plan.
    let Some(read) = kind else { return Err(faults) };
    let ceremony = read(&mut plan, &mut faults);
    plan.end(&mut faults);
    faults.or(ceremony)
}

type Read = fn(&mut Section, &mut Faults) -> Option<Ceremony>;

const KINDS: [(&str, Read); 3] = [
    ("create-root", create_root),
    ("sign-intermediate", sign_intermediate),
    ("issue-crl", issue_crl),
];

/// Something else was expected.
#[derive(Debug, thiserror::Error)]
#[error("expected {0}")]
struct Expected(&'static str);

fn file(name: &str) -> Result<FileName, FileNameError> {
    FileName::parse(name)
}

fn text(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.to_owned())
}

fn create_root(plan: &mut Section, faults: &mut Faults) -> Option<Ceremony> {
    let (root, outputs) = (
        plan.section(faults, "root"),
        plan.section(faults, "outputs"),
    );
    let (mut root, mut outputs) = (root?, outputs?);
    let organization = root.optional(faults, "organization", text);
    let subject = root.required(faults, "name", |name| {
        DistinguishedName::new(organization.as_deref(), name)
    });
    let algorithm = root.required(faults, "algorithm", |name| match name {
        "P-256" => Ok(KeyAlgorithm::EcdsaP256),
        "P-384" => Ok(KeyAlgorithm::EcdsaP384),
        _ => Err(Expected("P-256 or P-384")),
    });
    let life = life(&mut root, faults, "life", Profile::ROOT);
    let certificate = outputs.required(faults, "certificate", file);
    let key = outputs.required(faults, "key", file);
    let crl = outputs.required(faults, "crl", file);
    let crl_life = crl_life(&mut outputs, faults, "crl_life");
    root.end(faults);
    outputs.end(faults);
    Some(Ceremony::CreateRoot(CreateRoot {
        subject: subject?,
        algorithm: algorithm?,
        life: life?,
        certificate: certificate?,
        key: key?,
        crl: crl?,
        crl_life: crl_life?,
    }))
}

/// A lifetime within the profile's; its default when absent.
fn life(section: &mut Section, faults: &mut Faults, key: &str, profile: Profile) -> Option<Ttl> {
    bounded(
        section,
        faults,
        key,
        profile.default_ttl(),
        profile.max_ttl(),
    )
}

fn crl_life(section: &mut Section, faults: &mut Faults, key: &str) -> Option<Ttl> {
    bounded(section, faults, key, CRL_LIFE, MAX_CRL_LIFE)
}

fn bounded(
    section: &mut Section,
    faults: &mut Faults,
    key: &str,
    default: Ttl,
    longest: Ttl,
) -> Option<Ttl> {
    let at = section.at(key);
    let before = faults.all().len();
    let given = section.optional(faults, key, str::parse::<Ttl>);
    if faults.all().len() > before {
        return None;
    }
    let ttl = given.unwrap_or(default);
    if ttl > longest {
        faults.push(
            at,
            format_args!("{ttl} is longer than {longest}, the longest allowed"),
        );
        return None;
    }
    Some(ttl)
}

fn root_files(root: &mut Section, faults: &mut Faults) -> Option<RootFiles> {
    let certificate = root.required(faults, "certificate", file);
    let key = root.required(faults, "key", file);
    Some(RootFiles {
        certificate: certificate?,
        key: key?,
    })
}

fn sign_intermediate(plan: &mut Section, faults: &mut Faults) -> Option<Ceremony> {
    let root = plan.section(faults, "root").map(|mut root| {
        let files = root_files(&mut root, faults);
        let urls = Urls {
            crl: root.optional(faults, "crl_url", url),
            ca_issuers: root.optional(faults, "issuer_url", url),
            ocsp: None,
            freshest_crl: None,
        };
        root.end(faults);
        (files, urls)
    });
    let known = known(plan, faults);
    let sections = plan.sections(faults, "intermediate");
    if !(1..=MAX_INTERMEDIATES).contains(&sections.len()) {
        let what = format!(
            "expected 1 to {MAX_INTERMEDIATES}, found {}",
            sections.len()
        );
        faults.push("intermediate", what);
        return None;
    }
    let intermediates: Vec<_> = sections
        .into_iter()
        .map(|section| intermediate(section, faults))
        .collect();
    let (files, urls) = root?;
    Some(Ceremony::SignIntermediate(SignIntermediate {
        root: files?,
        urls,
        intermediates: intermediates.into_iter().collect::<Option<_>>()?,
        known,
    }))
}

/// RFC 5280 §4.2.1.13 and §4.2.2.1: readers fetch these without a certificate check, hence over plain HTTP.
fn url(url: &str) -> Result<String, Expected> {
    let plain = url.len() <= MAX_URL_BYTES
        && url
            .strip_prefix("http://")
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && url.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| url.to_owned()).ok_or(Expected(
        "an http:// URL of at most 500 printable ASCII characters",
    ))
}

fn known(plan: &mut Section, faults: &mut Faults) -> Vec<FileName> {
    let values = match plan.take("known") {
        None => return Vec::new(),
        Some(toml::Value::Array(values)) if values.len() <= MAX_KNOWN => values,
        Some(_) => {
            faults.push(
                "known",
                format_args!("expected at most {MAX_KNOWN} names of files"),
            );
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for (i, value) in values.iter().enumerate() {
        match value.as_str().map(file) {
            Some(Ok(name)) => files.push(name),
            Some(Err(error)) => faults.push(format!("known[{i}]"), error),
            None => faults.push(format!("known[{i}]"), "expected a text"),
        }
    }
    files
}

fn intermediate(mut section: Section, faults: &mut Faults) -> Option<Intermediate> {
    let request = section.required(faults, "request", file);
    let profile = section.required(faults, "profile", |name| {
        ProfileName::parse(name)
            .ok()
            .and_then(|name| Profile::builtin(&name))
            .filter(|profile| path_lens(*profile).is_some())
            .ok_or(Expected(
                "cluster-intermediate, fleet-intermediate or subordinate-ca",
            ))
    });
    let name = section.optional(faults, "name", text);
    let organization = section.optional(faults, "organization", text);
    let key_sha256 = section.optional(faults, "key_sha256", |digits| {
        crypto::from_hex(digits)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Expected("64 hexadecimal digits"))
    });
    let out = section.required(faults, "out", file);
    let life = profile.and_then(|profile| life(&mut section, faults, "life", profile));
    let path_len = profile.and_then(|profile| path_len(&mut section, faults, profile));
    if profile.is_none() {
        // Already told; whether these two are right depends on it.
        section.take("life");
        section.take("path_len");
    }
    section.end(faults);
    Some(Intermediate {
        request: request?,
        profile: profile?,
        name,
        organization,
        key_sha256,
        life: life?,
        path_len: path_len?,
        out: out?,
    })
}

/// The least, usual and greatest path length of an intermediate: a cluster's signs leaves only, a fleet's signs
/// clusters' and may have one more level below.
fn path_lens(profile: Profile) -> Option<(u8, u8, u8)> {
    match profile {
        Profile::CLUSTER_INTERMEDIATE => Some((0, 0, 0)),
        Profile::FLEET_INTERMEDIATE => Some((1, 1, 2)),
        Profile::SUBORDINATE_CA => Some((0, 0, 2)),
        _ => None,
    }
}

fn path_len(section: &mut Section, faults: &mut Faults, profile: Profile) -> Option<u8> {
    let (least, usual, greatest) = path_lens(profile)?;
    let Some(value) = section.take("path_len") else {
        return Some(usual);
    };
    let number = value.as_integer().and_then(|n| u8::try_from(n).ok());
    let number = number.filter(|n| (least..=greatest).contains(n));
    if number.is_none() {
        let name = profile.as_str();
        let what = format!("expected {least} to {greatest} for profile {name:?}");
        faults.push(section.at("path_len"), what);
    }
    number
}

fn issue_crl(plan: &mut Section, faults: &mut Faults) -> Option<Ceremony> {
    let root = plan.section(faults, "root").and_then(|mut root| {
        let files = root_files(&mut root, faults);
        root.end(faults);
        files
    });
    let crl = plan.section(faults, "crl");
    let revoke: Vec<_> = plan
        .sections(faults, "revoke")
        .into_iter()
        .map(|section| revoked(section, faults))
        .collect();
    if revoke.len() > MAX_REVOKED {
        faults.push("revoke", format_args!("at most {MAX_REVOKED} are allowed"));
    }
    let mut crl = crl?;
    let previous = crl.optional(faults, "previous", file);
    let number = number(&mut crl, faults, previous.is_some());
    let life = crl_life(&mut crl, faults, "life");
    let out = crl.required(faults, "out", file);
    crl.end(faults);
    Some(Ceremony::IssueCrl(IssueCrl {
        root: root?,
        number: number?,
        previous,
        life: life?,
        out: out?,
        revoke: revoke.into_iter().collect::<Option<_>>()?,
    }))
}

fn number(crl: &mut Section, faults: &mut Faults, has_previous: bool) -> Option<Option<u64>> {
    let at = crl.at("number");
    match crl.take("number") {
        Some(toml::Value::Integer(n)) if n > 0 => Some(u64::try_from(n).ok()),
        Some(toml::Value::String(next)) if next == "next" && has_previous => Some(None),
        _ => {
            let what = "expected a positive number, or \"next\" beside `previous`, the CRL before this one";
            faults.push(at, what);
            None
        }
    }
}

/// The reasons that a root gives (RFC 5280 §5.3.1); a root puts nothing on hold.
pub(super) const REASONS: [(&str, Reason); 7] = [
    ("unspecified", Reason::Unspecified),
    ("keyCompromise", Reason::KeyCompromise),
    ("cACompromise", Reason::CaCompromise),
    ("affiliationChanged", Reason::AffiliationChanged),
    ("superseded", Reason::Superseded),
    ("cessationOfOperation", Reason::CessationOfOperation),
    ("privilegeWithdrawn", Reason::PrivilegeWithdrawn),
];

fn revoked(mut section: Section, faults: &mut Faults) -> Option<Revoke> {
    let at = section.at("certificate");
    let before = faults.all().len();
    let certificate = section.optional(faults, "certificate", file);
    let serial = section.optional(faults, "serial", str::parse::<Serial>);
    let wrong = faults.all().len() > before;
    let which = match (certificate, serial) {
        (Some(file), None) => Some(Which::Certificate(file)),
        (None, Some(serial)) => Some(Which::Serial(serial)),
        _ if wrong => None,
        _ => {
            faults.push(at, "expected either `certificate` or `serial`");
            None
        }
    };
    let reason = section.required(faults, "reason", |name| {
        REASONS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, reason)| *reason)
            .ok_or(Expected(
                "unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn",
            ))
    });
    let at = section.optional(faults, "at", str::parse::<Timestamp>);
    section.end(faults);
    Some(Revoke {
        which: which?,
        reason: reason?,
        at,
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
