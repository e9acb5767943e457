use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

const NOW: i64 = 1_795_488_780; // 2026-11-24T02:53:00Z

struct Made {
    root: rcgen::Certificate,
    leaf: rcgen::Certificate,
    crl: rcgen::CertificateRevocationList,
    key: KeyPair,
}

fn make() -> Made {
    let at = |seconds: i64| {
        let seconds = std::time::Duration::from_secs(seconds.try_into().unwrap());
        rcgen::date_time_ymd(1970, 1, 1) + seconds
    };
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.distinguished_name = rcgen::DistinguishedName::new();
    root.distinguished_name
        .push(DnType::OrganizationName, "Acme");
    root.distinguished_name
        .push(DnType::CommonName, "root\u{1b}[31m");
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root_certificate = root.self_signed(&root_key).unwrap();
    let issuer = Issuer::from_params(&root, &root_key);

    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    let uri = "spiffe://td/ns/a/sa/b".try_into().unwrap();
    leaf.subject_alt_names.push(rcgen::SanType::URI(uri));
    leaf.not_before = at(NOW - 3_600);
    leaf.not_after = at(NOW + 18 * 3_600);
    leaf.crl_distribution_points = vec![rcgen::CrlDistributionPoint {
        uris: vec!["http://pki.example/a.crl".to_owned()],
    }];
    let leaf = leaf.signed_by(&key, &issuer).unwrap();

    let crl = rcgen::CertificateRevocationListParams {
        this_update: at(NOW - 60),
        next_update: at(NOW + 7_200),
        crl_number: rcgen::SerialNumber::from(7u64),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from(0x1234u64),
            revocation_time: at(NOW - 100),
            reason_code: Some(rcgen::RevocationReason::KeyCompromise),
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let crl = crl.signed_by(&issuer).unwrap();
    Made {
        root: root_certificate,
        leaf,
        crl,
        key,
    }
}

fn one(said: &Description, key: &str) -> String {
    match said.fact(key) {
        Some(Fact::One(value)) => value.clone(),
        other => panic!("{key}: {other:?} in {said}"),
    }
}

fn many(said: &Description, key: &str) -> Vec<String> {
    match said.fact(key) {
        Some(Fact::Many(values)) => values.clone(),
        other => panic!("{key}: {other:?} in {said}"),
    }
}

fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}

#[test]
fn a_chain_says_who_signed_whom() {
    let made = make();
    let text = format!("{}{}", made.leaf.pem(), made.root.pem());
    let said = read(text.as_bytes(), now()).unwrap();
    assert_eq!(said.len(), 2);
    assert_eq!(one(&said[0], "signed_by"), "the next certificate");
    assert_eq!(one(&said[1], "signed_by"), "itself");
    assert_eq!(one(&said[0], "what"), "workload spiffe://td/ns/a/sa/b");
    assert_eq!(many(&said[0], "names"), ["URI:spiffe://td/ns/a/sa/b"]);
    assert_eq!(one(&said[0], "standing"), "valid now, 18 hours left");
    assert_eq!(one(&said[0], "lifetime"), "19 hours");
    assert_eq!(one(&said[0], "subject"), "(empty)");
    assert_eq!(many(&said[0], "crl_at"), ["http://pki.example/a.crl"]);
    assert_eq!(
        one(&said[1], "what"),
        "a root CA, self-signed; at most 1 level(s) of CAs below it"
    );
    assert_eq!(one(&said[1], "key_may"), "sign certificates, sign CRLs");
}

#[test]
fn a_stranger_with_the_issuers_name_is_told_apart() {
    let (made, other) = (make(), make());
    let text = format!("{}{}", made.leaf.pem(), other.root.pem());
    let said = read(text.as_bytes(), now()).unwrap();
    assert!(
        one(&said[0], "signed_by").starts_with("NONE"),
        "{}",
        said[0]
    );
}

#[test]
fn an_expired_certificate_says_so_and_names_carry_no_escapes() {
    let made = make();
    let later = Timestamp::from_unix(NOW + 20 * 3_600);
    let said = read(made.leaf.der(), later).unwrap();
    assert_eq!(one(&said[0], "standing"), "EXPIRED 2 hours ago");
    assert_eq!(one(&said[0], "issuer"), "O=Acme, CN=root\\u{1b}[31m");
    assert!(!said[0].to_string().contains('\u{1b}'));
}

#[test]
fn requests_and_crls_are_told_from_their_der_alone() {
    let made = make();
    let csr = CertificateParams::new(["a.example".to_owned()])
        .unwrap()
        .serialize_request(&made.key)
        .unwrap();
    let said = read(csr.der(), now()).unwrap();
    assert_eq!(said[0].kind(), "request");
    assert_eq!(many(&said[0], "names"), ["DNS:a.example"]);

    for input in [
        made.crl.der().to_vec(),
        made.crl.pem().unwrap().into_bytes(),
    ] {
        let said = read(&input, now()).unwrap();
        assert_eq!(said[0].kind(), "crl");
        assert_eq!(one(&said[0], "number"), "7");
        assert_eq!(one(&said[0], "standing"), "valid now, 2 hours left");
        assert_eq!(
            many(&said[0], "revoked"),
            ["1234 at 2026-11-24T02:51:20Z, key compromise"]
        );
    }
}

#[test]
fn a_private_key_is_never_shown() {
    let made = make();
    let said = read(made.key.serialize_pem().as_bytes(), now()).unwrap();
    assert_eq!(said.len(), 1);
    assert_eq!(one(&said[0], "content"), "not shown");
}

#[test]
fn a_request_with_a_broken_proof_is_an_error() {
    let made = make();
    let csr = CertificateParams::default()
        .serialize_request(&made.key)
        .unwrap();
    let mut der = csr.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    assert!(matches!(
        read(pem::request(&der).as_bytes(), now()),
        Err(DescribeError::Request(_))
    ));
    assert!(matches!(read(&der, now()), Err(DescribeError::Request(_))));
}

#[test]
fn what_is_none_of_them_is_said_to_be_what_it_is() {
    for (input, kind) in [
        (&[0x30, 0x03, 0x02, 0x01, 0x05][..], "DER of another kind"),
        (
            b"-----BEGIN X-----\n-----END X-----\n",
            "PEM of another kind",
        ),
        (b"", "nothing: it is empty"),
    ] {
        assert_eq!(read(input, now()), Err(DescribeError::Nothing(kind)));
    }
}

#[test]
fn a_ca_without_key_usage_is_not_called_a_leaf() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let made = params.self_signed(&key).unwrap();
    let said = read(made.der(), now()).unwrap();
    assert!(
        one(&said[0], "what").starts_with("a CA by its constraints"),
        "{}",
        said[0]
    );
}

#[test]
fn json_is_one_object_with_stable_keys() {
    let made = make();
    let said = read(made.leaf.der(), now()).unwrap();
    let json = serde_json::to_value(&said[0]).unwrap();
    assert_eq!(json["kind"], "certificate");
    assert_eq!(json["names"][0], "URI:spiffe://td/ns/a/sa/b");
}

proptest::proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>) {
        let _ = read(&bytes, now());
    }
}
