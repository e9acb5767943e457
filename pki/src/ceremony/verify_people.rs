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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceremony::record::{KeyOrigin, PlanRecord, ShareRecord};
    use crate::name::KeyUri;
    use crate::time::Timestamp;

    const SPLIT: &str = r#"
version = 1
ceremony = "split-key"
[root]
certificate = "root.pem"
key = "pkcs11:token=ca;object=root"
opened_by = ["Ada", "Bert", "Cleo"]
[token]
module = "/usr/lib/softhsm/libsofthsm2.so"
confined = true
[shares]
threshold = 2
holders = ["Dora", "Emil"]
"#;

    fn shares(of: &[(u8, &str)]) -> Vec<ShareRecord> {
        let share = |(number, holder): &(u8, &str)| ShareRecord {
            number: *number,
            holder: Person::parse(holder).unwrap(),
        };
        of.iter().map(share).collect()
    }

    fn transcript(plan: &Plan) -> Transcript {
        Transcript {
            version: 1,
            tool: "test".into(),
            ceremony: plan.kind().into(),
            started: Timestamp::EPOCH,
            finished: Timestamp::EPOCH,
            confirmation: Confirmation::ByFlag,
            root_subject: String::new(),
            root_key_sha256: String::new(),
            plan: PlanRecord::of("plan.toml", plan),
            token: Some(KeyOrigin {
                uri: KeyUri::parse("pkcs11:token=ca;object=root;id=%01").unwrap(),
                local: true,
                sensitive: true,
                always_sensitive: true,
                extractable: false,
                never_extractable: true,
            }),
            opened: Some(Opened {
                set: "00".into(),
                threshold: 2,
                shares: shares(&[(3, "Cleo"), (1, "Ada")]),
            }),
            split: Some(Split {
                set: "01".into(),
                threshold: 2,
                shares: shares(&[(1, "Dora"), (2, "Emil")]),
            }),
            witnesses: Vec::new(),
            known: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// What is said about a transcript after `change`.
    fn told(change: impl FnOnce(&mut Transcript)) -> String {
        let plan = Plan::parse(SPLIT).unwrap();
        let mut transcript = transcript(&plan);
        change(&mut transcript);
        let mut faults = Faults::default();
        check_people(&plan, &transcript, &mut faults);
        faults.to_string()
    }

    fn opened(t: &mut Transcript) -> &mut Opened {
        t.opened.as_mut().unwrap()
    }

    fn split(t: &mut Transcript) -> &mut Split {
        t.split.as_mut().unwrap()
    }

    fn token(t: &mut Transcript) -> &mut KeyOrigin {
        t.token.as_mut().unwrap()
    }

    #[test]
    fn shares_that_opened_the_key_are_enough_distinct_and_the_plans() {
        assert_eq!(told(|_| {}), "");
        let few = "lists too few shares to open the key, or one of them twice";
        assert!(told(|t| opened(t).shares.truncate(1)).contains(few));
        assert!(told(|t| opened(t).shares[0].number = 1).contains(few));
        let ada = told(|t| opened(t).shares[0].holder = Person::parse("Ada").unwrap());
        assert!(ada.contains(few), "{ada}");
        let emil = told(|t| opened(t).shares[0].holder = Person::parse("Emil").unwrap());
        assert!(emil.contains("lists a share of Emil, whom the plan does not name"));
        assert!(told(|t| t.opened = None).contains("the plan wants the key opened by them"));
    }

    #[test]
    fn shares_that_were_made_are_the_plans() {
        let other = "lists other shares, or other holders of them, than the plan";
        assert!(told(|t| split(t).threshold = 1).contains(other));
        assert!(told(|t| split(t).shares.swap(0, 1)).contains(other));
        assert!(told(|t| split(t).shares.truncate(1)).contains(other));
        assert!(told(|t| split(t).shares[1].number = 3).contains(other));
        assert!(told(|t| t.split = None).contains(other));
    }

    #[test]
    fn a_key_that_was_to_be_confined_is_said_to_be() {
        let loose = "the key is not confined to its token, which the plan demands";
        for change in [
            (|t| token(t).local = false) as fn(&mut Transcript),
            |t| token(t).sensitive = false,
            |t| token(t).always_sensitive = false,
            |t| token(t).extractable = true,
            |t| token(t).never_extractable = false,
        ] {
            assert!(told(change).contains(loose));
        }
        let other = KeyUri::parse("pkcs11:token=ca;object=other").unwrap();
        assert!(told(|t| token(t).uri = other).contains("names another key of the token"));
        assert!(told(|t| t.token = None).contains("does not say of the key what the plan says"));
    }
}
