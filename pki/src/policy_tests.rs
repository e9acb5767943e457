//! Policy, decision by decision.

use super::*;
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
