//! Reading a plan that signs a CRL.

use super::{Expected, crl_life, file, used_root};
use crate::ceremony::fault::{Faults, Section};
use crate::ceremony::plan::{Ceremony, IssueCrl, Revoke, Which};
use crate::crl::Reason;
use crate::serial::Serial;
use crate::time::Timestamp;

const MAX_REVOKED: usize = 1000;

pub(super) fn issue_crl(plan: &mut Section, faults: &mut Faults) -> Option<Ceremony> {
    let root = used_root(plan, faults, |_, _| ());
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
        root: root?.0,
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
pub(in crate::ceremony) const REASONS: [(&str, Reason); 7] = [
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
