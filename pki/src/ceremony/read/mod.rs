//! Reading a plan's TOML, section by section: all faults, not only the first.

mod again;
mod crl;
mod intermediate;

pub(super) use crl::REASONS;
pub(super) use intermediate::path_lens;

use again::{cross_sign, reissue_intermediate};
use crl::issue_crl;
use intermediate::sign_intermediate;

use crate::ceremony::fault::{Faults, Section};
use crate::ceremony::file_name::{FileName, FileNameError};
use crate::ceremony::key_place::{self, KeyPlace};
use crate::ceremony::people::{Person, people, sharing};
use crate::ceremony::plan::{Ceremony, CreateRoot, RootFiles, SplitKey};
use crate::certificate::Urls;
use crate::crypto::{self, Digest};
use crate::key::KeyAlgorithm;
use crate::name::DistinguishedName;
use crate::profile::Profile;
use crate::time::Ttl;

/// The only version of plans.
const VERSION: i64 = 1;
/// A root's CRL stays in force for a year and some weeks, so that one ceremony a year renews it.
const CRL_LIFE: Ttl = Ttl::days(400);
/// Longer than this nobody would notice that the root's keepers are gone.
const MAX_CRL_LIFE: Ttl = Ttl::days(800);
const MAX_URL_BYTES: usize = 500;

/// Reads the text of a plan: what is done, and before which witnesses.
pub(super) fn ceremony(text: &str) -> Result<(Ceremony, Vec<Person>), Faults> {
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
            .ok_or(Expected(
                "create-root, sign-intermediate, issue-crl, cross-sign, reissue-intermediate or split-key",
            ))
    });
    // Without its kind nothing more can be said about a plan.
    let Some(read) = kind else { return Err(faults) };
    let witnesses = people(&mut plan, &mut faults, "witnesses");
    let ceremony = read(&mut plan, &mut faults);
    plan.end(&mut faults);
    faults.or(ceremony.map(|ceremony| (ceremony, witnesses)))
}

type Read = fn(&mut Section, &mut Faults) -> Option<Ceremony>;

const KINDS: [(&str, Read); 6] = [
    ("create-root", create_root),
    ("sign-intermediate", sign_intermediate),
    ("issue-crl", issue_crl),
    ("cross-sign", cross_sign),
    ("reissue-intermediate", reissue_intermediate),
    ("split-key", split_key),
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

fn digest(digits: &str) -> Result<Digest, Expected> {
    crypto::from_hex(digits)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Expected("64 hexadecimal digits"))
}

fn create_root(plan: &mut Section, faults: &mut Faults) -> Option<Ceremony> {
    let (root, outputs) = (
        plan.section(faults, "root"),
        plan.section(faults, "outputs"),
    );
    let mut token = plan.optional_section(faults, "token");
    let sharing = match plan.optional_section(faults, "shares") {
        None => Some(None),
        Some(section) => sharing(section, faults).map(Some),
    };
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
    let key = key_place::key(&mut outputs, &mut token, faults);
    let crl = outputs.required(faults, "crl", file);
    let crl_life = crl_life(&mut outputs, faults, "crl_life");
    root.end(faults);
    outputs.end(faults);
    end(token, faults);
    Some(Ceremony::CreateRoot(CreateRoot {
        subject: subject?,
        algorithm: algorithm?,
        life: life?,
        certificate: certificate?,
        key: key?,
        crl: crl?,
        crl_life: crl_life?,
        sharing: sharing?,
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

/// A root that exists, its key, and what else `more` reads from its section.
fn used_root<T>(
    plan: &mut Section,
    faults: &mut Faults,
    more: impl FnOnce(&mut Section, &mut Faults) -> T,
) -> Option<(RootFiles, T)> {
    let root = plan.section(faults, "root");
    let mut token = plan.optional_section(faults, "token");
    let mut root = root?;
    let certificate = root.required(faults, "certificate", file);
    let key = key_place::key(&mut root, &mut token, faults);
    let opened_by = people(&mut root, faults, "opened_by");
    let more = more(&mut root, faults);
    root.end(faults);
    end(token, faults);
    let files = RootFiles {
        certificate: certificate?,
        key: key?,
        opened_by,
    };
    Some((files, more))
}

fn end(section: Option<Section>, faults: &mut Faults) {
    if let Some(section) = section {
        section.end(faults);
    }
}

/// Where readers find what belongs to the root.
fn issuer_urls(root: &mut Section, faults: &mut Faults) -> Urls {
    Urls {
        crl: root.optional(faults, "crl_url", url),
        ca_issuers: root.optional(faults, "issuer_url", url),
        ocsp: None,
        freshest_crl: None,
    }
}

fn split_key(plan: &mut Section, faults: &mut Faults) -> Option<Ceremony> {
    let root = used_root(plan, faults, |_, _| ());
    let sharing = plan
        .section(faults, "shares")
        .and_then(|section| sharing(section, faults));
    let outputs = plan.optional_section(faults, "outputs");
    let root = root?.0;
    let key = match (&root.key, outputs) {
        (KeyPlace::File(_), Some(mut outputs)) => {
            let key = outputs.required(faults, "key", file);
            outputs.end(faults);
            Some(key?)
        }
        (KeyPlace::File(_), None) => {
            let what = "is missing: the key is written anew, into outputs.key";
            faults.push("outputs", what);
            None
        }
        (KeyPlace::Token(_), None) => None,
        (KeyPlace::Token(_), Some(_)) => {
            let what = "stands there, and a token's key is not written";
            faults.push("outputs", what);
            None
        }
    };
    Some(Ceremony::SplitKey(SplitKey {
        root,
        key,
        sharing: sharing?,
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

#[cfg(test)]
#[path = "../plan_tests.rs"]
mod tests;
