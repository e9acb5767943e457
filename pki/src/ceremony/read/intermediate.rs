//! Reading a plan that signs intermediates.

use super::{Expected, digest, file, issuer_urls, life, text, used_root};
use crate::ceremony::fault::{Faults, Section};
use crate::ceremony::file_name::FileName;
use crate::ceremony::plan::{Ceremony, Intermediate, SignIntermediate};
use crate::name::ProfileName;
use crate::profile::Profile;

const MAX_INTERMEDIATES: usize = 100;
const MAX_KNOWN: usize = 1000;

pub(super) fn sign_intermediate(plan: &mut Section, faults: &mut Faults) -> Option<Ceremony> {
    let root = used_root(plan, faults, issuer_urls);
    let known = known(plan, faults);
    let sections = some_sections(plan, faults, "intermediate")?;
    let intermediates: Vec<_> = sections
        .into_iter()
        .map(|section| intermediate(section, faults))
        .collect();
    let (root, urls) = root?;
    Some(Ceremony::SignIntermediate(SignIntermediate {
        root,
        urls,
        intermediates: intermediates.into_iter().collect::<Option<_>>()?,
        known,
    }))
}

/// The tables of an array, one or more.
pub(super) fn some_sections(
    plan: &mut Section,
    faults: &mut Faults,
    key: &str,
) -> Option<Vec<Section>> {
    let sections = plan.sections(faults, key);
    if (1..=MAX_INTERMEDIATES).contains(&sections.len()) {
        return Some(sections);
    }
    let found = sections.len();
    faults.push(
        key,
        format_args!("expected 1 to {MAX_INTERMEDIATES}, found {found}"),
    );
    None
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
    let profile = profile(&mut section, faults);
    let name = section.optional(faults, "name", text);
    let organization = section.optional(faults, "organization", text);
    let key_sha256 = section.optional(faults, "key_sha256", digest);
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

/// One of the profiles that a root signs.
pub(super) fn profile(section: &mut Section, faults: &mut Faults) -> Option<Profile> {
    section.required(faults, "profile", |name| {
        ProfileName::parse(name)
            .ok()
            .and_then(|name| Profile::builtin(&name))
            .filter(|profile| path_lens(*profile).is_some())
            .ok_or(Expected(
                "cluster-intermediate, fleet-intermediate or subordinate-ca",
            ))
    })
}

/// The least, usual and greatest path length of an intermediate: a cluster's signs leaves only, a fleet's signs
/// clusters' and may have one more level below.
pub(in crate::ceremony) fn path_lens(profile: Profile) -> Option<(u8, u8, u8)> {
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
