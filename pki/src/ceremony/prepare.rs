//! From a plan and its files to what is to be signed, with the words that say so.

use std::collections::BTreeMap;

use crate::artefact::Prepared;
use crate::ceremony::again::{cross_sign, reissue_intermediate};
use crate::ceremony::fault::{Faults, chain};
use crate::ceremony::file_name::FileName;
use crate::ceremony::key_place::KeyPlace;
use crate::ceremony::list::{crl_task, issue_crl};
use crate::ceremony::plan::{
    Ceremony, CreateRoot, Intermediate, Plan, RootFiles, SignIntermediate,
};
use crate::ceremony::words::{self, name_words};
use crate::certificate::{
    AuthorityRequest, Certificate, Fields, Issuer, Urls, prepare_authority,
    prepare_root as prepare_root_certificate,
};
use crate::crl::Crl;
use crate::crypto::{self, Digest};
use crate::csr::VerifiedCsr;
use crate::key::PublicKey;
use crate::name::DistinguishedName;
use crate::pem;
use crate::profile::Profile;
use crate::serial::SERIAL_ENTROPY;
use crate::time::Timestamp;

/// The files of a ceremony, each read once.
pub type Files = BTreeMap<FileName, Vec<u8>>;

/// Random octets for each certificate's serial number, by its output.
pub type Entropy = BTreeMap<FileName, [u8; SERIAL_ENTROPY]>;

/// An authority of which it is known that it exists: nobody else gets its key or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: Digest,
    /// Its name, as [`name_words`] writes it.
    pub subject: String,
    /// The file that says so.
    pub source: String,
}

/// What a plan is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Materials<'a> {
    /// The plan's inputs.
    pub files: &'a Files,
    /// Authorities known from elsewhere than the plan's own list: earlier transcripts.
    pub known: &'a [Known],
    /// Fresh random octets.
    pub entropy: &'a Entropy,
    /// The time.
    pub now: Timestamp,
}

/// One thing to sign.
#[derive(Debug)]
pub struct Task {
    /// Where it goes.
    pub output: FileName,
    /// What it is, line by line, for the people who confirm it; certificates are described from the bytes themselves.
    pub words: Vec<String>,
    /// What is signed.
    pub work: Work,
}

/// What is signed.
#[derive(Debug)]
pub enum Work {
    /// A CA's certificate.
    Certificate(Prepared<Certificate>),
    /// A CRL.
    Crl(Prepared<Crl>),
}

/// Checks a plan on a root that exists, and prepares all of it.
///
/// # Errors
/// Everything that stands against it. A plan that creates a root is refused: see [`prepare_root`].
pub fn prepare(plan: &Plan, materials: &Materials<'_>) -> Result<Vec<Task>, Faults> {
    match plan.ceremony() {
        Ceremony::CreateRoot(_) => Err(Faults::one("ceremony", "there is no root yet")),
        Ceremony::SignIntermediate(plan) => sign_intermediate(plan, materials),
        Ceremony::IssueCrl(plan) => issue_crl(plan, materials).map(|task| vec![task]),
        Ceremony::CrossSign(plan) => cross_sign(plan, materials).map(|task| vec![task]),
        Ceremony::ReissueIntermediate(plan) => reissue_intermediate(plan, materials),
        // Nothing is signed but the transcript; the root has to be one all the same.
        Ceremony::SplitKey(plan) => root(&plan.root, materials).map(|_| Vec::new()),
    }
}

/// Prepares a new root's certificate for `key`.
///
/// # Errors
/// When the certificate would break a clause that its readers enforce.
pub fn prepare_root(
    plan: &CreateRoot,
    key: &PublicKey,
    entropy: [u8; SERIAL_ENTROPY],
    now: Timestamp,
) -> Result<Task, Faults> {
    let at = plan.certificate.as_str();
    if key.algorithm() != plan.algorithm {
        let what = format!("the key is {}, not {}", key.algorithm(), plan.algorithm);
        return Err(Faults::one("root.algorithm", what));
    }
    let request = AuthorityRequest {
        profile: Profile::ROOT,
        subject: &plan.subject,
        key,
        path_len: None,
        ttl: plan.life,
        urls: &Urls::default(),
        entropy,
        now,
    };
    let prepared =
        prepare_root_certificate(&request).map_err(|error| Faults::one(at, chain(&error)))?;
    let title = "sign a new root's certificate with its own key";
    let mut task = certificate_task(&plan.certificate, title, prepared)?;
    task.words.extend([
        format!(
            "  then        its first CRL, number 1, revoking nothing, in force for {}, into {}",
            plan.crl_life, plan.crl
        ),
        match &plan.key {
            KeyPlace::File(file) => format!("  then        its key, encrypted, into {file}"),
            KeyPlace::Token(token) => format!("  its key     is in {}", token.uri()),
        },
    ]);
    Ok(task)
}

/// Prepares a new root's first CRL, which revokes nothing.
///
/// # Errors
/// When `root` is not one.
pub fn prepare_first_crl(
    plan: &CreateRoot,
    root: &Certificate,
    now: Timestamp,
) -> Result<Task, Faults> {
    let at = plan.certificate.as_str();
    let issuer = Issuer::from_chain(std::slice::from_ref(root))
        .map_err(|error| Faults::one(at, chain(&error)))?;
    crl_task(&plan.crl, &issuer, (1, plan.crl_life), &[], now)
}

pub(super) fn certificate_task(
    output: &FileName,
    title: &str,
    prepared: Prepared<Certificate>,
) -> Result<Task, Faults> {
    let fields = Fields::parse(prepared.to_be_signed().bytes())
        .map_err(|error| Faults::one(output.as_str(), chain(&error)))?;
    let mut words = vec![format!("{title}, into {output}")];
    words.extend(words::describe_certificate(&fields));
    Ok(Task {
        output: output.clone(),
        words,
        work: Work::Certificate(prepared),
    })
}

/// The root, when it is one and is valid now.
pub(super) fn root(
    files: &RootFiles,
    materials: &Materials<'_>,
) -> Result<(Certificate, Issuer), Faults> {
    let at = &files.certificate;
    let certificate = one_certificate(at, materials)?;
    let issuer = Issuer::from_chain(std::slice::from_ref(&certificate))
        .map_err(|error| Faults::one(at.as_str(), chain(&error)))?;
    if certificate.is_valid_at(materials.now) {
        return Ok((certificate, issuer));
    }
    let what = format!(
        "the root is valid from {} to {}, and it is {}",
        certificate.not_before(),
        certificate.not_after(),
        materials.now
    );
    Err(Faults::one(at.as_str(), what))
}

pub(super) fn bytes<'a>(file: &FileName, materials: &Materials<'a>) -> Result<&'a [u8], Faults> {
    let found = materials.files.get(file).map(Vec::as_slice);
    found.ok_or_else(|| Faults::one(file.as_str(), "is not there"))
}

pub(super) fn one_certificate(
    file: &FileName,
    materials: &Materials<'_>,
) -> Result<Certificate, Faults> {
    let certificates = Certificate::parse_pem(bytes(file, materials)?)
        .map_err(|error| Faults::one(file.as_str(), chain(&error)))?;
    <[Certificate; 1]>::try_from(certificates)
        .map(|[certificate]| certificate)
        .map_err(|found| {
            let what = format!("expected one certificate, found {}", found.len());
            Faults::one(file.as_str(), what)
        })
}

fn sign_intermediate(
    plan: &SignIntermediate,
    materials: &Materials<'_>,
) -> Result<Vec<Task>, Faults> {
    let (certificate, issuer) = root(&plan.root, materials)?;
    let mut faults = Faults::default();
    let mut known = materials.known.to_vec();
    known.push(Known {
        key: crypto::sha256(certificate.spki()),
        subject: name_words(certificate.subject()),
        source: format!("{}, the root itself", plan.root.certificate),
    });
    for file in &plan.known {
        match bytes(file, materials).and_then(|pem| known_in(file, pem)) {
            Ok(found) => known.extend(found),
            Err(error) => faults.append(error),
        }
    }
    let mut tasks = Vec::new();
    for (i, intermediate) in plan.intermediates.iter().enumerate() {
        match sign_one(intermediate, i, &plan.urls, &issuer, &known, materials) {
            Ok((task, made)) => {
                tasks.push(task);
                known.push(made);
            }
            Err(error) => faults.append(error),
        }
    }
    faults.or(Some(tasks))
}

fn known_in(file: &FileName, pem: &[u8]) -> Result<Vec<Known>, Faults> {
    let certificates =
        Certificate::parse_pem(pem).map_err(|error| Faults::one(file.as_str(), chain(&error)))?;
    let known = certificates.iter().map(|certificate| Known {
        key: crypto::sha256(certificate.spki()),
        subject: name_words(certificate.subject()),
        source: file.to_string(),
    });
    Ok(known.collect())
}

fn sign_one(
    plan: &Intermediate,
    index: usize,
    urls: &Urls,
    issuer: &Issuer,
    known: &[Known],
    materials: &Materials<'_>,
) -> Result<(Task, Known), Faults> {
    let at = plan.request.as_str();
    let place = format!("intermediate[{index}]");
    let der = pem::read_request(bytes(&plan.request, materials)?)
        .map_err(|error| Faults::one(at, chain(&error)))?;
    let request = VerifiedCsr::parse(&der).map_err(|error| Faults::one(at, chain(&error)))?;
    let subject = subject(plan, &request, &place)?;
    let made = Known {
        key: request.key().digest(),
        subject: name_words(&subject.to_der()),
        source: format!("{at}, in this plan"),
    };
    let mut faults = Faults::default();
    if plan.key_sha256.is_some_and(|digest| digest != made.key) {
        let what = format!(
            "its key's SHA-256 is {}, not the plan's",
            crypto::hex(&made.key)
        );
        faults.push(at, what);
    }
    for other in known {
        if other.key == made.key {
            let what = format!("its key is another authority's already ({})", other.source);
            faults.push(at, what);
        }
        if other.subject == made.subject {
            let what = format!(
                "{} is another authority's name already ({}); each generation has its own",
                made.subject, other.source
            );
            faults.push(format!("{place}.name"), what);
        }
    }
    let entropy = materials.entropy.get(&plan.out).copied();
    let prepared = entropy.and_then(|entropy| {
        let request = AuthorityRequest {
            profile: plan.profile,
            subject: &subject,
            key: request.key(),
            path_len: Some(plan.path_len),
            ttl: plan.life,
            urls,
            entropy,
            now: materials.now,
        };
        prepare_authority(&request, issuer)
            .map_err(|error| faults.push(&place, chain(&error)))
            .ok()
    });
    if entropy.is_none() {
        faults.push(plan.out.as_str(), "there are no random octets for it");
    }
    let prepared = faults.or(prepared)?;
    let name = plan.profile.as_str();
    let title = format!("sign an intermediate's certificate ({name}) for {at}");
    let mut task = certificate_task(&plan.out, &title, prepared)?;
    task.words.extend(words::urls(urls));
    Ok((task, made))
}

/// The plan's name, or the request's one common name.
fn subject(
    plan: &Intermediate,
    request: &VerifiedCsr,
    place: &str,
) -> Result<DistinguishedName, Faults> {
    let name = match (&plan.name, request.common_names()) {
        (Some(name), _) => name,
        (None, [name]) => name,
        (None, found) => {
            let what = format!(
                "is missing, and the request has {} common names where one would do",
                found.len()
            );
            return Err(Faults::one(format!("{place}.name"), what));
        }
    };
    DistinguishedName::new(plan.organization.as_deref(), name)
        .map_err(|error| Faults::one(format!("{place}.name"), chain(&error)))
}
