//! Policy over random policies, callers and requests of a small alphabet, so that things meet.

use std::net::IpAddr;

use super::*;
use crate::extension::{AltName, Purpose};
use crate::key::KeyAlgorithm;
use proptest::prelude::*;
use proptest::sample::select;

/// A request's facts, owned.
#[derive(Clone, Debug)]
struct Facts {
    alt_names: Vec<AltName>,
    common_names: Vec<String>,
    purposes: Vec<Purpose>,
    asks_for_authority: bool,
    key: KeyAlgorithm,
}

impl Facts {
    fn asked(&self) -> Asked<'_> {
        Asked {
            alt_names: &self.alt_names,
            common_names: &self.common_names,
            purposes: &self.purposes,
            asks_for_authority: self.asks_for_authority,
            key: self.key,
        }
    }
}

const ADDRESSES: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];

fn ttl() -> impl Strategy<Value = Ttl> {
    select(vec![
        Ttl::minutes(30),
        Ttl::hours(1),
        Ttl::hours(12),
        Ttl::days(1),
        Ttl::days(2),
        Ttl::days(30),
        Ttl::days(90),
        Ttl::days(400),
    ])
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("x".to_owned()),
        Just("a.x".to_owned()),
        Just("b.a.x".to_owned()),
        Just("*.x".to_owned()),
        Just("y".to_owned())
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let callers = select(vec![
        "spiffe://td/a",
        "spiffe://td/b",
        "spiffe://td/*",
        "spiffe://td/**",
        "spiffe://td/a/*",
        "spiffe://td/*/b",
    ]);
    let dns = prop::collection::vec(select(vec!["x", "a.x", "**.x", "**.a.x", "*.x", "y"]), 0..3);
    (
        "[rst]",
        select(vec!["server", "server", "client", "workload"]),
        callers,
        dns,
        prop::collection::vec(select(ADDRESSES.to_vec()), 0..2),
        prop::option::of(ttl()),
    )
        .prop_map(|(name, profile, callers, dns, ip, max_ttl)| Rule {
            name,
            profile: ProfileName::parse(profile).unwrap(),
            callers: SpiffePattern::parse(callers).unwrap(),
            dns: dns
                .into_iter()
                .map(|name| DnsPattern::parse(name).unwrap())
                .collect(),
            ip: ip.into_iter().map(IpAddr::from).collect(),
            max_ttl,
        })
}

fn policy() -> impl Strategy<Value = ClusterPolicy> {
    (
        select(vec!["td", "td", "td", "other"]),
        ttl(),
        ttl(),
        any::<bool>(),
        prop::collection::vec(rule(), 0..4),
    )
        .prop_map(
            |(trust_domain, default_ttl, max_ttl, strict, rules)| ClusterPolicy {
                trust_domain: TrustDomain::parse(trust_domain).unwrap(),
                default_ttl,
                max_ttl,
                strict,
                rules,
            },
        )
}

/// A policy and one that was made of it by a change or two: unlike ones are nearly always wider somewhere.
fn change() -> impl Strategy<Value = (ClusterPolicy, ClusterPolicy)> {
    (policy(), policy(), 0..8usize, any::<prop::sample::Index>()).prop_map(
        |(old, other, what, at)| {
            let mut new = old.clone();
            match what {
                0 => new = other,
                1 => new.default_ttl = other.default_ttl,
                2 => new.max_ttl = other.max_ttl,
                3 => new.strict = other.strict,
                4 if !new.rules.is_empty() => {
                    let at = at.index(new.rules.len());
                    new.rules.remove(at);
                }
                5 => new.rules.extend(other.rules),
                6 => new.rules.reverse(),
                7 if !new.rules.is_empty() && !other.rules.is_empty() => {
                    let at = at.index(new.rules.len());
                    new.rules[at].max_ttl = other.rules[0].max_ttl;
                    new.rules[at].dns = other.rules[0].dns.clone();
                }
                _ => {}
            }
            (old, new)
        },
    )
}

fn identity() -> impl Strategy<Value = Identity> {
    let id = select(vec![
        "spiffe://td/a",
        "spiffe://td/b",
        "spiffe://td/a/b",
        "spiffe://other/a",
    ]);
    let pattern = select(vec!["spiffe://td/*", "spiffe://td/a", "spiffe://td/**"]);
    prop_oneof![
        4 => id.prop_map(|id| Identity::Exactly(SpiffeId::parse(id).unwrap())),
        1 => pattern.prop_map(|p| Identity::OneOf(SpiffePattern::parse(p).unwrap())),
    ]
}

fn facts() -> impl Strategy<Value = Facts> {
    let name = prop_oneof![
        5 => host().prop_map(AltName::Dns),
        2 => select(ADDRESSES.to_vec()).prop_map(|a| AltName::Ip(a.into())),
        3 => select(vec!["spiffe://td/a", "spiffe://td/b", "https://td"])
            .prop_map(|uri| AltName::Uri(uri.to_owned())),
        1 => Just(AltName::Other(1)),
    ];
    (
        prop::collection::vec(name, 0..3),
        prop::collection::vec(select(vec!["x", "spiffe://td/a"]), 0..2),
        prop::collection::vec(
            select(vec![
                Purpose::ServerAuth,
                Purpose::ServerAuth,
                Purpose::Unknown,
            ]),
            0..2,
        ),
        prop::bool::weighted(0.1),
        select(vec![
            KeyAlgorithm::EcdsaP256,
            KeyAlgorithm::EcdsaP256,
            KeyAlgorithm::EcdsaP256,
            KeyAlgorithm::Ed25519,
        ]),
    )
        .prop_map(
            |(alt_names, common_names, purposes, asks_for_authority, key)| Facts {
                alt_names,
                common_names: common_names.into_iter().map(str::to_owned).collect(),
                purposes,
                asks_for_authority,
                key,
            },
        )
}

fn asked_ttl() -> impl Strategy<Value = AskedTtl> {
    prop_oneof![
        Just(AskedTtl::Default),
        ttl().prop_map(AskedTtl::Exactly),
        ttl().prop_map(AskedTtl::AtMost),
    ]
}

fn profile() -> impl Strategy<Value = Profile> {
    select(vec![
        Profile::WORKLOAD,
        Profile::WORKLOAD_EPHEMERAL,
        Profile::SERVER,
        Profile::SERVER,
        Profile::CLIENT,
        Profile::ADMIN,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_explanation_decides_as_the_decision_and_one_step_of_it_does(
        policy in policy(),
        identity in identity(),
        profile in profile(),
        facts in facts(),
        ttl in asked_ttl(),
    ) {
        let told = explain(&policy, &identity, profile, facts.asked(), ttl);
        prop_assert_eq!(&told.decision, &decide(&policy, &identity, profile, facts.asked(), ttl));
        let expected = match &told.decision {
            Ok(_) => Outcome::Grants,
            Err(_) => Outcome::Refuses,
        };
        let deciding: Vec<&Step> = told
            .steps
            .iter()
            .filter(|step| matches!(step.outcome, Outcome::Grants | Outcome::Refuses))
            .collect();
        prop_assert_eq!(deciding.len(), 1, "{:?}", told.steps);
        prop_assert_eq!(deciding[0].outcome, expected);
        match &told.decision {
            Ok(grant) => prop_assert_eq!(&deciding[0].rule, &grant.rule),
            Err(refusal) => prop_assert_eq!(&deciding[0].why, &refusal.to_string()),
        }
        // Once hosts are asked for, each rule has its say, in its order.
        if told.steps.iter().any(|s| s.rule == HOST_NAMES && s.outcome == Outcome::Passes) {
            let rules: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
            let said: Vec<&str> = told.steps[4..].iter().map(|s| s.rule.as_str()).collect();
            prop_assert!(said == rules || said.strip_suffix(&[NO_RULE]) == Some(&rules[..]));
        }
    }

    #[test]
    fn a_policy_is_no_wider_than_itself(policy in policy()) {
        prop_assert_eq!(widens(&policy, &policy), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn where_nothing_is_wider_nothing_more_is_granted(
        (old, new) in change(),
        asking in prop::collection::vec((identity(), profile(), facts(), asked_ttl()), 8),
    ) {
        if !widens(&old, &new).is_empty() {
            return Ok(());
        }
        for (identity, profile, facts, ttl) in asking {
            let Ok(now) = decide(&new, &identity, profile, facts.asked(), ttl) else {
                continue;
            };
            let before = decide(&old, &identity, profile, facts.asked(), ttl);
            prop_assert!(
                before.as_ref().is_ok_and(|b| b.names == now.names && b.ttl >= now.ttl),
                "{:?} gets {:?}, and got {:?}", facts, now, before
            );
        }
    }
}

/// Rules that get into each other's way.
fn crowded() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (
        select(vec!["spiffe://td/a", "spiffe://td/*", "spiffe://td/**"]),
        prop::collection::vec(select(vec!["a.x", "**.x", "**.a.x", "y"]), 1..3),
        select(vec![Ttl::days(1), Ttl::days(30), Ttl::days(90)]),
    )
        .prop_map(|(callers, dns, max_ttl)| Rule {
            name: format!("{callers} {dns:?} {max_ttl}"),
            profile: ProfileName::parse("server").unwrap(),
            callers: SpiffePattern::parse(callers).unwrap(),
            dns: dns
                .into_iter()
                .map(|name| DnsPattern::parse(name).unwrap())
                .collect(),
            ip: vec![],
            max_ttl: Some(max_ttl),
        });
    prop::collection::vec(rule, 1..4)
}

/// Every request of one or two of these names, by each of these callers, for each lifetime.
fn every_request() -> Vec<(Identity, Vec<AltName>, AskedTtl)> {
    let hosts = ["a.x", "b.a.x", "c.x", "y"];
    let mut names: Vec<Vec<&str>> = hosts.iter().map(|name| vec![*name]).collect();
    for (at, name) in hosts.iter().enumerate() {
        names.extend(hosts[at + 1..].iter().map(|other| vec![*name, *other]));
    }
    let mut all = Vec::new();
    for id in ["spiffe://td/a", "spiffe://td/b", "spiffe://td/b/c"] {
        for names in &names {
            for ttl in [
                AskedTtl::Default,
                AskedTtl::Exactly(Ttl::days(30)),
                AskedTtl::AtMost(Ttl::days(90)),
            ] {
                let names = names.iter().map(|name| AltName::Dns((*name).to_owned()));
                let id = SpiffeId::parse(id).unwrap();
                all.push((Identity::Exactly(id), names.collect(), ttl));
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_order_of_rules_that_overlap_widens_nothing_unnoticed(
        rules in crowded(),
        others in crowded(),
        what in 0..4usize,
        at in any::<prop::sample::Index>(),
    ) {
        let of = |rules: Vec<Rule>| ClusterPolicy {
            trust_domain: TrustDomain::parse("td").unwrap(),
            default_ttl: Ttl::hours(1),
            max_ttl: Ttl::days(1),
            strict: false,
            rules,
        };
        let old = of(rules.clone());
        let mut new = rules;
        match what {
            0 => {
                new.remove(at.index(new.len()));
            }
            1 => new.reverse(),
            2 => new.insert(at.index(new.len()), others[0].clone()),
            _ => new[at.index(old.rules.len())] = others[0].clone(),
        }
        let new = of(new);
        if !widens(&old, &new).is_empty() {
            return Ok(());
        }
        for (identity, alt_names, ttl) in every_request() {
            let asked = Asked {
                alt_names: &alt_names,
                common_names: &[],
                purposes: &[],
                asks_for_authority: false,
                key: KeyAlgorithm::EcdsaP256,
            };
            let Ok(now) = decide(&new, &identity, Profile::SERVER, asked, ttl) else {
                continue;
            };
            let before = decide(&old, &identity, Profile::SERVER, asked, ttl);
            prop_assert!(
                before.as_ref().is_ok_and(|b| b.names == now.names && b.ttl >= now.ttl),
                "{:?} gets {:?}, and got {:?}", alt_names, now, before
            );
        }
    }
}
