use super::*;
use crate::serial::Serial;
use proptest::prelude::*;

const NAME: &[u8] = &[0x30, 0x00];
const KEY: &[u8] = &[4, 1, 2, 3];

fn serial() -> Serial {
    "01a2b3".parse().unwrap()
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical {
        &[asn1::BOOLEAN, 1, 0xff]
    } else {
        &[]
    };
    asn1::sequence(&[
        &asn1::tlv(asn1::OID, &[oid]),
        critical,
        &asn1::tlv(asn1::OCTET_STRING, &[value]),
    ])
}

fn nonce(octets: usize) -> Vec<u8> {
    extension(
        NONCE,
        false,
        &asn1::tlv(asn1::OCTET_STRING, &[&vec![7; octets]]),
    )
}

fn request(ids: &[CertId], extensions: &[Vec<u8>]) -> Vec<u8> {
    let list: Vec<u8> = ids
        .iter()
        .flat_map(|id| asn1::sequence(&[id.der()]))
        .collect();
    let extensions = if extensions.is_empty() {
        Vec::new()
    } else {
        asn1::tlv(
            asn1::explicit(2),
            &[&asn1::sequence(&[&extensions.concat()])],
        )
    };
    asn1::sequence(&[&asn1::sequence(&[&asn1::sequence(&[&list]), &extensions])])
}

fn id(hash: HashAlgorithm) -> CertId {
    CertId::new(hash, NAME, KEY, &serial())
}

#[test]
fn a_request_is_read_with_every_hash_and_names_its_issuer() {
    let ours = IssuerHashes::of_parts(NAME, KEY);
    let theirs = IssuerHashes::of_parts(NAME, b"another key");
    for hash in HashAlgorithm::ALL {
        let read = OcspRequest::parse(&request(&[id(hash)], &[])).unwrap();
        let [certificate] = read.certificates() else {
            panic!("{read:?}");
        };
        assert_eq!(certificate.serial(), Some(&serial()));
        assert!(
            ours.matches(certificate) && !theirs.matches(certificate),
            "{hash:?}"
        );
        assert_eq!(read.nonce(), None);
    }
}

#[test]
fn a_nonce_has_1_to_128_octets() {
    let read = |octets| OcspRequest::parse(&request(&[id(HashAlgorithm::Sha1)], &[nonce(octets)]));
    for octets in [1, 32, 128] {
        assert_eq!(read(octets).unwrap().nonce().map(<[u8]>::len), Some(octets));
    }
    for octets in [0, 129, 1000] {
        assert_eq!(read(octets), Err(OcspRequestError::Nonce(octets)));
    }
}

#[test]
fn what_does_not_conform_is_malformed() {
    let sha1 = id(HashAlgorithm::Sha1);
    let parse = |der: &[u8]| OcspRequest::parse(der);
    let many = vec![sha1.clone(); MAX_CERTIFICATES + 1];
    assert_eq!(
        parse(&request(&many, &[])),
        Err(OcspRequestError::Certificates)
    );
    assert!(parse(&request(&many[1..], &[])).is_ok());
    assert_eq!(
        parse(&request(&[], &[])),
        Err(OcspRequestError::Certificates)
    );
    let twice = [nonce(32), nonce(32)];
    assert_eq!(
        parse(&request(std::slice::from_ref(&sha1), &twice)),
        Err(OcspRequestError::Extension)
    );
    let strange = |critical| [extension(&[0x2a, 3], critical, &[])];
    assert_eq!(
        parse(&request(std::slice::from_ref(&sha1), &strange(true))),
        Err(OcspRequestError::Extension)
    );
    assert!(parse(&request(std::slice::from_ref(&sha1), &strange(false))).is_ok());
    let long = vec![0x30; MAX_REQUEST_BYTES + 1];
    assert_eq!(parse(&long), Err(OcspRequestError::TooLong(long.len())));

    let good = request(&[sha1], &[nonce(32)]);
    for cut in 0..good.len() {
        assert!(parse(&good[..cut]).is_err(), "cut at {cut}");
    }
    let trailing = [&good[..], &[0]].concat();
    assert!(parse(&trailing).is_err());
}

#[test]
fn a_serial_number_that_no_certificate_has_is_asked_for_and_unknown() {
    for content in [&[0][..], &[0x80], &[1; 21]] {
        let der = asn1::sequence(&[
            &asn1::sequence(&[&asn1::tlv(asn1::OID, &[HashAlgorithm::Sha1.oid()])]),
            &asn1::tlv(asn1::OCTET_STRING, &[&[0; 20]]),
            &asn1::tlv(asn1::OCTET_STRING, &[&[0; 20]]),
            &asn1::tlv(asn1::INTEGER, &[content]),
        ]);
        let request =
            asn1::sequence(&[&asn1::sequence(&[&asn1::sequence(&[&asn1::sequence(&[
                &der,
            ])])])]);
        let read = OcspRequest::parse(&request).unwrap();
        assert_eq!(read.certificates()[0].serial(), None);
        assert_eq!(read.certificates()[0].der(), der);
    }
}

#[test]
fn a_path_is_read_as_clients_write_it() {
    let der = [0x30, 0xfb, 0xff, 0xfe, 0x01];
    for path in [
        "MPv//gE=",
        "MPv%2F%2FgE%3D",
        "MPv//gE",
        "MPv__gE",
        "%4dPv%2f/gE%3d",
    ] {
        assert_eq!(request_of_path(path).unwrap(), der, "{path}");
    }
    for path in ["M", "MPv//gE===", "MP v", "%4", "%zz", "MPv\u{e9}"] {
        assert_eq!(
            request_of_path(path),
            Err(OcspRequestError::Base64),
            "{path}"
        );
    }
    let long = "A".repeat(MAX_REQUEST_BYTES * 4 + 1);
    assert!(matches!(
        request_of_path(&long),
        Err(OcspRequestError::TooLong(_))
    ));
}

proptest! {
    #[test]
    fn strangers_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = OcspRequest::parse(&bytes);
        let _ = request_of_path(&String::from_utf8_lossy(&bytes));
        let _ = BasicResponse::of_response_der(&bytes);
    }
}
