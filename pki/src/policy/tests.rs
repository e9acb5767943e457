//! Policy, decision by decision.

use super::*;
use crate::csr::VerifiedCsr;
use proptest::prelude::*;

fn csr(build: impl FnOnce(&mut rcgen::CertificateParams)) -> VerifiedCsr {
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    build(&mut params);
    VerifiedCsr::parse(params.serialize_request(&pair).unwrap().der()).unwrap()
}

fn uri(s: &str) -> rcgen::SanType {
    rcgen::SanType::URI(rcgen::string::Ia5String::try_from(s).unwrap())
}

fn dns(s: &str) -> rcgen::SanType {
    rcgen::SanType::DnsName(rcgen::string::Ia5String::try_from(s).unwrap())
}

fn policy() -> ClusterPolicy {
    ClusterPolicy {
        trust_domain: TrustDomain::parse("td").unwrap(),
        default_ttl: Ttl::hours(24),
        max_ttl: Ttl::days(7),
        strict: false,
        rules: vec![Rule {
            name: "gateways".into(),
            profile: ProfileName::parse("server").unwrap(),
            callers: SpiffePattern::parse("spiffe://td/ns/gw/sa/*").unwrap(),
            dns: vec![DnsPattern::parse("**.example.com").unwrap()],
            ip: vec![],
            max_ttl: Some(Ttl::days(30)),
        }],
    }
}

fn me() -> Identity {
    Identity::Exactly(SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap())
}

fn workload(csr: &VerifiedCsr, asked: AskedTtl) -> Result<Grant, Refusal> {
    decide(&policy(), &me(), Profile::WORKLOAD, csr, asked)
}

#[test]
fn a_workload_gets_its_own_identity_whether_named_or_not() {
    for names in [vec![], vec![uri("spiffe://td/ns/a/sa/b")]] {
        let grant = workload(&csr(|p| p.subject_alt_names = names), AskedTtl::Default).unwrap();
        assert_eq!(grant.names.to_strings(), ["URI:spiffe://td/ns/a/sa/b"]);
        assert_eq!(
            (grant.ttl, grant.rule.as_str()),
            (Ttl::hours(24), OWN_IDENTITY)
        );
    }
}

#[test]
fn any_other_name_is_refused() {
    for names in [
        vec![uri("spiffe://td/ns/kube-system/sa/admin")],
        vec![uri("spiffe://td/ns/a/sa/b"), uri("spiffe://td/ns/a/sa/c")],
        vec![uri("spiffe://td/ns/a/sa/b"), dns("evil.example.com")],
        vec![dns("a.example.com")],
        vec![rcgen::SanType::IpAddress("10.0.0.1".parse().unwrap())],
    ] {
        let refusal = workload(&csr(|p| p.subject_alt_names = names), AskedTtl::Default);
        assert!(matches!(refusal, Err(Refusal::Name { .. })), "{refusal:?}");
    }
    let common_name = csr(|p| {
        p.distinguished_name
            .push(rcgen::DnType::CommonName, "admin")
    });
    assert!(matches!(
        workload(&common_name, AskedTtl::Default),
        Err(Refusal::Name { .. })
    ));
}

#[test]
fn nobody_becomes_an_authority() {
    let ca = csr(|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    assert_eq!(workload(&ca, AskedTtl::Default), Err(Refusal::Authority));
    let usage = csr(|p| p.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]);
    assert_eq!(workload(&usage, AskedTtl::Default), Err(Refusal::Authority));
    let ocsp = csr(|p| p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::OcspSigning]);
    assert_eq!(
        workload(&ocsp, AskedTtl::Default),
        Err(Refusal::Purpose {
            profile: "workload"
        })
    );
    for profile in [
        Profile::ADMIN,
        Profile::ROOT,
        Profile::OCSP_RESPONDER,
        Profile::SUBORDINATE_CA,
    ] {
        let refusal = decide(&policy(), &me(), profile, &csr(|_| ()), AskedTtl::Default);
        assert!(
            matches!(refusal, Err(Refusal::Profile { .. })),
            "{refusal:?}"
        );
    }
}

#[test]
fn lifetimes_are_capped_for_istio_and_refused_for_our_own_call() {
    let csr = csr(|_| ());
    let long = Ttl::days(30);
    assert_eq!(
        workload(&csr, AskedTtl::AtMost(long)).unwrap().ttl,
        Ttl::days(7)
    );
    assert!(matches!(
        workload(&csr, AskedTtl::Exactly(long)),
        Err(Refusal::Ttl { .. })
    ));
    let strict = ClusterPolicy {
        strict: true,
        ..policy()
    };
    let refusal = decide(
        &strict,
        &me(),
        Profile::WORKLOAD,
        &csr,
        AskedTtl::AtMost(long),
    );
    assert!(matches!(refusal, Err(Refusal::Ttl { .. })));
}

#[test]
fn hosts_are_given_by_rule_only() {
    let gateway = Identity::Exactly(SpiffeId::parse("spiffe://td/ns/gw/sa/x").unwrap());
    let ask = |identity: &Identity, names: Vec<rcgen::SanType>| {
        decide(
            &policy(),
            identity,
            Profile::SERVER,
            &csr(|p| p.subject_alt_names = names),
            AskedTtl::Default,
        )
    };
    let grant = ask(&gateway, vec![dns("api.example.com")]).unwrap();
    assert_eq!(
        (grant.rule.as_str(), grant.ttl),
        ("gateways", Ttl::days(30))
    );
    assert!(ask(&me(), vec![dns("api.example.com")]).is_err());
    assert!(ask(&gateway, vec![dns("api.example.com"), dns("evil.com")]).is_err());
    assert!(ask(&gateway, vec![dns("example.com")]).is_err());
    assert_eq!(ask(&gateway, vec![]), Err(Refusal::NoName));
}

#[test]
fn an_enrolment_picks_one_identity_of_its_pattern() {
    let pattern = Identity::OneOf(SpiffePattern::parse("spiffe://td/edge/*").unwrap());
    let ask = |names: Vec<rcgen::SanType>| {
        let csr = csr(|p| p.subject_alt_names = names);
        decide(
            &policy(),
            &pattern,
            Profile::WORKLOAD,
            &csr,
            AskedTtl::Default,
        )
    };
    assert!(ask(vec![uri("spiffe://td/edge/a")]).is_ok());
    assert!(ask(vec![uri("spiffe://td/ns/x/sa/y")]).is_err());
    assert!(ask(vec![]).is_err());
    assert!(ask(vec![uri("spiffe://td/edge/a"), uri("spiffe://td/edge/b")]).is_err());
    let foreign = Identity::OneOf(SpiffePattern::parse("spiffe://other/edge/*").unwrap());
    let csr = csr(|p| p.subject_alt_names = vec![uri("spiffe://other/edge/a")]);
    let refusal = decide(
        &policy(),
        &foreign,
        Profile::WORKLOAD,
        &csr,
        AskedTtl::Default,
    );
    assert!(matches!(refusal, Err(Refusal::TrustDomain { .. })));
}

#[test]
fn an_explanation_names_each_rule_and_why_it_does_not_fit() {
    let rule = |name: &str, profile: &str, callers: &str, dns: &str| Rule {
        name: name.into(),
        profile: ProfileName::parse(profile).unwrap(),
        callers: SpiffePattern::parse(callers).unwrap(),
        dns: vec![DnsPattern::parse(dns).unwrap()],
        ip: vec![],
        max_ttl: Some(Ttl::days(30)),
    };
    let policy = ClusterPolicy {
        rules: vec![
            rule("clients", "client", "spiffe://td/**", "**.example.com"),
            rule("others", "server", "spiffe://td/ns/b/**", "**.example.com"),
            rule("names", "server", "spiffe://td/**", "**.example.org"),
            rule("gateways", "server", "spiffe://td/**", "**.example.com"),
            rule("behind", "server", "spiffe://td/**", "**.example.com"),
        ],
        ..policy()
    };
    let csr = csr(|p| p.subject_alt_names = vec![dns("api.example.com")]);
    let tell = |ttl| {
        let told = explain(&policy, &me(), Profile::SERVER, &csr, ttl);
        let steps: Vec<String> = told
            .steps
            .iter()
            .map(|step| format!("{} {}: {}", step.rule, step.outcome, step.why))
            .collect();
        (steps, told.decision)
    };
    let (steps, decision) = tell(AskedTtl::Default);
    assert_eq!(
        steps,
        [
            "forbidden-requests passes: no CA certificate and no foreign purpose is asked for, and profile \"server\" takes P-256 keys",
            "caller-identity passes: spiffe://td/ns/a/sa/b is in trust domain td",
            "workload-own-identity does-not-fit: it is for workloads, profile \"server\" was asked for",
            "host-names passes: DNS:api.example.com",
            "clients does-not-fit: it is for profile \"client\", \"server\" was asked for",
            "others does-not-fit: its callers are spiffe://td/ns/b/**, and this one is spiffe://td/ns/a/sa/b",
            "names does-not-fit: its host names are [**.example.org], and DNS:api.example.com was asked for",
            "gateways grants: DNS:api.example.com for 30d",
            "behind not-reached: the first rule that fits decides, and \"gateways\" did",
        ]
    );
    assert_eq!(decision.unwrap().rule, "gateways");
    let (steps, decision) = tell(AskedTtl::Exactly(Ttl::days(31)));
    assert_eq!(
        steps[7],
        "gateways refuses: a lifetime of 31d was asked for, 30d is the longest allowed"
    );
    assert!(matches!(decision, Err(Refusal::Ttl { .. })));
}

#[test]
fn what_a_policy_gives_more_is_named() {
    let old = policy();
    let changed = |change: &dyn Fn(&mut ClusterPolicy)| {
        let mut new = policy();
        change(&mut new);
        let found = widens(&old, &new);
        found.iter().map(|w| w.what.clone()).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(changed(&|_| ()), none);
    assert_eq!(changed(&|p| p.rules.clear()), none);
    assert_eq!(changed(&|p| p.strict = true), none);
    assert_eq!(changed(&|p| p.max_ttl = Ttl::days(2)), none);
    assert_eq!(changed(&|p| p.rules[0].max_ttl = None), ["gateways"]);
    assert_eq!(
        changed(&|p| p.rules[0].ip = vec![[10, 0, 0, 1].into()]),
        ["gateways"]
    );
    assert_eq!(
        changed(&|p| p.rules[0].dns = vec![DnsPattern::parse("a.example.com").unwrap()]),
        none
    );
    assert_eq!(
        changed(&|p| p.rules[0].callers = SpiffePattern::parse("spiffe://td/ns/**").unwrap()),
        ["gateways"]
    );
    assert_eq!(changed(&|p| p.default_ttl = Ttl::days(2)), ["default_ttl"]);
    assert_eq!(changed(&|p| p.max_ttl = Ttl::days(8)), ["max_ttl"]);
    assert_eq!(
        changed(&|p| p.trust_domain = TrustDomain::parse("other").unwrap()),
        ["trust_domain"]
    );
    let strict = ClusterPolicy {
        strict: true,
        ..policy()
    };
    assert_eq!(widens(&strict, &old)[0].what, "strict");
    // A rule that gave some of them less time stood before it, and is gone.
    let mut shorter = old.rules[0].clone();
    shorter.dns = vec![DnsPattern::parse("**.api.example.com").unwrap()];
    shorter.max_ttl = Some(Ttl::days(1));
    let both = ClusterPolicy {
        rules: vec![shorter, old.rules[0].clone()],
        ..policy()
    };
    assert_eq!(widens(&both, &old)[0].what, "gateways");
    assert_eq!(widens(&both, &both), []);
    assert_eq!(widens(&old, &both), []);
}

#[test]
fn what_is_displayed_of_a_request_is_read_back() {
    use crate::extension::{AltName, Purpose};
    use crate::key::KeyAlgorithm;
    for name in [
        AltName::Dns("a.example.com".into()),
        AltName::Ip([10, 0, 0, 1].into()),
        AltName::Uri("spiffe://td/a".into()),
        AltName::Other(1),
        AltName::Other(4),
        AltName::Other(8),
    ] {
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    for key in [
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Ed25519,
        KeyAlgorithm::Rsa { bits: 3072 },
    ] {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    for purpose in [Purpose::ServerAuth, Purpose::OcspSigning, Purpose::Unknown] {
        assert_eq!(purpose.to_string().parse(), Ok(purpose));
    }
    assert!("RSA-1024".parse::<KeyAlgorithm>().is_err());
    assert!("example.com".parse::<AltName>().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn taking_a_rule_away_never_allows_more(host in "[a-z]{1,8}(\\.example\\.com)?") {
        let csr = csr(|p| p.subject_alt_names = vec![dns(&host)]);
        let caller = Identity::Exactly(SpiffeId::parse("spiffe://td/ns/gw/sa/x").unwrap());
        let fewer = ClusterPolicy { rules: vec![], ..policy() };
        let with = decide(&policy(), &caller, Profile::SERVER, &csr, AskedTtl::Default);
        let without = decide(&fewer, &caller, Profile::SERVER, &csr, AskedTtl::Default);
        prop_assert!(without.is_err());
        prop_assert_eq!(with.is_ok(), host.ends_with(".example.com"));
    }
}
