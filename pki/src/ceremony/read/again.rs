//! Reading the plans that sign again what has a certificate: a new root by the old one, intermediates for their keys.

use super::intermediate::{profile, some_sections};
use super::{bounded, digest, file, issuer_urls, life, used_root};
use crate::ceremony::fault::{Faults, Section};
use crate::ceremony::plan::{Ceremony, CrossSign, Reissue, ReissueIntermediate};
use crate::time::Ttl;

/// As long as it takes to bring the new root to everybody, and the old one's leaves to their end.
const CROSS_LIFE: Ttl = Ttl::days(3 * 365);
const MAX_CROSS_LIFE: Ttl = Ttl::days(10 * 365);
/// The least, usual and greatest path length of a cross-signed root: below it stand a fleet and a cluster.
const CROSS_PATH_LENS: (u8, u8, u8) = (0, 2, 3);

pub(super) fn cross_sign(plan: &mut Section, faults: &mut Faults) -> Option<Ceremony> {
    let root = used_root(plan, faults, issuer_urls);
    let mut cross = plan.section(faults, "cross")?;
    let certificate = cross.required(faults, "certificate", file);
    let key_sha256 = cross.optional(faults, "key_sha256", digest);
    let life = bounded(&mut cross, faults, "life", CROSS_LIFE, MAX_CROSS_LIFE);
    let path_len = path_len(&mut cross, faults);
    let out = cross.required(faults, "out", file);
    cross.end(faults);
    let (root, urls) = root?;
    Some(Ceremony::CrossSign(CrossSign {
        root,
        urls,
        certificate: certificate?,
        key_sha256,
        life: life?,
        path_len: path_len?,
        out: out?,
    }))
}

fn path_len(cross: &mut Section, faults: &mut Faults) -> Option<u8> {
    let (least, usual, greatest) = CROSS_PATH_LENS;
    let at = cross.at("path_len");
    let Some(value) = cross.take("path_len") else {
        return Some(usual);
    };
    let number = value.as_integer().and_then(|n| u8::try_from(n).ok());
    let number = number.filter(|n| (least..=greatest).contains(n));
    if number.is_none() {
        faults.push(at, format_args!("expected {least} to {greatest}"));
    }
    number
}

pub(super) fn reissue_intermediate(plan: &mut Section, faults: &mut Faults) -> Option<Ceremony> {
    let root = used_root(plan, faults, |root, faults| {
        (
            issuer_urls(root, faults),
            root.optional(faults, "crl", file),
        )
    });
    let intermediates: Vec<_> = some_sections(plan, faults, "reissue")?
        .into_iter()
        .map(|section| reissue(section, faults))
        .collect();
    let (root, (urls, crl)) = root?;
    Some(Ceremony::ReissueIntermediate(ReissueIntermediate {
        root,
        urls,
        crl,
        intermediates: intermediates.into_iter().collect::<Option<_>>()?,
    }))
}

fn reissue(mut section: Section, faults: &mut Faults) -> Option<Reissue> {
    let certificate = section.required(faults, "certificate", file);
    let request = section.optional(faults, "request", file);
    let profile = profile(&mut section, faults);
    let key_sha256 = section.optional(faults, "key_sha256", digest);
    let out = section.required(faults, "out", file);
    let life = match profile {
        Some(profile) => life(&mut section, faults, "life", profile),
        None => {
            // Already told; whether this is right depends on it.
            section.take("life");
            None
        }
    };
    section.end(faults);
    Some(Reissue {
        certificate: certificate?,
        request,
        profile: profile?,
        key_sha256,
        life: life?,
        out: out?,
    })
}
