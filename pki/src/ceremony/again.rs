//! Signing again what has a certificate: a new root by the old one, an intermediate for the key that it has.

use std::collections::BTreeSet;

use crate::artefact::Prepared;
use crate::ceremony::fault::{Faults, chain};
use crate::ceremony::file_name::FileName;
use crate::ceremony::list::crl_of;
use crate::ceremony::plan::{CrossSign, Reissue, ReissueIntermediate};
use crate::ceremony::prepare::{Materials, Task, bytes, certificate_task, one_certificate, root};
use crate::ceremony::read::path_lens;
use crate::ceremony::words;
use crate::certificate::{AgainRequest, Certificate, Issuer, Urls, prepare_again};
use crate::crl::Crl;
use crate::crypto::{self, Digest};
use crate::csr::VerifiedCsr;
use crate::key::KeyId;
use crate::pem;
use crate::profile::Profile;
use crate::time::Ttl;

/// The new root, signed by the old one: its name, its key, its key identifier; a path length, which its own
/// certificate need not have; an end that neither root outlives.
pub(super) fn cross_sign(plan: &CrossSign, materials: &Materials<'_>) -> Result<Task, Faults> {
    let (old, issuer) = root(&plan.root, materials)?;
    let at = plan.certificate.as_str();
    let new = one_certificate(&plan.certificate, materials)?;
    let own = Issuer::from_chain(std::slice::from_ref(&new))
        .map_err(|error| Faults::one(at, chain(&error)))?;
    let mut faults = Faults::default();
    if new.spki() == old.spki() || new.subject() == old.subject() {
        let what = format!("has the key or the name of {}", plan.root.certificate);
        faults.push(at, format_args!("{what}: a new root has its own"));
    }
    if !new.is_valid_at(materials.now) {
        let what = format!(
            "is valid from {} to {}, and it is {}",
            new.not_before(),
            new.not_after(),
            materials.now
        );
        faults.push(at, what);
    }
    let end = materials.now.plus(plan.life);
    if end > new.not_after() {
        let what = format!(
            "the certificate would end at {end}, after the new root itself, which ends at {}",
            new.not_after()
        );
        faults.push("cross.life", what);
    }
    if own
        .path_len()
        .is_some_and(|own| u64::from(plan.path_len) > own)
    {
        let what = "is greater than that of the new root's own certificate";
        faults.push("cross.path_len", what);
    }
    key_is(plan.key_sha256, &new, at, &mut faults);
    let again = Again {
        profile: Profile::ROOT,
        path_len: plan.path_len,
        life: plan.life,
        urls: &plan.urls,
        out: &plan.out,
    };
    let prepared = again.prepare(&new, "cross", &issuer, materials, &mut faults);
    let title = format!("sign the new root of {at} with the old root's key");
    let mut task = certificate_task(&plan.out, &title, faults.or(prepared)?)?;
    task.words.extend(words::urls(&plan.urls));
    Ok(task)
}

pub(super) fn reissue_intermediate(
    plan: &ReissueIntermediate,
    materials: &Materials<'_>,
) -> Result<Vec<Task>, Faults> {
    let (certificate, issuer) = root(&plan.root, materials)?;
    let crl = match &plan.crl {
        None => None,
        Some(file) => Some((file, crl_of(file, &issuer, materials)?)),
    };
    let mut faults = Faults::default();
    let mut tasks = Vec::new();
    let mut keys = BTreeSet::from([crypto::sha256(certificate.spki())]);
    for (i, reissue) in plan.intermediates.iter().enumerate() {
        match again(reissue, i, (plan, crl.as_ref()), &issuer, materials) {
            Ok((task, key)) => {
                if !keys.insert(key) {
                    let what = "has a key that this plan or the root has already";
                    faults.push(reissue.certificate.as_str(), what);
                }
                tasks.push(task);
            }
            Err(error) => faults.append(error),
        }
    }
    faults.or(Some(tasks))
}

type Revoked<'a> = Option<&'a (&'a FileName, Crl)>;

fn again(
    plan: &Reissue,
    index: usize,
    (whole, crl): (&ReissueIntermediate, Revoked<'_>),
    issuer: &Issuer,
    materials: &Materials<'_>,
) -> Result<(Task, Digest), Faults> {
    let at = plan.certificate.as_str();
    let place = format!("reissue[{index}]");
    let found = one_certificate(&plan.certificate, materials)?;
    if !found.is_authority()
        || found.issuer() != issuer.name()
        || found.verify_by(issuer.key()).is_err()
    {
        let what = "is not an intermediate that this root signed";
        return Err(Faults::one(at, what));
    }
    let mut faults = Faults::default();
    if let Some((file, _)) = crl.filter(|(_, crl)| crl.lists(&found.serial())) {
        let what = format!("is revoked, by {file}: its key is not certified again");
        faults.push(at, what);
    }
    key_is(plan.key_sha256, &found, at, &mut faults);
    if let Some(file) = &plan.request {
        match bytes(file, materials).and_then(|pem| request(file, pem)) {
            Ok(request) if request.key().spki() == found.spki() => {}
            Ok(request) => {
                let what = format!(
                    "its key is another than that of {at} (SHA-256 {}): a new key gets a new name, by sign-intermediate",
                    crypto::hex(&request.key().digest())
                );
                faults.push(file.as_str(), what);
            }
            Err(error) => faults.append(error),
        }
    }
    let path_len = path_len(plan.profile, &found);
    if path_len.is_none() {
        let what = format!(
            "its path length is not one of profile {:?}",
            plan.profile.as_str()
        );
        faults.push(at, what);
    }
    let again = Again {
        profile: plan.profile,
        path_len: path_len.unwrap_or(0),
        life: plan.life,
        urls: &whole.urls,
        out: &plan.out,
    };
    let prepared = again.prepare(&found, &place, issuer, materials, &mut faults);
    let name = plan.profile.as_str();
    let title = format!("sign an intermediate's certificate ({name}) again, as in {at}");
    let mut task = certificate_task(&plan.out, &title, faults.or(prepared)?)?;
    task.words.extend(words::urls(&whole.urls));
    task.words.push(format!(
        "  before      {at}, serial {}, to {}",
        found.serial(),
        found.not_after()
    ));
    if crl.is_none() {
        let what = "  revoked?    root.crl is not given: that it is not revoked is yours to check";
        task.words.push(what.to_owned());
    }
    Ok((task, crypto::sha256(found.spki())))
}

fn request(file: &FileName, pem: &[u8]) -> Result<VerifiedCsr, Faults> {
    let fault = |error: &dyn std::error::Error| Faults::one(file.as_str(), chain(error));
    let der = pem::read_request(pem).map_err(|error| fault(&error))?;
    VerifiedCsr::parse(&der).map_err(|error| fault(&error))
}

/// The path length that it has, when its profile may have it.
fn path_len(profile: Profile, certificate: &Certificate) -> Option<u8> {
    let (least, _, greatest) = path_lens(profile)?;
    let (_, path_len) = certificate.extensions().basic_constraints?;
    let path_len = u8::try_from(path_len?).ok()?;
    (least..=greatest).contains(&path_len).then_some(path_len)
}

fn key_is(wanted: Option<Digest>, found: &Certificate, at: &str, faults: &mut Faults) {
    let key = crypto::sha256(found.spki());
    if wanted.is_some_and(|wanted| wanted != key) {
        let what = format!("its key's SHA-256 is {}, not the plan's", crypto::hex(&key));
        faults.push(at, what);
    }
}

/// What the plan says about one certificate, whichever ceremony it is of.
struct Again<'a> {
    profile: Profile,
    path_len: u8,
    life: Ttl,
    urls: &'a Urls,
    out: &'a FileName,
}

impl Again<'_> {
    fn prepare(
        &self,
        certificate: &Certificate,
        place: &str,
        issuer: &Issuer,
        materials: &Materials<'_>,
        faults: &mut Faults,
    ) -> Option<Prepared<Certificate>> {
        let key_id = certificate.extensions().subject_key_id.as_deref();
        let own = certificate.public_key().ok().map(|key| key.id());
        if key_id.and_then(KeyId::from_bytes) != own {
            // What is below names its issuer by this identifier.
            let what = "its subject key identifier is not by RFC 7093 §2 method 1: nothing below it would lead to ours";
            faults.push(place, what);
            return None;
        }
        let Some(entropy) = materials.entropy.get(self.out).copied() else {
            faults.push(self.out.as_str(), "there are no random octets for it");
            return None;
        };
        let request = AgainRequest {
            profile: self.profile,
            certificate,
            path_len: self.path_len,
            ttl: self.life,
            urls: self.urls,
            entropy,
            now: materials.now,
        };
        prepare_again(&request, issuer)
            .map_err(|error| faults.push(place, chain(&error)))
            .ok()
    }
}
