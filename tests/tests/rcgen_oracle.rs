//! A second opinion in Rust: what rcgen writes we read with the same fields, what we write x509-cert and rcgen (as much as it
//! reads) read with the same fields, and the same verifiers take chains of both.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use hsm::{Signer, SoftwareSigner};
use pki::certificate::Certificate;
use pki::csr::{VerifiedCsr, prepare_request};
use pki::extension::{AltName, KeyUsage, Purpose, SubjectNames};
use pki::key::KeyAlgorithm;
use pki::name::{DistinguishedName, SpiffeId};
use pki::policy::Grant;
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use tempfile::TempDir;
use tests::fleet::Root;
use tests::hierarchy::{self, Authority};
use tests::judge::{Chain, Judge, Use};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, CrlDistributionPoints, ExtendedKeyUsage,
    KeyUsage as X509KeyUsage, SubjectAltName, SubjectKeyIdentifier,
};

const ID: &str = "spiffe://td.example/ns/a/sa/b";

const KEYS: [(&rcgen::SignatureAlgorithm, KeyAlgorithm); 2] = [
    (&rcgen::PKCS_ECDSA_P256_SHA256, KeyAlgorithm::EcdsaP256),
    (&rcgen::PKCS_ECDSA_P384_SHA384, KeyAlgorithm::EcdsaP384),
];

fn san_names() -> Vec<SanType> {
    vec![
        SanType::URI(Ia5String::try_from(ID).unwrap()),
        SanType::DnsName(Ia5String::try_from("api.example.com").unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
        SanType::IpAddress("2001:db8::7".parse().unwrap()),
        SanType::Rfc822Name(Ia5String::try_from("a@example.com").unwrap()),
    ]
}

fn expected_names() -> Vec<AltName> {
    vec![
        AltName::Uri(ID.into()),
        AltName::Dns("api.example.com".into()),
        AltName::Ip("192.0.2.7".parse().unwrap()),
        AltName::Ip("2001:db8::7".parse().unwrap()),
        AltName::Other(1),
    ]
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.not_before = rcgen::date_time_ymd(2020, 2, 29);
    params.not_after = rcgen::date_time_ymd(2051, 1, 2);
    params
}

fn authority(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

#[test]
fn a_request_of_rcgens_is_read_with_the_same_fields() {
    for (algorithm, expected) in KEYS {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let mut asked = params(ID);
        // rcgen has no word for it in a request.
        asked.use_authority_key_identifier_extension = false;
        asked.subject_alt_names = san_names();
        asked.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::CodeSigning,
        ];
        let request = asked.serialize_request(&pair).unwrap();
        let csr = VerifiedCsr::parse(request.der()).unwrap();
        assert_eq!(csr.key().algorithm(), expected);
        assert_eq!(csr.key().spki(), pair.subject_public_key_info());
        assert_eq!(csr.alt_names(), expected_names());
        assert_eq!(csr.common_names(), [ID]);
        assert_eq!(
            csr.purposes(),
            [Purpose::ClientAuth, Purpose::ServerAuth, Purpose::Unknown]
        );
        assert!(!csr.asks_for_authority());
    }
}

#[test]
fn a_certificate_of_rcgens_is_read_with_the_same_fields() {
    for (algorithm, expected) in KEYS {
        let root_pair = KeyPair::generate_for(algorithm).unwrap();
        let root_params = authority("rcgen root");
        let root_der = root_params.self_signed(&root_pair).unwrap();
        let issuer = rcgen::Issuer::new(root_params, root_pair);
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let mut asked = params("leaf");
        asked.subject_alt_names = san_names();
        asked.serial_number = Some(vec![0x7f, 1, 2, 3].into());
        asked.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        asked.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        let leaf_der = asked.signed_by(&pair, &issuer).unwrap();

        let root = Certificate::parse(root_der.der()).unwrap();
        let leaf = Certificate::parse(leaf_der.der()).unwrap();
        let root_key = root.public_key().unwrap();
        assert_eq!(root_key.algorithm(), expected);
        assert_eq!(root.verify_by(&root_key), Ok(()));
        assert_eq!(leaf.verify_by(&root_key), Ok(()));
        assert!(leaf.verify_by(&leaf.public_key().unwrap()).is_err());
        assert!(root.is_self_issued() && root.is_authority() && !leaf.is_authority());
        assert_eq!(root.extensions().basic_constraints, Some((true, Some(1))));
        assert_eq!(leaf.serial().to_string(), "7f010203");
        assert_eq!(leaf.issuer(), root.subject());
        assert_eq!(leaf.not_before(), "2020-02-29T00:00:00Z".parse().unwrap());
        assert_eq!(leaf.not_after(), "2051-01-02T00:00:00Z".parse().unwrap());
        assert_eq!(leaf.spki(), pair.subject_public_key_info());
        assert_eq!(leaf.alt_names(), expected_names());
        assert_eq!(leaf.spiffe_id().unwrap().as_str(), ID);
        let extensions = leaf.extensions();
        assert!(
            extensions
                .key_usage
                .unwrap()
                .has(KeyUsage::DigitalSignature)
        );
        assert_eq!(
            extensions.purposes.as_deref(),
            Some(&[Purpose::OcspSigning][..])
        );
        assert_eq!(
            extensions.authority_key_id,
            root.extensions().subject_key_id
        );
    }
}

/// Our leaf for a gateway with every extension that we write, and its chain.
fn ours(algorithm: KeyAlgorithm, now: Timestamp) -> (Certificate, Authority) {
    let root = Authority::root(algorithm, Ttl::days(3650), hierarchy::urls(), now).unwrap();
    let cluster = root
        .child(Profile::CLUSTER_INTERMEDIATE, "Cluster 1", 0)
        .unwrap();
    let grant = Grant {
        profile: Profile::WORKLOAD,
        names: SubjectNames::of_spiffe(SpiffeId::parse(ID).unwrap()),
        subject: None,
        ttl: Ttl::hours(24),
        rule: "test".into(),
    };
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let key = pki::key::PublicKey::from_spki(&pair.subject_public_key_info()).unwrap();
    (cluster.leaf(&grant, &key).unwrap(), cluster)
}

#[test]
fn a_certificate_of_ours_is_read_by_x509_cert_with_the_same_fields() {
    for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384] {
        let now = hierarchy::now().unwrap();
        let (leaf, cluster) = ours(algorithm, now);
        let read = x509_cert::Certificate::from_der(leaf.der()).unwrap();
        assert_eq!(read.to_der().unwrap(), leaf.der());
        let tbs = read.tbs_certificate();
        assert_eq!(tbs.serial_number().as_bytes(), leaf.serial().as_bytes());
        assert_eq!(tbs.issuer().to_der().unwrap(), leaf.issuer());
        assert!(tbs.subject().is_empty());
        assert_eq!(tbs.subject_public_key_info().to_der().unwrap(), leaf.spki());
        let seconds = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
        assert_eq!(
            seconds(&tbs.validity().not_before),
            u64::try_from(leaf.not_before().unix()).unwrap()
        );
        assert_eq!(
            seconds(&tbs.validity().not_after),
            u64::try_from(now.plus(Ttl::hours(24)).unix()).unwrap()
        );

        let (critical, usage) = tbs.get_extension::<X509KeyUsage>().unwrap().unwrap();
        assert!(critical && usage.digital_signature());
        assert!(!usage.key_cert_sign() && !usage.key_encipherment());
        let (_, purposes) = tbs.get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
        let purposes: Vec<String> = purposes.0.iter().map(ToString::to_string).collect();
        assert_eq!(purposes, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
        let (critical, names) = tbs.get_extension::<SubjectAltName>().unwrap().unwrap();
        assert!(critical);
        assert!(
            matches!(&names.0[..], [GeneralName::UniformResourceIdentifier(uri)] if uri.as_str() == ID)
        );
        let (_, own) = tbs
            .get_extension::<SubjectKeyIdentifier>()
            .unwrap()
            .unwrap();
        assert_eq!(own.0.as_bytes(), leaf.public_key().unwrap().id().as_bytes());
        let (_, above) = tbs
            .get_extension::<AuthorityKeyIdentifier>()
            .unwrap()
            .unwrap();
        assert_eq!(
            above.key_identifier.unwrap().as_bytes(),
            cluster.issuer().key_id()
        );
        let (_, points) = tbs
            .get_extension::<CrlDistributionPoints>()
            .unwrap()
            .unwrap();
        let [point] = &points.0[..] else { panic!() };
        let Some(DistributionPointName::FullName(at)) = &point.distribution_point else {
            panic!()
        };
        assert!(
            matches!(&at[..], [GeneralName::UniformResourceIdentifier(uri)]
            if Some(uri.as_str()) == hierarchy::urls().crl.as_deref())
        );
        let (_, access) = tbs
            .get_extension::<AuthorityInfoAccessSyntax>()
            .unwrap()
            .unwrap();
        assert_eq!(access.0.len(), 2);
        // RFC 6960 says ocsp, RFC 5280 says caIssuers.
        assert_eq!(access.0[0].access_method.to_string(), "1.3.6.1.5.5.7.48.1");
        assert_eq!(access.0[1].access_method.to_string(), "1.3.6.1.5.5.7.48.2");
    }
}

#[test]
fn a_crl_of_ours_is_read_by_x509_cert_with_the_same_fields() {
    let now = hierarchy::now().unwrap();
    let (leaf, cluster) = ours(KeyAlgorithm::EcdsaP256, now);
    let revoked = pki::crl::RevokedCertificate {
        serial: leaf.serial(),
        revoked_at: now,
        reason: pki::crl::Reason::KeyCompromise,
    };
    let list = cluster.crl(7, &[revoked]).unwrap();
    let read =
        x509_cert::crl::CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list.der());
    let read = read.unwrap().tbs_cert_list;
    assert_eq!(read.issuer.to_der().unwrap(), cluster.issuer().name());
    let entries = read.revoked_certificates.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        entries[0].serial_number.as_bytes(),
        leaf.serial().as_bytes()
    );
    let empty = cluster.crl(8, &[]).unwrap();
    let read =
        x509_cert::crl::CertificateList::<x509_cert::certificate::Rfc5280>::from_der(empty.der());
    // RFC 5280 §5.1.2.6: absent, not empty.
    assert!(read.unwrap().tbs_cert_list.revoked_certificates.is_none());
}

/// Root, intermediate and leaf by rcgen, valid now.
fn theirs(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<Certificate> {
    let root_pair = KeyPair::generate_for(algorithm).unwrap();
    let root_params = authority("rcgen root");
    let root_der = root_params.self_signed(&root_pair).unwrap();
    let root = rcgen::Issuer::new(root_params, root_pair);
    let middle_pair = KeyPair::generate_for(algorithm).unwrap();
    let mut middle_params = authority("rcgen middle");
    middle_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let middle_der = middle_params.signed_by(&middle_pair, &root).unwrap();
    let middle = rcgen::Issuer::new(middle_params, middle_pair);
    let pair = KeyPair::generate_for(algorithm).unwrap();
    let mut asked = params("leaf");
    asked.subject_alt_names = vec![SanType::URI(Ia5String::try_from(ID).unwrap())];
    asked.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    asked.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let leaf_der = asked.signed_by(&pair, &middle).unwrap();
    [leaf_der.der(), middle_der.der(), root_der.der()]
        .map(|der| Certificate::parse(der).unwrap())
        .to_vec()
}

/// rcgen reads our intermediate, signs below it, and every verifier takes what comes of it: it found the name, the key
/// identifier and the usages that stand there.
#[test]
fn an_authority_of_ours_is_read_by_rcgen_which_signs_below_it() {
    let folder = TempDir::new().unwrap();
    let now = hierarchy::now().unwrap();
    let root = Root::default();
    for (algorithm, _) in KEYS {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let mut wanted = CertificateParams::default();
        wanted
            .distinguished_name
            .push(DnType::CommonName, "Cluster 1");
        let request = wanted.serialize_request(&pair).unwrap();
        let signed = root.sign(request.pem().unwrap().as_bytes(), Ttl::days(365));
        let above = Certificate::parse_pem(signed.as_bytes()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_der(&above[0].der().into(), &pair).unwrap();
        assert_eq!(
            issuer.key_usages(),
            [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]
        );
        let mut asked = params("leaf");
        asked.subject_alt_names = vec![SanType::URI(Ia5String::try_from(ID).unwrap())];
        asked.use_authority_key_identifier_extension = true;
        asked.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        asked.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = KeyPair::generate_for(algorithm).unwrap();
        let leaf = asked.signed_by(&leaf, &issuer).unwrap();
        let leaf = Certificate::parse(leaf.der()).unwrap();
        assert_eq!(leaf.issuer(), above[0].subject());
        assert_eq!(
            leaf.extensions().authority_key_id,
            above[0].extensions().subject_key_id
        );
        let chain = [vec![leaf], above].concat();
        let chain = Chain::write(folder.path(), "below ours", &chain, now).unwrap();
        for judge in judges() {
            if judge.knows(Use::Server, None) {
                let verdict = judge.verify(&chain, Use::Server, None).unwrap();
                assert_eq!(verdict, Ok(()), "{judge:?}");
            }
        }
    }
}

#[test]
fn a_request_of_ours_is_read_by_rcgen() {
    let (signer, _) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let name = DistinguishedName::new(Some("td.example"), "central cluster CA 1").unwrap();
    let prepared = prepare_request(&name, signer.public_key());
    let signature = signer.sign(prepared.to_be_signed()).unwrap();
    let request = prepared.seal(&signature).unwrap();
    let read = CertificateSigningRequestParams::from_der(&request.der().into()).unwrap();
    let subject = &read.params.distinguished_name;
    assert_eq!(
        subject.get(&DnType::CommonName),
        Some(&"central cluster CA 1".into())
    );
    assert_eq!(
        subject.get(&DnType::OrganizationName),
        Some(&"td.example".into())
    );
    assert_eq!(
        read.public_key.subject_public_key_info(),
        signer.public_key().spki()
    );
}

/// The verifiers that are installed; those that every machine has stand first.
fn judges() -> Vec<Judge> {
    let part = |name| tests::parts::part_or_skip("the_same_verifiers_take_both_chains", name);
    let go = part("SIGNET_GOVERIFY").map(Judge::Go);
    let java = part("SIGNET_JAVA_VERIFY").map(Judge::Java);
    [Some(Judge::OpenSsl), Some(Judge::Webpki), go, java]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn the_same_verifiers_take_both_chains() {
    let folder = TempDir::new().unwrap();
    let now = hierarchy::now().unwrap();
    for (theirs_with, ours_with) in KEYS {
        let (leaf, cluster) = ours(ours_with, now);
        let our_chain = [vec![leaf], cluster.chain().to_vec()].concat();
        for (label, certificates) in [("ours", our_chain), ("theirs", theirs(theirs_with))] {
            let chain = Chain::write(folder.path(), label, &certificates, now).unwrap();
            for judge in judges() {
                for usage in [Use::Any, Use::Server, Use::Client] {
                    if judge.knows(usage, None) {
                        let verdict = judge.verify(&chain, usage, None).unwrap();
                        assert_eq!(verdict, Ok(()), "{label} {judge:?} {usage:?}");
                    }
                }
            }
        }
    }
}

/// rcgen's distinguished names are maps, ours are two attributes in order: the bytes agree where both can write it.
#[test]
fn a_distinguished_name_is_written_as_rcgen_writes_it() {
    let mut name = rcgen::DistinguishedName::new();
    name.push(DnType::OrganizationName, "Signet");
    name.push(DnType::CommonName, "Größe 1");
    let mut params = authority("x");
    params.distinguished_name = name;
    let pair = KeyPair::generate().unwrap();
    let theirs = Certificate::parse(params.self_signed(&pair).unwrap().der()).unwrap();
    let ours = DistinguishedName::new(Some("Signet"), "Größe 1").unwrap();
    assert_eq!(ours.to_der(), theirs.subject());
}
