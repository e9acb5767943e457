//! From a plan to a CRL: what it revokes, and what the CRL before it obliges it to.

use std::collections::BTreeSet;

use crate::ceremony::fault::{Faults, chain};
use crate::ceremony::file_name::FileName;
use crate::ceremony::plan::{IssueCrl, Revoke, Which};
use crate::ceremony::prepare::{Materials, Task, Work, bytes, one_certificate, root};
use crate::ceremony::words;
use crate::certificate::{Certificate, Issuer};
use crate::crl::{Crl, CrlRequest, RevokedCertificate, Scope, prepare_crl};
use crate::pem;
use crate::serial::Serial;
use crate::time::{Timestamp, Ttl};

pub(super) fn issue_crl(plan: &IssueCrl, materials: &Materials<'_>) -> Result<Task, Faults> {
    let (certificate, issuer) = root(&plan.root, materials)?;
    let mut faults = Faults::default();
    let mut revoked = Vec::new();
    let mut serials = BTreeSet::new();
    for (i, entry) in plan.revoke.iter().enumerate() {
        match revoke(entry, i, &certificate, &issuer, materials) {
            Ok(entry) if serials.insert(entry.serial) => revoked.push(entry),
            Ok(_) => faults.push(format!("revoke[{i}]"), "is revoked twice"),
            Err(error) => faults.append(error),
        }
    }
    let previous = match &plan.previous {
        None => None,
        Some(file) => match previous(file, &issuer, materials) {
            Ok(previous) => {
                still_revoked(file, &previous, &serials, &mut faults);
                Some((file, previous))
            }
            Err(error) => {
                faults.append(error);
                None
            }
        },
    };
    let number = number(plan, previous.as_ref().map(|(_, crl)| crl), &mut faults);
    let number = faults.or(number)?;
    let now = materials.now;
    let mut task = crl_task(&plan.out, &issuer, (number, plan.life), &revoked, now)?;
    task.words.push(match previous {
        Some((file, crl)) => format!("  before      {file}, number {}", crl.number().unwrap_or(0)),
        None => {
            "  before      not given: that the number grows and no entry is lost is yours to check"
                .to_owned()
        }
    });
    Ok(task)
}

fn number(plan: &IssueCrl, previous: Option<&Crl>, faults: &mut Faults) -> Option<u64> {
    let before = previous.and_then(Crl::number).unwrap_or(0);
    match plan.number {
        None => before.checked_add(1),
        Some(number) if number > before => Some(number),
        Some(number) => {
            // RFC 5280 §5.2.3.
            let what = format!("{number} is not greater than {before}, the previous CRL's");
            faults.push("crl.number", what);
            None
        }
    }
}

fn revoke(
    entry: &Revoke,
    index: usize,
    root: &Certificate,
    issuer: &Issuer,
    materials: &Materials<'_>,
) -> Result<RevokedCertificate, Faults> {
    let serial = match &entry.which {
        Which::Serial(serial) => *serial,
        Which::Certificate(file) => {
            let certificate = one_certificate(file, materials)?;
            if certificate.issuer() != issuer.name() || certificate.verify_by(issuer.key()).is_err()
            {
                let what = "is not signed by this root, which cannot revoke it";
                return Err(Faults::one(file.as_str(), what));
            }
            certificate.serial()
        }
    };
    let place = format!("revoke[{index}]");
    if serial == root.serial() {
        let what = "is the root itself: readers do not look a root up in its own CRL";
        return Err(Faults::one(place, what));
    }
    let revoked_at = entry.at.unwrap_or(materials.now);
    if revoked_at > materials.now || revoked_at < root.not_before() {
        let what = format!(
            "{revoked_at} is not between the root's beginning, {}, and now, {}",
            root.not_before(),
            materials.now
        );
        return Err(Faults::one(format!("{place}.at"), what));
    }
    Ok(RevokedCertificate {
        serial,
        revoked_at,
        reason: entry.reason,
    })
}

fn previous(file: &FileName, issuer: &Issuer, materials: &Materials<'_>) -> Result<Crl, Faults> {
    let crl = crl_of(file, issuer, materials)?;
    if crl.number().is_none() {
        let what = "has no CRL number of up to 64 bits";
        return Err(Faults::one(file.as_str(), what));
    }
    Ok(crl)
}

/// A CRL of this root.
pub(super) fn crl_of(
    file: &FileName,
    issuer: &Issuer,
    materials: &Materials<'_>,
) -> Result<Crl, Faults> {
    let fault = |what: &str| Faults::one(file.as_str(), what);
    let ders = pem::read_crls(bytes(file, materials)?).map_err(|error| fault(&chain(&error)))?;
    let [der] = ders.as_slice() else {
        return Err(fault("expected one CRL"));
    };
    let crl = Crl::parse(der).map_err(|error| fault(&chain(&error)))?;
    if crl.issuer() != issuer.name() || crl.verify_by(issuer.key()).is_err() {
        return Err(fault("is not signed by this root"));
    }
    if crl.this_update() > materials.now {
        return Err(fault("is from the future: one of the clocks is wrong"));
    }
    Ok(crl)
}

/// RFC 5280 §3.3: an entry stays until it has been on one CRL that came out after the certificate's end.
fn still_revoked(file: &FileName, previous: &Crl, serials: &BTreeSet<Serial>, faults: &mut Faults) {
    for serial in previous.revoked().iter().map(|entry| &entry.serial) {
        let over = serial
            .expires_day()
            .is_some_and(|day| day < previous.this_update().day());
        if !over && !serials.contains(serial) {
            let what = format!("{serial}, which {file} revokes, is missing");
            faults.push("revoke", what);
        }
    }
}

pub(super) fn crl_task(
    output: &FileName,
    issuer: &Issuer,
    (number, life): (u64, Ttl),
    revoked: &[RevokedCertificate],
    now: Timestamp,
) -> Result<Task, Faults> {
    let next_update = now.plus(life);
    if next_update > issuer.not_after() {
        let end = issuer.not_after();
        let what = format!("the CRL would be in force to {next_update}, the root ends at {end}");
        return Err(Faults::one(output.as_str(), what));
    }
    let request = CrlRequest {
        scope: Scope::COMPLETE,
        number,
        this_update: now,
        next_update,
        revoked,
    };
    let prepared = prepare_crl(&request, issuer)
        .map_err(|error| Faults::one(output.as_str(), chain(&error)))?;
    Ok(Task {
        output: output.clone(),
        words: words::crl_task(output, issuer.name(), &request),
        work: Work::Crl(prepared),
    })
}
