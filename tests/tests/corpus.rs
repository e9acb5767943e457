//! Requests of the wild: what three other parsers say of each, beside what `pki` says.
//!
//! Where we disagree stands in `tests/corpus-disagreements.toml`, with the reason; the test fails on a disagreement
//! that is not there and on an entry that is none any more.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use pki::csr::{CsrError, VerifiedCsr};
use pki::extension::AltName;
use pki::key::KeyError;
use pki::name::{DnsName, SpiffeId, TrustDomain};
use pki::policy::{AskedTtl, ClusterPolicy, Identity, Refusal, decide};
use pki::profile::Profile;
use pki::time::Ttl;
use serde::Deserialize;
use tests::parts;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Class {
    Accept,
    Malformed,
    RejectByPolicy,
    RejectBySignature,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Malformed => "malformed",
            Self::RejectByPolicy => "reject-by-policy",
            Self::RejectBySignature => "reject-by-signature",
        })
    }
}

#[derive(Deserialize)]
struct Entry {
    file: String,
    expected: Class,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disagreement {
    /// What the index says.
    expected: Class,
    /// What we say.
    ours: Class,
    /// Our error, or a part of it.
    error: String,
    reason: String,
    files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disagreements {
    disagreement: Vec<Disagreement>,
}

/// What we make of a request before anybody's names are asked about, and the error.
fn ours(der: &[u8]) -> (Class, String) {
    match VerifiedCsr::parse(der) {
        Ok(csr) => match refusal_of_any_policy(&csr) {
            None => (Class::Accept, String::new()),
            Some(refusal) => (Class::RejectByPolicy, refusal),
        },
        Err(error) => (class(&error), format!("{error:?}")),
    }
}

fn class(error: &CsrError) -> Class {
    match error {
        CsrError::Attribute
        | CsrError::Key(KeyError::NotDer(_))
        | CsrError::NotDer(_)
        | CsrError::Version => Class::Malformed,
        CsrError::Algorithm
        | CsrError::CriticalExtension
        | CsrError::IssuerExtension
        | CsrError::Key(_)
        | CsrError::TooLarge(_)
        | CsrError::TooManyNames(_) => Class::RejectByPolicy,
        CsrError::Possession(_) => Class::RejectBySignature,
    }
}

/// What no rule of any cluster could give: a CA, a purpose beyond TLS, a name that no profile carries.
fn refusal_of_any_policy(csr: &VerifiedCsr) -> Option<String> {
    let policy = ClusterPolicy {
        trust_domain: TrustDomain::parse("td").unwrap(),
        default_ttl: Ttl::hours(24),
        max_ttl: Ttl::days(7),
        strict: false,
        rules: vec![],
    };
    let caller = Identity::Exactly(SpiffeId::parse("spiffe://td/a").unwrap());
    let decision = decide(&policy, &caller, Profile::SERVER, csr, AskedTtl::Default);
    if let Err(refusal @ (Refusal::Authority | Refusal::Purpose { .. })) = decision {
        return Some(format!("{refusal:?}"));
    }
    csr.alt_names().iter().find_map(|name| match name {
        AltName::Dns(name) => DnsName::parse(name).err().map(|error| format!("{error:?}")),
        AltName::Uri(uri) => SpiffeId::parse(uri).err().map(|error| format!("{error:?}")),
        AltName::Ip(_) => None,
        AltName::Other(_) => Some(format!("{name:?}")),
    })
}

#[test]
fn the_requests_of_the_wild_are_classed_as_others_class_them() {
    const NAME: &str = "the_requests_of_the_wild_are_classed_as_others_class_them";
    let corpus = parts::repository().join("../shared/corpus/csr");
    let Ok(index) = std::fs::read_to_string(corpus.join("index.jsonl")) else {
        parts::skip(NAME, "the corpus is not beside the repository");
        return;
    };
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus-disagreements.toml");
    let list: Disagreements = toml::from_str(&std::fs::read_to_string(list).unwrap()).unwrap();
    let mut listed: BTreeMap<&str, &Disagreement> = BTreeMap::new();
    for disagreement in &list.disagreement {
        assert!(!disagreement.reason.is_empty());
        for file in &disagreement.files {
            assert!(
                listed.insert(file, disagreement).is_none(),
                "{file} stands twice"
            );
        }
    }

    let mut complaints = Vec::new();
    let mut agreed = 0;
    for line in index.lines() {
        let entry: Entry = serde_json::from_str(line).unwrap();
        let der = std::fs::read(corpus.join(&entry.file)).unwrap();
        let (ours, error) = ours(&der);
        let known = listed.remove(entry.file.as_str());
        if ours == entry.expected {
            agreed += 1;
            if known.is_some() {
                complaints.push(format!("{}: listed, but we agree", entry.file));
            }
        } else if !known.is_some_and(|known| {
            known.expected == entry.expected && known.ours == ours && error.contains(&known.error)
        }) {
            complaints.push(format!(
                "{}: {} expected, {ours}: {error}",
                entry.file, entry.expected
            ));
        }
    }
    complaints.extend(
        listed
            .keys()
            .map(|file| format!("{file}: listed, but not in the corpus")),
    );
    println!(
        "{agreed} agreed, {} listed disagreements",
        index.lines().count() - agreed
    );
    assert!(
        complaints.is_empty(),
        "{}:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    assert!(agreed > 200);
}
