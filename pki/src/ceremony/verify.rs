//! Checking a ceremony afterwards, without the key: everything is prepared again from the plan, the inputs, the
//! transcript's time and the random octets that the certificates show, and must come out byte for byte.

use crate::asn1::{self, Der};
use crate::ceremony::fault::{Faults, chain};
use crate::ceremony::file_name::FileName;
use crate::ceremony::plan::{Ceremony, CreateRoot, Plan};
use crate::ceremony::prepare::{
    Entropy, Files, Materials, Task, Work, prepare, prepare_first_crl, prepare_root,
};
use crate::ceremony::record::{Input, Output, OutputKind};
use crate::ceremony::transcript::{SignedTranscript, Transcript};
use crate::ceremony::verify_people::check_people;
use crate::ceremony::words::name_words;
use crate::certificate::{Certificate, Fields};
use crate::crl::Crl;
use crate::crypto;
use crate::key::PublicKey;
use crate::pem;
use crate::serial::SERIAL_ENTROPY;

/// Checks a transcript against its plan's file, where that is still there, and against every input and output.
///
/// It tells that what lies here is what one ceremony of the holder of this root made; whether the root is the right
/// one is told by its digest alone, which the caller compares with what it knows.
///
/// # Errors
/// What differs, each with the file or place that it concerns.
pub fn verify(
    signed: &SignedTranscript,
    plan_file: Option<&[u8]>,
    files: &Files,
) -> Result<(), Faults> {
    let transcript = signed.transcript();
    let plan = Plan::parse(&transcript.plan.text)?;
    let mut faults = Faults::default();
    if crypto::hex(&plan.digest()) != transcript.plan.sha256 || plan.kind() != transcript.ceremony {
        faults.push("transcript", "the plan in it is not the one that it names");
    }
    if plan_file.is_some_and(|bytes| bytes != plan.text().as_bytes()) {
        let what = "is not the plan of this ceremony: it was changed";
        faults.push(&transcript.plan.file, what);
    }
    check_people(&plan, transcript, &mut faults);
    check_inputs(&plan, transcript, files, &mut faults);
    let outputs = check_outputs(&plan, transcript, files, &mut faults);
    match root_key(&plan, files) {
        Err(error) => faults.append(error),
        Ok((root, key)) => {
            if signed.verify_by(&key).is_err() {
                let what = "was changed, or is another root's: its signature does not verify";
                faults.push("transcript", what);
            }
            if transcript.root_key_sha256 != crypto::hex(&key.digest())
                || transcript.root_subject != name_words(root.subject())
            {
                faults.push("transcript", "names another root");
            }
            // A changed file has been told; what follows from it would only hide that.
            if faults.all().is_empty() {
                faults.append(check_again(&plan, transcript, files, &outputs, &root, &key));
            }
        }
    }
    faults.or(Some(()))
}

fn root_key(plan: &Plan, files: &Files) -> Result<(Certificate, PublicKey), Faults> {
    let file = plan.root_certificate();
    let fault = |what: String| Faults::one(file.as_str(), what);
    let bytes = files
        .get(file)
        .ok_or_else(|| fault("is not there".into()))?;
    let root = certificate(bytes).map_err(fault)?;
    let key = root.public_key().map_err(|error| fault(chain(&error)))?;
    Ok((root, key))
}

fn certificate(bytes: &[u8]) -> Result<Certificate, String> {
    match Certificate::parse_pem(bytes).as_deref() {
        Ok([certificate]) => Ok(certificate.clone()),
        Ok(found) => Err(format!("expected one certificate, found {}", found.len())),
        Err(error) => Err(chain(error)),
    }
}

fn crl(bytes: &[u8]) -> Result<Crl, String> {
    let ders = pem::read_crls(bytes).map_err(|error| chain(&error))?;
    match ders.as_slice() {
        [der] => Crl::parse(der).map_err(|error| chain(&error)),
        found => Err(format!("expected one CRL, found {}", found.len())),
    }
}

fn check_inputs(plan: &Plan, transcript: &Transcript, files: &Files, faults: &mut Faults) {
    let mut wanted = plan.inputs();
    wanted.sort();
    wanted.dedup();
    if wanted.len() != transcript.inputs.len() {
        faults.push("transcript", "lists other inputs than the plan");
    }
    for file in wanted {
        let Some(bytes) = files.get(file) else {
            faults.push(file.as_str(), "is not there");
            continue;
        };
        let recorded = transcript.inputs.iter().find(|i| i.file == file.as_str());
        match recorded {
            None => faults.push(
                file.as_str(),
                "is an input that the transcript does not list",
            ),
            Some(recorded) if *recorded != Input::of(file.as_str(), bytes) => {
                faults.push(file.as_str(), "was changed after the ceremony read it");
            }
            Some(_) => {}
        }
    }
}

/// An output as it lies here.
enum Made {
    Certificate(Certificate),
    Crl(Crl),
}

fn check_outputs(
    plan: &Plan,
    transcript: &Transcript,
    files: &Files,
    faults: &mut Faults,
) -> Vec<(FileName, Made)> {
    let mut outputs = Vec::new();
    let keys: Vec<&Output> = transcript
        .outputs
        .iter()
        .filter(|output| output.kind == OutputKind::Key)
        .collect();
    let key_files: Vec<&FileName> = keys.iter().map(|output| &output.file).collect();
    if key_files != Vec::from_iter(plan.made_key())
        || transcript.outputs.len() != plan.outputs().len() + keys.len()
    {
        faults.push("transcript", "lists other outputs than the plan");
    }
    for recorded in &transcript.outputs {
        let file = &recorded.file;
        if recorded.kind == OutputKind::Key {
            continue;
        }
        if !plan.outputs().contains(&file) {
            faults.push(file.as_str(), "is an output that the plan does not have");
            continue;
        }
        let Some(bytes) = files.get(file) else {
            faults.push(file.as_str(), "is not there");
            continue;
        };
        let digest = crypto::hex(&crypto::sha256(bytes));
        if recorded.sha256.as_ref() != Some(&digest) {
            faults.push(file.as_str(), "was changed after the ceremony wrote it");
            continue;
        }
        let made = match recorded.kind {
            OutputKind::Certificate => certificate(bytes).map(Made::Certificate),
            _ => crl(bytes).map(Made::Crl),
        };
        let made = match made {
            Ok(made) => made,
            Err(what) => {
                faults.push(file.as_str(), what);
                continue;
            }
        };
        let found = match &made {
            Made::Certificate(certificate) => Output::certificate(file, bytes, certificate),
            Made::Crl(crl) => Output::crl(file, bytes, crl),
        };
        if found != *recorded {
            faults.push(file.as_str(), "is not what the transcript says about it");
        }
        outputs.push((file.clone(), made));
    }
    outputs
}

/// Prepares everything again and compares; the lints and the refusals of the ceremony run again on the way.
fn check_again(
    plan: &Plan,
    transcript: &Transcript,
    files: &Files,
    outputs: &[(FileName, Made)],
    root: &Certificate,
    key: &PublicKey,
) -> Faults {
    let mut entropy = Entropy::new();
    for (file, made) in outputs {
        let Made::Certificate(certificate) = made else {
            continue;
        };
        match random_octets(certificate) {
            Some(octets) => {
                entropy.insert(file.clone(), octets);
            }
            None => return Faults::one(file.as_str(), "its serial number is not one of ours"),
        }
    }
    let tasks = match plan.ceremony() {
        Ceremony::CreateRoot(plan) => root_again(plan, transcript, &entropy, root, key),
        _ => prepare(
            plan,
            &Materials {
                files,
                known: &[],
                entropy: &entropy,
                now: transcript.started,
            },
        ),
    };
    let tasks = match tasks {
        Ok(tasks) => tasks,
        Err(faults) => return faults,
    };
    let mut faults = Faults::default();
    for task in &tasks {
        let made = outputs.iter().find(|(file, _)| *file == task.output);
        let what = match made {
            Some((_, made)) => difference(task, made, key),
            None => Some("is not in the transcript"),
        };
        if let Some(what) = what {
            faults.push(task.output.as_str(), what);
        }
    }
    faults
}

fn root_again(
    plan: &CreateRoot,
    transcript: &Transcript,
    entropy: &Entropy,
    root: &Certificate,
    key: &PublicKey,
) -> Result<Vec<Task>, Faults> {
    let octets = entropy
        .get(&plan.certificate)
        .copied()
        .unwrap_or([0; SERIAL_ENTROPY]);
    Ok(vec![
        prepare_root(plan, key, octets, transcript.started)?,
        prepare_first_crl(plan, root, transcript.started)?,
    ])
}

fn random_octets(certificate: &Certificate) -> Option<[u8; SERIAL_ENTROPY]> {
    let serial = certificate.serial();
    serial.expires_day()?;
    serial.as_bytes().last_chunk::<SERIAL_ENTROPY>().copied()
}

/// How an output differs from what the plan and the inputs give.
fn difference(task: &Task, made: &Made, root: &PublicKey) -> Option<&'static str> {
    let (der, signed, to_be_signed) = match (&task.work, made) {
        (Work::Certificate(prepared), Made::Certificate(made)) => {
            let bytes = prepared.to_be_signed().bytes();
            if let Some(what) = Fields::parse(bytes).ok().and_then(|f| field(&f, made)) {
                return Some(what);
            }
            (made.der(), made.verify_by(root).is_ok(), bytes)
        }
        (Work::Crl(prepared), Made::Crl(made)) => (
            made.der(),
            made.verify_by(root).is_ok(),
            prepared.to_be_signed().bytes(),
        ),
        _ => return Some("is of another kind than the plan says"),
    };
    if !signed {
        return Some("is not signed by the root");
    }
    let same =
        Der::only(der, asn1::SEQUENCE).is_ok_and(|content| content.starts_with(to_be_signed));
    (!same).then_some("is not what the plan and the inputs give")
}

fn field(wanted: &Fields, made: &Fields) -> Option<&'static str> {
    if wanted.spki() != made.spki() {
        Some("its key is not the request's")
    } else if wanted.subject() != made.subject() {
        Some("its subject is not the plan's")
    } else if wanted.not_after() != made.not_after() {
        Some("its lifetime is not the plan's")
    } else {
        None
    }
}
