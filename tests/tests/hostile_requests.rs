//! Requests that a stranger makes by hand, each with the error class that it must meet: before anything is signed,
//! within 50 ms of processor time, and without a word of it in a certificate.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use pki::csr::VerifiedCsr;
use pki::name::{DnsPattern, ProfileName, SpiffeId, SpiffePattern, TrustDomain};
use pki::policy::{AskedTtl, ClusterPolicy, Grant, Identity, Rule, decide};
use pki::profile::Profile;
use pki::time::Ttl;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use rustix::time::{ClockId, clock_gettime};
use tests::tlv::{bits, extension, extension_request, integer, length, oid, sequence, set, tlv};

const ME: &str = "spiffe://td/ns/a/sa/b";
const REQUEST: &str = "1.2.840.113549.1.9.14";
const REQUEST_MICROSOFT: &str = "1.3.6.1.4.1.311.2.1.14";
const CHALLENGE_PASSWORD: &str = "1.2.840.113549.1.9.7";
const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const ED25519: &str = "1.3.101.112";
const RSA: &str = "1.2.840.113549.1.1.1";
const RSA_SHA256: &str = "1.2.840.113549.1.1.11";
const SAN: &str = "2.5.29.17";
const EMPTY_NAME: &[u8] = &[0x30, 0];
const NULL: &[u8] = &[5, 0];

/// A request in its parts, honest until one is replaced.
struct Parts {
    pair: EcdsaKeyPair,
    version: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    attributes: Vec<u8>,
    algorithm: Vec<u8>,
}

impl Parts {
    fn new() -> Self {
        let random = SystemRandom::new();
        let signing = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(signing, pkcs8.as_ref(), &random).unwrap();
        Self {
            version: integer(&[]),
            subject: EMPTY_NAME.to_vec(),
            spki: ec_spki(&oid("1.2.840.10045.3.1.7"), pair.public_key().as_ref()),
            attributes: vec![],
            algorithm: sequence(&[&oid(ECDSA_SHA256)]),
            pair,
        }
    }

    fn info(&self) -> Vec<u8> {
        let attributes = tlv(0xa0, &[&self.attributes]);
        sequence(&[&self.version, &self.subject, &self.spki, &attributes])
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    }

    fn signed(&self) -> Vec<u8> {
        self.with_signature(&self.sign(&self.info()))
    }

    fn with_signature(&self, signature: &[u8]) -> Vec<u8> {
        sequence(&[&self.info(), &self.algorithm, &bits(signature)])
    }
}

fn ec_spki(parameters: &[u8], point: &[u8]) -> Vec<u8> {
    spki(&[&oid("1.2.840.10045.2.1"), parameters], point)
}

fn spki(algorithm: &[&[u8]], key: &[u8]) -> Vec<u8> {
    sequence(&[&sequence(algorithm), &bits(key)])
}

fn with(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = Parts::new();
    change(&mut parts);
    parts.signed()
}

fn with_key(spki: Vec<u8>) -> Vec<u8> {
    with(|parts| parts.spki = spki)
}

fn with_rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    with(|parts| {
        parts.spki = spki(&[&oid(RSA), NULL], &sequence(&[modulus, exponent]));
        parts.algorithm = sequence(&[&oid(RSA_SHA256), NULL]);
    })
}

fn with_algorithm(algorithm: &[&[u8]]) -> Vec<u8> {
    with(|parts| parts.algorithm = sequence(algorithm))
}

fn with_attributes(attributes: &[&[u8]]) -> Vec<u8> {
    with(|parts| parts.attributes = attributes.concat())
}

fn with_extensions(extensions: &[&[u8]]) -> Vec<u8> {
    with_attributes(&[&extension_request(REQUEST, extensions)])
}

fn alt_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<u8> = names
        .iter()
        .flat_map(|(tag, name)| tlv(*tag, &[name]))
        .collect();
    extension(SAN, false, &sequence(&[&names]))
}

fn with_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    with_extensions(&[&alt_names(names)])
}

fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(vec![], |inner, _| sequence(&[&inner]))
}

fn policy() -> ClusterPolicy {
    ClusterPolicy {
        trust_domain: TrustDomain::parse("td").unwrap(),
        default_ttl: Ttl::hours(24),
        max_ttl: Ttl::days(7),
        strict: false,
        rules: vec![Rule {
            name: "hosts".into(),
            profile: ProfileName::parse("server").unwrap(),
            callers: SpiffePattern::parse("spiffe://td/**").unwrap(),
            dns: vec![DnsPattern::parse("**.example.com").unwrap()],
            ip: vec![],
            max_ttl: None,
        }],
    }
}

/// What the door and the policy say, errors as text: `pki::csr`'s in front, `policy` before a refusal.
fn ask(profile: Profile, der: &[u8]) -> Result<Grant, String> {
    let before = clock_gettime(ClockId::ThreadCPUTime);
    let csr = VerifiedCsr::parse(der).map_err(|error| format!("{error:?}"));
    let caller = Identity::Exactly(SpiffeId::parse(ME).unwrap());
    let answer = csr.and_then(|csr| {
        decide(&policy(), &caller, profile, &csr, AskedTtl::Default)
            .map_err(|refusal| format!("policy {refusal:?}"))
    });
    let after = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds =
        (after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec;
    assert!(
        nanoseconds < 50_000_000,
        "{nanoseconds} ns of processor time"
    );
    answer
}

fn refused(cases: &[(&str, Vec<u8>, &str)]) {
    let mut wrong = vec![];
    for (what, der, expected) in cases {
        match ask(Profile::WORKLOAD, der) {
            Err(error) if error.starts_with(expected) => {}
            other => wrong.push(format!("{what}: {expected} expected, {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is asked for beside the identity is not in the grant, from which alone the certificate is made.
fn ignored(cases: &[(&str, Vec<u8>)]) {
    for (what, der) in cases {
        let grant = ask(Profile::WORKLOAD, der).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(grant.names.to_strings(), [format!("URI:{ME}")], "{what}");
        assert_eq!(grant.subject, None, "{what}");
    }
}

#[test]
fn the_honest_request_is_taken() {
    ignored(&[
        ("no name", Parts::new().signed()),
        ("its own name", with_names(&[(0x86, ME.as_bytes())])),
    ]);
}

#[test]
fn an_ed25519_key_that_anyone_signs_for_is_refused() {
    let mut one = [0; 32];
    one[0] = 1;
    // p + 1, which is 1 again.
    let mut one_above_the_field = [0xff; 32];
    (one_above_the_field[0], one_above_the_field[31]) = (0xee, 0x7f);
    let mut minus_zero = one;
    minus_zero[31] = 0x80;
    let order_eight = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
    let order_eight: [u8; 32] = pki::crypto::from_hex(order_eight)
        .unwrap()
        .try_into()
        .unwrap();
    // R is the neutral element and S is 0: the equation holds whatever the message, for a key of order 1.
    let forged = [one, [0; 32]].concat();
    for key in [one, one_above_the_field, minus_zero, [0; 32], order_eight] {
        let mut parts = Parts::new();
        parts.spki = spki(&[&oid(ED25519)], &key);
        parts.algorithm = sequence(&[&oid(ED25519)]);
        refused(&[(
            "forged",
            parts.with_signature(&forged),
            "Key(ForgedEd25519)",
        )]);
    }
    // Not a made-up danger: the signature check below us takes this one.
    let ring = UnparsedPublicKey::new(&ring::signature::ED25519, one);
    assert!(ring.verify(b"any message", &forged).is_ok());
}

#[test]
fn what_makes_an_authority_is_refused_in_either_attribute() {
    let constraints = |value: &[u8]| extension("2.5.29.19", true, value);
    let usage = |bits: u8| extension("2.5.29.15", true, &[3, 2, 0, bits]);
    let purpose = |dotted: &str| extension("2.5.29.37", false, &sequence(&[&oid(dotted)]));
    let key_id = sequence(&[&tlv(0x80, &[&[7; 20]])]);
    let serial_alone = sequence(&[&tlv(0x82, &[&[7]])]);
    let uri = tlv(0x86, &[b"http://evil.example"]);
    let access = sequence(&[&sequence(&[&oid("1.3.6.1.5.5.7.48.1"), &uri])]);
    let point = sequence(&[&sequence(&[&tlv(0xa0, &[&tlv(0xa0, &[&uri])])])]);
    let extensions = [
        (
            "CA:TRUE",
            constraints(&sequence(&[&[1, 1, 0xff]])),
            "policy Authority",
        ),
        (
            "CA:TRUE, path length 9",
            constraints(&sequence(&[&[1, 1, 0xff], &integer(&[9])])),
            "policy Authority",
        ),
        ("keyCertSign", usage(0x04), "policy Authority"),
        ("cRLSign", usage(0x02), "policy Authority"),
        ("every usage", usage(0xff), "policy Authority"),
        (
            "OCSPSigning",
            purpose("1.3.6.1.5.5.7.3.9"),
            "policy Purpose",
        ),
        ("any purpose", purpose("2.5.29.37.0"), "policy Purpose"),
        (
            "code signing",
            purpose("1.3.6.1.5.5.7.3.3"),
            "policy Purpose",
        ),
        (
            "nocheck",
            extension("1.3.6.1.5.5.7.48.1.5", false, NULL),
            "IssuerExtension",
        ),
        (
            "AIA",
            extension("1.3.6.1.5.5.7.1.1", false, &access),
            "IssuerExtension",
        ),
        (
            "CRLDP",
            extension("2.5.29.31", false, &point),
            "IssuerExtension",
        ),
        (
            "AKI",
            extension("2.5.29.35", false, &key_id),
            "IssuerExtension",
        ),
        (
            "AKI by serial",
            extension("2.5.29.35", false, &serial_alone),
            "IssuerExtension",
        ),
        (
            "name constraints",
            extension("2.5.29.30", true, EMPTY_NAME),
            "IssuerExtension",
        ),
        (
            "critical and unknown",
            extension("1.2.3.4", true, NULL),
            "CriticalExtension",
        ),
        (
            "critical policies",
            extension("2.5.29.32", true, NULL),
            "CriticalExtension",
        ),
    ];
    for attribute in [REQUEST, REQUEST_MICROSOFT] {
        let cases = extensions.clone().map(|(what, extension, expected)| {
            (
                what,
                with_attributes(&[&extension_request(attribute, &[&extension])]),
                expected,
            )
        });
        refused(&cases);
        let own = alt_names(&[(0x86, ME.as_bytes())]);
        let cases = extensions.clone().map(|(what, extension, expected)| {
            (
                what,
                with_attributes(&[&extension_request(attribute, &[&own, &extension])]),
                expected,
            )
        });
        refused(&cases);
    }
}

#[test]
fn names_beyond_the_callers_are_refused() {
    let own = (0x86, ME.as_bytes());
    let upn = [
        &oid("1.3.6.1.4.1.311.20.2.3")[..],
        &tlv(0xa0, &[&tlv(12, &[b"admin@td"])]),
    ]
    .concat();
    let admin = "spiffe://td/ns/kube-system/sa/admin".as_bytes();
    let common_name = |name: &[u8]| {
        let attribute = sequence(&[&oid("2.5.4.3"), &tlv(12, &[name])]);
        with(|parts| parts.subject = sequence(&[&set(&[&attribute])]))
    };
    refused(&[
        (
            "another workload",
            with_names(&[(0x86, admin)]),
            "policy Name",
        ),
        (
            "its own and another",
            with_names(&[own, (0x86, admin)]),
            "policy Name",
        ),
        ("its own twice", with_names(&[own, own]), "policy Name"),
        (
            "its own and a host",
            with_names(&[own, (0x82, b"api.example.com")]),
            "policy Name",
        ),
        (
            "an address",
            with_names(&[(0x87, &[10, 0, 0, 1])]),
            "policy Name",
        ),
        (
            "an email address",
            with_names(&[(0x81, b"root@td")]),
            "policy Name",
        ),
        ("a UPN", with_names(&[(0xa0, &upn)]), "policy Name"),
        (
            "a directory name",
            with_names(&[(0xa4, EMPTY_NAME)]),
            "policy Name",
        ),
        (
            "its own with a NUL",
            with_names(&[(0x86, b"spiffe://td/ns/a/sa/b\0/x")]),
            "policy Name",
        ),
        (
            "its own in capitals",
            with_names(&[(0x86, b"SPIFFE://td/ns/a/sa/b")]),
            "policy Name",
        ),
        ("a common name", common_name(b"admin"), "policy Name"),
        (
            "a common name with a NUL",
            common_name(b"spiffe://td/ns/a/sa/b\0"),
            "policy Name",
        ),
        ("no name in the list", with_names(&[]), "NotDer"),
        (
            "an address of five octets",
            with_names(&[(0x87, &[1, 2, 3, 4, 5])]),
            "NotDer",
        ),
        (
            "Latin-1",
            with_names(&[(0x82, b"\xe4.example.com")]),
            "NotDer",
        ),
        (
            "a name that is no choice",
            with_names(&[(0x0c, b"a")]),
            "NotDer",
        ),
    ]);
    for names in [
        &[(0x82, &b"api.evil.example"[..])][..],
        &[own],
        &[(0x82, b"a.example.com"), own],
    ] {
        assert!(ask(Profile::SERVER, &with_names(names)).is_err());
    }
}

#[test]
fn nothing_hides_in_a_second_place() {
    let own = alt_names(&[(0x86, ME.as_bytes())]);
    let ours = extension_request(REQUEST, &[&own]);
    let microsofts = extension_request(REQUEST_MICROSOFT, &[&own]);
    let list = sequence(&[&own]);
    let two_values = sequence(&[&oid(REQUEST), &set(&[&list, &list])]);
    let no_value = sequence(&[&oid(CHALLENGE_PASSWORD), &set(&[])]);
    let not_a_set = sequence(&[&oid(REQUEST), &list]);
    refused(&[
        (
            "an extension twice",
            with_extensions(&[&own, &own]),
            "NotDer",
        ),
        (
            "two requests",
            with_attributes(&[&ours, &ours]),
            "Attribute",
        ),
        (
            "one in either attribute",
            with_attributes(&[&ours, &microsofts]),
            "Attribute",
        ),
        ("two values", with_attributes(&[&two_values]), "NotDer"),
        ("no value", with_attributes(&[&no_value]), "Attribute"),
        (
            "a value without its set",
            with_attributes(&[&not_a_set]),
            "NotDer",
        ),
        (
            "an empty list of extensions",
            with_extensions(&[]),
            "NotDer",
        ),
    ]);
}

#[test]
fn what_is_too_large_is_refused_unread() {
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("h{i}.example.com")).collect();
        let names: Vec<(u8, &[u8])> = names.iter().map(|name| (0x82, name.as_bytes())).collect();
        with_names(&names)
    };
    let password = |bytes: usize| {
        let value = tlv(12, &[&vec![b'a'; bytes]]);
        with_attributes(&[&sequence(&[&oid(CHALLENGE_PASSWORD), &set(&[&value])])])
    };
    let modulus = |bits: usize| integer(&vec![0xff; bits / 8]);
    refused(&[
        ("20,000 names", names(20_000), "TooLarge"),
        ("101 names", names(101), "TooManyNames(101)"),
        ("an attribute of 2 MB", password(2 << 20), "TooLarge"),
        (
            "a subject of 1 MB",
            with(|parts| parts.subject = sequence(&[&vec![0; 1 << 20]])),
            "TooLarge",
        ),
        (
            "RSA of 131,072 bits",
            with_rsa(&modulus(131_072), &integer(&[1, 0, 1])),
            "TooLarge",
        ),
        (
            "RSA of 16,384 bits",
            with_rsa(&modulus(16_384), &integer(&[1, 0, 1])),
            "Key(RsaSize(16384))",
        ),
        (
            "100,000 levels",
            with(|parts| parts.subject = nested(100_000)),
            "TooLarge",
        ),
        (
            "3,000 levels in the subject",
            with(|parts| parts.subject = nested(3_000)),
            "NotDer",
        ),
        (
            "3,000 levels as attributes",
            with(|parts| parts.attributes = nested(3_000)),
            "NotDer",
        ),
    ]);
    ignored(&[("a long password", password(8_000))]);
    let deep = sequence(&[&oid("1.2.3.4"), &set(&[&nested(3_000)])]);
    ignored(&[("3,000 levels where nobody looks", with_attributes(&[&deep]))]);
}

#[test]
fn keys_that_nobody_should_have_are_refused() {
    let modulus = integer(&[0xff; 256]);
    let exponent = |octets: &[u8]| with_rsa(&modulus, &integer(octets));
    let f4 = integer(&[1, 0, 1]);
    let negative = tlv(2, &[&[0xff; 256]]);
    let padded = tlv(2, &[&[0, 0], &[0xff; 256]]);
    let p256 = oid("1.2.840.10045.3.1.7");
    let point = |length: usize| [&[4][..], &vec![7; length - 1]].concat();
    // SpecifiedECDomain: version 1, and whatever field follows.
    let explicit = sequence(&[
        &integer(&[1]),
        &sequence(&[&oid("1.2.840.10045.1.1"), &modulus]),
    ]);
    refused(&[
        ("exponent 0", exponent(&[]), "Key(RsaExponent)"),
        ("exponent 1", exponent(&[1]), "Key(RsaExponent)"),
        ("exponent 3", exponent(&[3]), "Key(RsaExponent)"),
        ("exponent 65,536", exponent(&[1, 0, 0]), "Key(RsaExponent)"),
        ("an even exponent", exponent(&[1, 0, 2]), "Key(RsaExponent)"),
        (
            "an exponent of 33 bits",
            exponent(&[1, 0, 0, 0, 1]),
            "Key(RsaExponent)",
        ),
        (
            "an exponent of 2,048 bits",
            exponent(&[0xff; 256]),
            "Key(RsaExponent)",
        ),
        (
            "RSA of 1,024 bits",
            with_rsa(&integer(&[0xff; 128]), &f4),
            "Key(RsaSize(1024))",
        ),
        (
            "RSA of 2,047 bits",
            with_rsa(&integer(&[&[0x7f][..], &[0xff; 255]].concat()), &f4),
            "Key(RsaSize(2047))",
        ),
        (
            "RSA of no bits",
            with_rsa(&integer(&[]), &f4),
            "Key(RsaSize",
        ),
        (
            "a modulus that 3 divides",
            with_rsa(&modulus, &f4),
            "Key(WeakRsa)",
        ),
        ("a negative modulus", with_rsa(&negative, &f4), "Key(NotDer"),
        ("a padded modulus", with_rsa(&padded, &f4), "Key(NotDer"),
        (
            "a negative exponent",
            with_rsa(&modulus, &tlv(2, &[&[0x81, 0, 1]])),
            "Key(NotDer",
        ),
        (
            "RSA without NULL",
            with_key(spki(&[&oid(RSA)], &sequence(&[&modulus, &f4]))),
            "Key(Unsupported)",
        ),
        (
            "an RSASSA-PSS key",
            with_key(spki(
                &[&oid("1.2.840.113549.1.1.10")],
                &sequence(&[&modulus, &f4]),
            )),
            "Key(Unsupported)",
        ),
        (
            "DSA",
            with_key(spki(&[&oid("1.2.840.10040.4.1")], &modulus)),
            "Key(Unsupported)",
        ),
        (
            "X25519",
            with_key(spki(&[&oid("1.3.101.110")], &[9; 32])),
            "Key(Unsupported)",
        ),
        (
            "P-224",
            with_key(ec_spki(&oid("1.3.132.0.33"), &point(57))),
            "Key(Unsupported)",
        ),
        (
            "P-521",
            with_key(ec_spki(&oid("1.3.132.0.35"), &point(133))),
            "Key(Unsupported)",
        ),
        (
            "secp256k1",
            with_key(ec_spki(&oid("1.3.132.0.10"), &point(65))),
            "Key(Unsupported)",
        ),
        (
            "explicit parameters",
            with_key(ec_spki(&explicit, &point(65))),
            "Key(Unsupported)",
        ),
        (
            "no parameters",
            with_key(ec_spki(&[], &point(65))),
            "Key(Unsupported)",
        ),
        (
            "P-384's point on P-256",
            with_key(ec_spki(&p256, &point(97))),
            "Key(CompressedPoint)",
        ),
        (
            "a compressed point",
            with_key(ec_spki(&p256, &[2; 33])),
            "Key(CompressedPoint)",
        ),
        (
            "the point at infinity",
            with_key(ec_spki(&p256, &[0])),
            "Key(CompressedPoint)",
        ),
        (
            "a hybrid point",
            with_key(ec_spki(&p256, &[6; 65])),
            "Key(CompressedPoint)",
        ),
        (
            "a point off its curve",
            with_key(ec_spki(&p256, &point(65))),
            "Possession",
        ),
        (
            "an empty key",
            with_key(ec_spki(&p256, &[])),
            "Key(CompressedPoint)",
        ),
    ]);
}

#[test]
fn signatures_that_prove_nothing_are_refused() {
    let parts = Parts::new();
    let other = Parts::new();
    let sha256 = sequence(&[&oid("2.16.840.1.101.3.4.2.1")]);
    let pss = sequence(&[&tlv(0xa0, &[&sha256])]);
    let zero = sequence(&[&integer(&[]), &integer(&[])]);
    let good = parts.sign(&parts.info());
    refused(&[
        (
            "another key's",
            parts.with_signature(&other.sign(&parts.info())),
            "Possession",
        ),
        (
            "of another request",
            parts.with_signature(&parts.sign(&other.info())),
            "Possession",
        ),
        ("r and s zero", parts.with_signature(&zero), "Possession"),
        ("none", parts.with_signature(&[]), "Possession"),
        (
            "with a byte more",
            parts.with_signature(&[&good[..], &[0]].concat()),
            "Possession",
        ),
        (
            "RSA-PSS",
            with_algorithm(&[&oid("1.2.840.113549.1.1.10"), &pss]),
            "Algorithm",
        ),
        (
            "ECDSA with SHA-1",
            with_algorithm(&[&oid("1.2.840.10045.4.1")]),
            "Algorithm",
        ),
        (
            "RSA with SHA-1",
            with_algorithm(&[&oid("1.2.840.113549.1.1.5"), NULL]),
            "Algorithm",
        ),
        (
            "RSA with MD5",
            with_algorithm(&[&oid("1.2.840.113549.1.1.4"), NULL]),
            "Algorithm",
        ),
        (
            "ECDSA with NULL",
            with_algorithm(&[&oid(ECDSA_SHA256), NULL]),
            "Algorithm",
        ),
        ("no algorithm", with_algorithm(&[]), "Algorithm"),
        (
            "RSA's, of an EC key",
            with_algorithm(&[&oid(RSA_SHA256), NULL]),
            "Possession",
        ),
        (
            "Ed25519's, of an EC key",
            with_algorithm(&[&oid(ED25519)]),
            "Possession",
        ),
        (
            "with SHA-384 said",
            with_algorithm(&[&oid("1.2.840.10045.4.3.3")]),
            "Possession",
        ),
    ]);
}

#[test]
fn what_is_not_der_is_refused() {
    let parts = Parts::new();
    let good = parts.signed();
    let content = &good[good.len() - parts_length(&good)..];
    let rest = &good[parts.info().len() + good.len() - content.len()..];
    let indefinite = |tag: u8, content: &[u8]| [&[tag, 0x80][..], content, &[0, 0]].concat();
    let overlong = [&[0x30, 0x83, 0][..], &length(content.len())[1..], content].concat();
    let info = parts.info();
    let info_content = &info[info.len() - parts_length(&info)..];
    let with_info = |info: Vec<u8>| {
        let signature = bits(&parts.sign(&info));
        sequence(&[&info, &parts.algorithm, &signature])
    };
    let unused = |bits: u8| {
        let signature = tlv(3, &[&[bits], &parts.sign(&info)]);
        sequence(&[&info, &parts.algorithm, &signature])
    };
    let own = sequence(&[&tlv(0x86, &[ME.as_bytes()])]);
    let critical = |octet: u8| {
        let extension = sequence(&[&oid(SAN), &[1, 1, octet], &tlv(4, &[&own])]);
        with_extensions(&[&extension])
    };
    let declared = |length: &[u8]| [&[0x30][..], length, content].concat();
    assert_eq!(sequence(&[&info, rest]), good);
    refused(&[
        ("nothing", vec![], "NotDer"),
        ("one byte", vec![0x30], "NotDer"),
        ("a byte after it", [&good[..], &[0]].concat(), "NotDer"),
        ("itself twice", [&good[..], &good].concat(), "NotDer"),
        (
            "a byte after the signature",
            sequence(&[content, &[0]]),
            "NotDer",
        ),
        (
            "a value after the signature",
            sequence(&[content, NULL]),
            "NotDer",
        ),
        (
            "a value after the attributes",
            with_info(sequence(&[info_content, NULL])),
            "NotDer",
        ),
        (
            "no attributes",
            with_info(sequence(&[&info_content[..info_content.len() - 2]])),
            "NotDer",
        ),
        ("indefinite length", indefinite(0x30, content), "NotDer"),
        (
            "indefinite length within",
            with_info(indefinite(0x30, info_content)),
            "NotDer",
        ),
        ("an overlong length", overlong, "NotDer"),
        (
            "a length below zero",
            declared(&[0x84, 0xff, 0xff, 0xff, 0xff]),
            "NotDer",
        ),
        (
            "a length of eight octets",
            declared(&[0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            "NotDer",
        ),
        ("a length of 127 octets", declared(&[0xff; 128]), "NotDer"),
        ("a set for the sequence", tlv(0x31, &[content]), "NotDer"),
        ("a primitive sequence", tlv(0x10, &[content]), "NotDer"),
        ("unused bits in the signature", unused(1), "NotDer"),
        ("eight unused bits", unused(8), "NotDer"),
        ("TRUE as 1", critical(1), "NotDer"),
        ("FALSE written out", critical(0), "NotDer"),
        (
            "version 2",
            with(|parts| parts.version = integer(&[1])),
            "Version",
        ),
        (
            "version -1",
            with(|parts| parts.version = tlv(2, &[&[0xff]])),
            "NotDer",
        ),
        (
            "version 0 in two octets",
            with(|parts| parts.version = tlv(2, &[&[0, 0]])),
            "NotDer",
        ),
        (
            "version 256",
            with(|parts| parts.version = integer(&[1, 0])),
            "NotDer",
        ),
    ]);
}

/// How long the content of a value is whose length takes its two or three octets.
fn parts_length(der: &[u8]) -> usize {
    let header = if der[1] & 0x80 == 0 {
        2
    } else {
        2 + usize::from(der[1] & 0x7f)
    };
    der.len() - header
}
