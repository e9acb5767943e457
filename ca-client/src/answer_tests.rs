use super::*;
use crate::identity::{KeyKind, NewKey};
use crate::stand_in::{Authority, TRUST_DOMAIN};
use pki::extension::SubjectNames;
use pki::name::SpiffeId;
use pki::time::Ttl;

const NOW: Timestamp = Timestamp::from_unix(1_795_488_780);

fn spiffe(path: &str) -> SubjectNames {
    SubjectNames::of_spiffe(SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}{path}")).unwrap())
}

fn request(names: &SubjectNames) -> Vec<u8> {
    NewKey::generate(KeyKind::P256, names)
        .unwrap()
        .csr()
        .to_vec()
}

fn judge(csr: &[u8], answer: &SignCertificateResponse) -> Result<SignedCertificate, AnswerError> {
    check(answer, &VerifiedCsr::parse(csr).unwrap(), NOW)
}

#[test]
fn takes_a_certificate_that_is_ours() {
    let authority = Authority::new(NOW.minus(Ttl::days(10)));
    for names in [spiffe("/a"), SubjectNames::default()] {
        let csr = request(&names);
        let signed = judge(&csr, &authority.answer(&csr, Ttl::hours(1), NOW)).unwrap();
        assert_eq!(signed.chain().len(), 2);
        assert_eq!(signed.not_after(), NOW.plus(Ttl::hours(1)));
        assert_eq!(
            signed.bundle().roots(),
            std::slice::from_ref(&authority.root)
        );
    }
}

#[test]
fn refuses_a_certificate_for_another_key_or_name() {
    let authority = Authority::new(NOW.minus(Ttl::days(10)));
    let (csr, other) = (request(&spiffe("/a")), request(&spiffe("/a")));
    let answer = authority.answer(&other, Ttl::hours(1), NOW);
    assert_eq!(judge(&csr, &answer).unwrap_err(), AnswerError::Key);

    // The same key, certified under a name that it did not ask for.
    let asked = request_of_key_for("/a", "/b");
    let answer = authority.answer(&asked.1, Ttl::hours(1), NOW);
    let refusal = judge(&asked.0, &answer).unwrap_err();
    assert!(matches!(refusal, AnswerError::Names { .. }), "{refusal}");
}

/// Two requests of one key, for two names.
fn request_of_key_for(one: &str, other: &str) -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = |path: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let uri = format!("spiffe://{TRUST_DOMAIN}{path}").try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        params.serialize_request(&key).unwrap().der().to_vec()
    };
    (request(one), request(other))
}

#[test]
fn refuses_a_certificate_that_is_not_valid_now() {
    let authority = Authority::new(NOW.minus(Ttl::days(10)));
    let csr = request(&spiffe("/a"));
    for made in [NOW.minus(Ttl::days(2)), NOW.plus(Ttl::hours(1))] {
        let answer = authority.answer(&csr, Ttl::hours(1), made);
        let refusal = judge(&csr, &answer).unwrap_err();
        assert!(
            matches!(refusal, AnswerError::NotValidNow { .. }),
            "{refusal}"
        );
    }
}

#[test]
fn refuses_a_chain_that_does_not_end_in_the_bundle() {
    let since = NOW.minus(Ttl::days(10));
    let (authority, foreign) = (Authority::new(since), Authority::new(since));
    let csr = request(&spiffe("/a"));
    let good = authority.answer(&csr, Ttl::hours(1), NOW);

    let mut foreign_root = good.clone();
    foreign_root.bundle = Some(foreign.bundle(1));
    let mut no_intermediate = good.clone();
    no_intermediate.chain.truncate(1);
    let mut swapped = good.clone();
    swapped.chain[1] = foreign.intermediate.der().to_vec();
    for bad in [foreign_root, no_intermediate, swapped] {
        let refusal = judge(&csr, &bad).unwrap_err();
        assert!(matches!(refusal, AnswerError::Chain { .. }), "{refusal}");
    }

    // During a rotation one of several roots is enough.
    let mut both = good;
    let mut bundle = foreign.bundle(2);
    bundle.roots.extend(authority.bundle(2).roots);
    both.bundle = Some(bundle);
    assert!(judge(&csr, &both).is_ok());
}

#[test]
fn refuses_what_is_missing_or_belongs_elsewhere() {
    let authority = Authority::new(NOW.minus(Ttl::days(10)));
    let csr = request(&spiffe("/a"));
    let good = authority.answer(&csr, Ttl::hours(1), NOW);

    let mut empty = good.clone();
    empty.chain.clear();
    assert_eq!(judge(&csr, &empty).unwrap_err(), AnswerError::Empty);
    let mut rootless = good.clone();
    rootless.bundle = None;
    assert_eq!(judge(&csr, &rootless).unwrap_err(), AnswerError::NoBundle);
    let mut authority_as_leaf = good.clone();
    authority_as_leaf.chain.remove(0);
    assert_eq!(
        judge(&csr, &authority_as_leaf).unwrap_err(),
        AnswerError::Authority
    );
    let mut elsewhere = good.clone();
    elsewhere.bundle.as_mut().unwrap().trust_domain = "other.test".to_owned();
    let refusal = judge(&csr, &elsewhere).unwrap_err();
    assert!(
        matches!(refusal, AnswerError::TrustDomain { .. }),
        "{refusal}"
    );
    let mut leaf_as_root = good.clone();
    leaf_as_root.bundle.as_mut().unwrap().roots = vec![good.chain[0].clone()];
    let refusal = judge(&csr, &leaf_as_root).unwrap_err();
    assert!(matches!(refusal, AnswerError::Root(_)), "{refusal}");
}
