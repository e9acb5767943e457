//! Checking what a transcript says about people: each witness, each holder, each share, against the plan.

use std::collections::BTreeSet;

use crate::ceremony::fault::Faults;
use crate::ceremony::key_place::KeyPlace;
use crate::ceremony::people::Person;
use crate::ceremony::plan::Plan;
use crate::ceremony::record::{Confirmation, Opened, Split, WITNESSED_DIGITS, Witness};
use crate::ceremony::transcript::Transcript;

pub(super) fn check_people(plan: &Plan, transcript: &Transcript, faults: &mut Faults) {
    check_witnesses(plan, transcript, faults);
    check_split(plan, transcript.split.as_ref(), faults);
    check_opened(plan, transcript.opened.as_ref(), faults);
    check_token(plan, transcript, faults);
}

fn check_witnesses(plan: &Plan, transcript: &Transcript, faults: &mut Faults) {
    let names: Vec<&Person> = transcript.witnesses.iter().map(|w| &w.name).collect();
    if !names.iter().copied().eq(plan.witnesses()) {
        faults.push("transcript", "lists other witnesses than the plan");
    }
    let plan_digits = transcript.plan.sha256.get(..WITNESSED_DIGITS);
    let key_digits = transcript.root_key_sha256.get(..WITNESSED_DIGITS);
    for Witness {
        name,
        plan_sha256,
        key_sha256,
    } in &transcript.witnesses
    {
        let typed = (plan_sha256.as_deref(), key_sha256.as_deref());
        let wanted = match transcript.confirmation {
            Confirmation::Asked => (plan_digits, key_digits),
            Confirmation::ByFlag => (None, None),
        };
        if typed != wanted {
            let what = format!("witness {name} saw something else than this ceremony");
            faults.push("transcript", what);
        }
    }
}

fn check_split(plan: &Plan, split: Option<&Split>, faults: &mut Faults) {
    let same = match (plan.sharing(), split) {
        (None, None) => true,
        (Some(sharing), Some(split)) => {
            let holders = split.shares.iter().map(|share| &share.holder);
            let numbers = split.shares.iter().map(|share| share.number);
            split.threshold == sharing.threshold()
                && holders.eq(sharing.holders())
                && numbers.eq((1..).take(split.shares.len()))
        }
        _ => false,
    };
    if !same {
        let what = "lists other shares, or other holders of them, than the plan";
        faults.push("transcript", what);
    }
}

fn check_opened(plan: &Plan, opened: Option<&Opened>, faults: &mut Faults) {
    let allowed = plan.opened_by();
    let Some(opened) = opened else {
        if !allowed.is_empty() {
            faults.push(
                "transcript",
                "lists no shares, and the plan wants the key opened by them",
            );
        }
        return;
    };
    let numbers: BTreeSet<u8> = opened.shares.iter().map(|share| share.number).collect();
    let holders: BTreeSet<&Person> = opened.shares.iter().map(|share| &share.holder).collect();
    let count = opened.shares.len();
    if numbers.len() != count || holders.len() != count || count < usize::from(opened.threshold) {
        let what = "lists too few shares to open the key, or one of them twice";
        faults.push("transcript", what);
    }
    for holder in holders {
        if !allowed.is_empty() && !allowed.contains(holder) {
            let what = format!("lists a share of {holder}, whom the plan does not name");
            faults.push("transcript", what);
        }
    }
}

fn check_token(plan: &Plan, transcript: &Transcript, faults: &mut Faults) {
    match (plan.key(), &transcript.token) {
        (KeyPlace::File(_), None) => {}
        (KeyPlace::Token(wanted), Some(origin)) => {
            if wanted.uri().object() != origin.uri.object() {
                faults.push("transcript", "names another key of the token than the plan");
            }
            if wanted.is_confined() && !origin.is_confined() {
                let what = "says that the key is not confined to its token, which the plan demands";
                faults.push("transcript", what);
            }
        }
        _ => {
            let what = "does not say of the key what the plan says: in a token or not";
            faults.push("transcript", what);
        }
    }
}
