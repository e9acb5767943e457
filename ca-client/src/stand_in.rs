//! An authority for tests: a root and an intermediate, made by `pki` and `hsm` as the server makes them.
//!
//! The unit tests and, by path, the integration tests use it. The real server is met in the scenarios of package `tests`.

use hsm::{Signer, SoftwareSigner};
use pki::artefact::{Artefact, Prepared};
use pki::certificate::{
    AuthorityRequest, Certificate, Issuer, LeafRequest, Urls, prepare_authority, prepare_leaf,
    prepare_root,
};
use pki::csr::VerifiedCsr;
use pki::extension::{AltName, SubjectNames};
use pki::key::KeyAlgorithm;
use pki::name::{DistinguishedName, DnsName, SpiffeId};
use pki::policy::Grant;
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};
use proto::ca::v1::{SignCertificateResponse, TrustBundle};
use ring::rand::{SecureRandom, SystemRandom};

pub(crate) const TRUST_DOMAIN: &str = "td.test";

pub(crate) struct Authority {
    pub(crate) root: Certificate,
    pub(crate) intermediate: Certificate,
    signer: SoftwareSigner,
    issuer: Issuer,
}

fn entropy() -> [u8; 16] {
    let mut octets = [0; 16];
    SystemRandom::new().fill(&mut octets).unwrap();
    octets
}

fn seal<T: Artefact>(prepared: Prepared<T>, signer: &SoftwareSigner) -> T {
    let signature = signer.sign(prepared.to_be_signed()).unwrap();
    prepared.seal(&signature).unwrap()
}

impl Authority {
    /// An authority whose chain is valid from `since` on, for years.
    pub(crate) fn new(since: Timestamp) -> Self {
        let (root_signer, _) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let (signer, _) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let (urls, root_name) = (
            Urls::default(),
            DistinguishedName::new(None, "root").unwrap(),
        );
        let request = AuthorityRequest {
            profile: Profile::ROOT,
            subject: &root_name,
            key: root_signer.public_key(),
            path_len: None,
            ttl: Ttl::days(3_650),
            urls: &urls,
            entropy: entropy(),
            now: since,
        };
        let root = seal(prepare_root(&request).unwrap(), &root_signer);
        let root_issuer = Issuer::from_chain(std::slice::from_ref(&root)).unwrap();
        let request = AuthorityRequest {
            profile: Profile::CLUSTER_INTERMEDIATE,
            subject: &DistinguishedName::new(None, "cluster 1").unwrap(),
            key: signer.public_key(),
            path_len: Some(0),
            ttl: Ttl::days(365),
            entropy: entropy(),
            ..request
        };
        let intermediate = seal(
            prepare_authority(&request, &root_issuer).unwrap(),
            &root_signer,
        );
        let issuer = Issuer::from_chain(&[intermediate.clone(), root.clone()]).unwrap();
        Self {
            root,
            intermediate,
            signer,
            issuer,
        }
    }

    /// Signs for the key of a request with the names that it asks for, or with a default identity.
    pub(crate) fn leaf(
        &self,
        csr: &[u8],
        profile: Profile,
        ttl: Ttl,
        now: Timestamp,
    ) -> Certificate {
        let csr = VerifiedCsr::parse(csr).unwrap();
        let mut names = SubjectNames::default();
        for name in csr.alt_names() {
            match name {
                AltName::Uri(uri) => names.spiffe = Some(SpiffeId::parse(uri).unwrap()),
                AltName::Dns(name) => names.dns.push(DnsName::parse(name).unwrap()),
                AltName::Ip(address) => names.ip.push(*address),
                other => panic!("{other}"),
            }
        }
        if names.is_empty() {
            let id = format!("spiffe://{TRUST_DOMAIN}/ns/a/sa/b");
            names = SubjectNames::of_spiffe(SpiffeId::parse(&id).unwrap());
        }
        let request = LeafRequest {
            grant: &Grant {
                profile,
                names,
                subject: None,
                ttl,
                rule: "test".to_owned(),
            },
            key: csr.key(),
            urls: &Urls::default(),
            entropy: entropy(),
            now,
        };
        seal(prepare_leaf(&request, &self.issuer).unwrap(), &self.signer)
    }

    pub(crate) fn bundle(&self, sequence: u64) -> TrustBundle {
        TrustBundle {
            trust_domain: TRUST_DOMAIN.to_owned(),
            sequence,
            roots: vec![self.root.der().to_vec()],
        }
    }

    /// The answer to a workload's request.
    pub(crate) fn answer(&self, csr: &[u8], ttl: Ttl, now: Timestamp) -> SignCertificateResponse {
        let leaf = self.leaf(csr, Profile::WORKLOAD, ttl, now);
        SignCertificateResponse {
            serial: leaf.serial().to_string(),
            not_after: None,
            chain: vec![leaf.der().to_vec(), self.intermediate.der().to_vec()],
            bundle: Some(self.bundle(1)),
        }
    }
}
