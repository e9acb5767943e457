//! Every shape that Signet emits, before the verifiers of a mesh's peers and before two linters.
//!
//! The shapes are every leaf profile × every kind of key that it takes × issuers on P-256 and P-384 × with and
//! without URLs, the authorities themselves, and some across the year 2050.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use pki::certificate::{Certificate, Urls};
use pki::crl::{Reason, RevokedCertificate};
use pki::csr::VerifiedCsr;
use pki::extension::SubjectNames;
use pki::key::KeyAlgorithm;
use pki::name::{
    DistinguishedName, DnsName, DnsPattern, ProfileName, SpiffeId, SpiffePattern, TrustDomain,
};
use pki::policy::{AskedTtl, ClusterPolicy, Grant, Identity, Rule, decide};
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};
use rustls::pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;
use tests::hierarchy::{self, Authority};
use tests::judge::{self, Chain, Judge, Use};
use tests::lint::{self, Linter};
use tests::openssl::{Key, LEAF_KINDS};
use tests::parts;

const WORKLOAD_ID: &str = "spiffe://td.example/ns/a/sa/b";
const HOSTS: [&str; 4] = [
    "api.example.com",
    "*.apps.example.com",
    "192.0.2.7",
    "2001:db8::7",
];
/// What a peer asks for, to be found among `HOSTS`.
const REACHED_AS: [&str; 4] = [
    "api.example.com",
    "x.apps.example.com",
    "192.0.2.7",
    "2001:db8::7",
];
const STRANGERS: [&str; 4] = [
    "example.com",
    "y.x.apps.example.com",
    "192.0.2.8",
    "2001:db8::8",
];

/// A certificate with the chain above it, root last.
struct Shape {
    label: String,
    profile: Profile,
    certificates: Vec<Certificate>,
    at: Timestamp,
}

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| shapes().unwrap());

fn shapes() -> anyhow::Result<Vec<Shape>> {
    let folder = TempDir::new()?;
    let keys: Vec<Key> = LEAF_KINDS
        .into_iter()
        .map(|kind| Key::generate(kind, folder.path()))
        .collect::<anyhow::Result<_>>()?;
    let now = hierarchy::now()?;
    let before_2050: Timestamp = "2049-11-01T00:00:00Z".parse()?;
    let (p256, p384) = (KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384);
    let mut shapes = Vec::new();
    for (world, algorithm, urls, made, keys) in [
        ("p256-urls", p256, hierarchy::urls(), now, &keys[..]),
        ("p256-bare", p256, Urls::default(), now, &keys),
        ("p384-urls", p384, hierarchy::urls(), now, &keys),
        ("p384-bare", p384, Urls::default(), now, &keys),
        (
            "p256-2050",
            p256,
            hierarchy::urls(),
            before_2050,
            &keys[..3],
        ),
    ] {
        let root = Authority::root(algorithm, Profile::ROOT.max_ttl(), urls, made)?;
        shapes.extend(below(world, &root, keys)?);
    }
    Ok(shapes)
}

/// Everything that may stand below a root.
fn below(world: &str, root: &Authority, keys: &[Key]) -> anyhow::Result<Vec<Shape>> {
    let fleet = root.child(Profile::FLEET_INTERMEDIATE, "Fleet 1", 1)?;
    let cluster = fleet.child(Profile::CLUSTER_INTERMEDIATE, "Cluster 1", 0)?;
    let direct = root.child(Profile::CLUSTER_INTERMEDIATE, "Cluster 2", 0)?;
    let foreign = fleet.child(Profile::SUBORDINATE_CA, "Foreign 1", 0)?;
    let shape = |label: String, profile: Profile, certificates: Vec<Certificate>| Shape {
        label: format!("{world}.{label}"),
        profile,
        certificates,
        at: root.now(),
    };
    let mut shapes = vec![
        shape(
            "fleet-intermediate".into(),
            Profile::FLEET_INTERMEDIATE,
            fleet.chain().to_vec(),
        ),
        shape(
            "cluster-intermediate".into(),
            Profile::CLUSTER_INTERMEDIATE,
            cluster.chain().to_vec(),
        ),
        shape(
            "subordinate-ca".into(),
            Profile::SUBORDINATE_CA,
            foreign.chain().to_vec(),
        ),
    ];
    for key in keys {
        for profile in Profile::ALL
            .into_iter()
            .filter(|profile| !profile.is_authority())
        {
            let csr = VerifiedCsr::parse(&key.request(&asked(profile))?)?;
            let leaf = cluster.leaf(&grant(profile, &csr)?, csr.key())?;
            let chain = [vec![leaf], cluster.chain().to_vec()].concat();
            shapes.push(shape(
                format!("{}.{}", profile.as_str(), key.kind.label),
                profile,
                chain,
            ));
        }
    }
    for (label, issuer) in [("under-root", &direct), ("under-subordinate", &foreign)] {
        let csr = VerifiedCsr::parse(&keys[0].request("")?)?;
        let leaf = issuer.leaf(&grant(Profile::WORKLOAD, &csr)?, csr.key())?;
        let chain = [vec![leaf], issuer.chain().to_vec()].concat();
        shapes.push(shape(format!("workload.{label}"), Profile::WORKLOAD, chain));
    }
    Ok(shapes)
}

/// The alternative names that a request for `profile` names.
fn asked(profile: Profile) -> String {
    let hosts = HOSTS.map(|host| match host.parse::<std::net::IpAddr>() {
        Ok(_) => format!("IP:{host}"),
        Err(_) => format!("DNS:{host}"),
    });
    match profile {
        Profile::WORKLOAD | Profile::WORKLOAD_EPHEMERAL => format!("URI:{WORKLOAD_ID}"),
        Profile::SERVER => hosts.join(","),
        Profile::CLIENT => hosts[0].clone(),
        _ => String::new(),
    }
}

/// What policy gives a caller, and for the profiles that no caller has, what the CA gives itself.
fn grant(profile: Profile, csr: &VerifiedCsr) -> anyhow::Result<Grant> {
    let by_rule = |profile: &str| -> anyhow::Result<Rule> {
        Ok(Rule {
            name: profile.to_owned(),
            profile: ProfileName::parse(profile)?,
            callers: SpiffePattern::parse("spiffe://td.example/**")?,
            dns: vec![DnsPattern::parse("**.example.com")?],
            ip: vec![HOSTS[2].parse()?, HOSTS[3].parse()?],
            max_ttl: None,
        })
    };
    let policy = ClusterPolicy {
        trust_domain: TrustDomain::parse("td.example")?,
        default_ttl: Ttl::hours(24),
        max_ttl: Ttl::days(7),
        strict: false,
        rules: vec![by_rule("server")?, by_rule("client")?],
    };
    let caller = Identity::Exactly(SpiffeId::parse(WORKLOAD_ID)?);
    let own = |names: SubjectNames, subject: Option<DistinguishedName>| Grant {
        profile,
        names,
        subject,
        ttl: profile.default_ttl(),
        rule: "the CA's own".to_owned(),
    };
    Ok(match profile {
        Profile::SERVING => {
            let names = SubjectNames {
                dns: vec![DnsName::parse(HOSTS[0])?],
                ip: vec![HOSTS[2].parse()?],
                ..SubjectNames::default()
            };
            own(names, None)
        }
        Profile::ADMIN | Profile::OCSP_RESPONDER => {
            let subject = DistinguishedName::new(Some("Signet"), profile.as_str())?;
            own(SubjectNames::default(), Some(subject))
        }
        _ => decide(&policy, &caller, profile, csr, AskedTtl::Default)?,
    })
}

/// What a certificate of the profile must be good for, and what not.
fn uses(profile: Profile) -> (&'static [Use], &'static [Use]) {
    match profile {
        Profile::WORKLOAD | Profile::WORKLOAD_EPHEMERAL => {
            (&[Use::Any, Use::Server, Use::Client], &[Use::OcspSigning])
        }
        Profile::SERVER | Profile::SERVING => (&[Use::Any, Use::Server], &[Use::Client]),
        Profile::CLIENT | Profile::ADMIN => (&[Use::Any, Use::Client], &[Use::Server]),
        Profile::OCSP_RESPONDER => (&[Use::Any, Use::OcspSigning], &[Use::Server, Use::Client]),
        _ => (&[Use::Any], &[]),
    }
}

/// The names that peers find in a certificate of the profile.
fn reached_as(profile: Profile) -> Vec<&'static str> {
    match profile {
        Profile::SERVER => REACHED_AS.to_vec(),
        Profile::SERVING => vec![REACHED_AS[0], REACHED_AS[2]],
        Profile::CLIENT => vec![REACHED_AS[0]],
        _ => vec![],
    }
}

/// Counts what a judge said, and collects what it should not have said.
struct Session<'a> {
    judge: &'a Judge,
    folder: &'a Path,
    verdicts: usize,
    wrong: Vec<String>,
}

impl Session<'_> {
    fn ask(&mut self, chain: &Chain, usage: Use, name: Option<&str>, expected: bool) {
        if !self.judge.knows(usage, name) {
            return;
        }
        self.verdicts += 1;
        let verdict = self.judge.verify(chain, usage, name).unwrap();
        if verdict.is_ok() != expected {
            let question = format!("{} for {usage:?} as {name:?}", chain.label);
            self.wrong.push(match verdict {
                Ok(()) => format!("{question}: accepted"),
                Err(reason) => format!("{question}: {reason}"),
            });
        }
    }

    fn shape(&mut self, shape: &Shape) {
        let chain = Chain::write(self.folder, &shape.label, &shape.certificates, shape.at).unwrap();
        let (good, bad) = uses(shape.profile);
        let names = reached_as(shape.profile);
        for usage in good {
            self.ask(&chain, *usage, None, true);
            if *usage == Use::Server && !names.is_empty() {
                names
                    .iter()
                    .for_each(|name| self.ask(&chain, *usage, Some(name), true));
                STRANGERS
                    .iter()
                    .for_each(|name| self.ask(&chain, *usage, Some(name), false));
            }
        }
        for usage in bad {
            self.ask(&chain, *usage, None, false);
            if let Some(name) = names.first() {
                self.ask(&chain, *usage, Some(name), false);
            }
        }
    }

    /// The harness must be able to fail: each of these is wrong in one way.
    fn broken(&mut self, shape: &Shape) {
        let usage = if matches!(self.judge, Judge::Webpki) {
            Use::Client
        } else {
            Use::Any
        };
        let certificates = &shape.certificates;
        let chain = |label: &str, certificates: &[Certificate]| {
            let label = format!("{}.{label}", shape.label);
            Chain::write(self.folder, &label, certificates, shape.at).unwrap()
        };
        let sound = chain("sound", certificates);
        let mut wrong = vec![
            sound.at(certificates[0].not_after().plus(Ttl::minutes(1))),
            sound.at(certificates[0].not_before().minus(Ttl::minutes(1))),
            sound.at(certificates[1].not_after().plus(Ttl::minutes(1))),
        ];
        for at in 0..certificates.len() - 1 {
            let mut forged = certificates.clone();
            forged[at] = with_broken_signature(&certificates[at]);
            wrong.push(chain(&format!("forged-{at}"), &forged));
        }
        let mut gap = certificates.clone();
        gap.remove(1);
        wrong.push(chain("gap", &gap));
        let mut other_root = certificates.clone();
        *other_root.last_mut().unwrap() = root_of_the_same_name(shape);
        wrong.push(chain("other-root", &other_root));

        self.ask(&sound, usage, None, true);
        wrong
            .iter()
            .for_each(|chain| self.ask(chain, usage, None, false));
    }
}

fn with_broken_signature(certificate: &Certificate) -> Certificate {
    let mut der = certificate.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    Certificate::parse(&der).unwrap()
}

fn root_of_the_same_name(shape: &Shape) -> Certificate {
    let root = Authority::root(
        KeyAlgorithm::EcdsaP256,
        Ttl::days(3650),
        Urls::default(),
        shape.at,
    );
    let root = root.unwrap().chain()[0].clone();
    assert_eq!(root.subject(), shape.certificates.last().unwrap().subject());
    root
}

fn find(label: &str) -> &'static Shape {
    SHAPES.iter().find(|shape| shape.label == label).unwrap()
}

/// Every shape and every broken one, before `judge`.
fn every_shape_before(judge: &Judge) {
    let folder = TempDir::new().unwrap();
    let mut session = Session {
        judge,
        folder: folder.path(),
        verdicts: 0,
        wrong: vec![],
    };
    SHAPES.iter().for_each(|shape| session.shape(shape));
    ["p256-urls.workload.p256", "p384-bare.workload.rsa2048"]
        .iter()
        .for_each(|label| session.broken(find(label)));
    println!(
        "{judge:?}: {} chains, {} verdicts",
        SHAPES.len(),
        session.verdicts
    );
    assert!(session.verdicts >= 130, "{}", session.verdicts);
    assert!(
        session.wrong.is_empty(),
        "{judge:?}:\n{}",
        session.wrong.join("\n")
    );
}

#[test]
fn openssl_takes_every_shape_for_its_purpose_alone() {
    every_shape_before(&Judge::OpenSsl);
}

#[test]
fn rustls_webpki_takes_every_shape_for_its_purpose_alone() {
    every_shape_before(&Judge::Webpki);
}

#[test]
fn go_takes_every_shape_for_its_purpose_alone() {
    const NAME: &str = "go_takes_every_shape_for_its_purpose_alone";
    if let Some(program) = parts::part_or_skip(NAME, "SIGNET_GOVERIFY") {
        every_shape_before(&Judge::Go(program));
    }
}

#[test]
fn java_takes_every_shape() {
    if let Some(classes) = parts::part_or_skip("java_takes_every_shape", "SIGNET_JAVA_VERIFY") {
        every_shape_before(&Judge::Java(classes));
    }
}

#[test]
fn rustls_webpki_finds_the_spiffe_id() {
    for shape in SHAPES
        .iter()
        .filter(|shape| [Profile::WORKLOAD, Profile::WORKLOAD_EPHEMERAL].contains(&shape.profile))
    {
        let der = CertificateDer::from(shape.certificates[0].der());
        let leaf = webpki::EndEntityCert::try_from(&der).unwrap();
        assert_eq!(
            leaf.valid_uri_names().collect::<Vec<_>>(),
            [WORKLOAD_ID],
            "{}",
            shape.label
        );
    }
}

/// A list without entries and one with every reason, from authorities of either curve.
fn lists() -> Vec<(String, Authority, pki::crl::Crl)> {
    let now = hierarchy::now().unwrap();
    let mut lists = Vec::new();
    for (label, algorithm) in [
        ("p256", KeyAlgorithm::EcdsaP256),
        ("p384", KeyAlgorithm::EcdsaP384),
    ] {
        let root = Authority::root(algorithm, Ttl::days(3650), hierarchy::urls(), now).unwrap();
        let cluster = root
            .child(Profile::CLUSTER_INTERMEDIATE, "Cluster 1", 0)
            .unwrap();
        let reasons = [
            Reason::Unspecified,
            Reason::KeyCompromise,
            Reason::CaCompromise,
            Reason::AffiliationChanged,
            Reason::Superseded,
            Reason::CessationOfOperation,
            Reason::CertificateHold,
            Reason::PrivilegeWithdrawn,
        ];
        let revoked = reasons.map(|reason| RevokedCertificate {
            serial: pki::serial::Serial::issue(now, hierarchy::entropy().unwrap()),
            revoked_at: now.minus(Ttl::hours(1)),
            reason,
        });
        for (entries, number, revoked) in [("empty", 1, &[][..]), ("full", u64::MAX, &revoked)] {
            let list = cluster.crl(number, revoked).unwrap();
            lists.push((format!("{label}-{entries}"), cluster.clone(), list));
        }
    }
    lists
}

#[test]
fn openssl_takes_our_crls_from_their_issuer_alone() {
    let folder = TempDir::new().unwrap();
    for (label, authority, list) in lists() {
        let [own, root] = authority.chain() else {
            panic!()
        };
        let verify = |issuer| judge::openssl_crl(folder.path(), &list, issuer).unwrap();
        assert_eq!(verify(own), Ok(()), "{label}");
        assert!(verify(root).is_err(), "{label}");
    }
}

#[test]
fn go_takes_our_crls_from_their_issuer_alone() {
    const NAME: &str = "go_takes_our_crls_from_their_issuer_alone";
    let Some(program) = parts::part_or_skip(NAME, "SIGNET_GOVERIFY") else {
        return;
    };
    let folder = TempDir::new().unwrap();
    for (label, authority, list) in lists() {
        let [own, root] = authority.chain() else {
            panic!()
        };
        let verify = |issuer| judge::go_crl(&program, folder.path(), &list, issuer).unwrap();
        assert_eq!(verify(own), Ok(()), "{label}");
        assert!(verify(root).is_err(), "{label}");
    }
}

/// A workload of an authority with URLs, and lists of that authority with and without it.
#[test]
fn rustls_webpki_refuses_who_is_on_our_crl_and_nobody_else() {
    let now = hierarchy::now().unwrap();
    let root = Authority::root(
        KeyAlgorithm::EcdsaP256,
        Ttl::days(3650),
        hierarchy::urls(),
        now,
    );
    let cluster = root
        .unwrap()
        .child(Profile::CLUSTER_INTERMEDIATE, "Cluster 1", 0)
        .unwrap();
    let workload = find("p256-urls.workload.p256");
    let key = workload.certificates[0].public_key().unwrap();
    let grant = Grant {
        profile: Profile::WORKLOAD,
        names: SubjectNames::of_spiffe(SpiffeId::parse(WORKLOAD_ID).unwrap()),
        subject: None,
        ttl: Ttl::hours(24),
        rule: "test".to_owned(),
    };
    let [leaf, other] = [(); 2].map(|()| cluster.leaf(&grant, &key).unwrap());
    let revoked = |leaf: &Certificate| RevokedCertificate {
        serial: leaf.serial(),
        revoked_at: now,
        reason: Reason::KeyCompromise,
    };
    let verify = |list: &pki::crl::Crl| {
        let list = webpki::OwnedCertRevocationList::from_der(list.der())
            .unwrap()
            .into();
        let lists = [&list];
        let options = webpki::RevocationOptionsBuilder::new(&lists)
            .unwrap()
            .with_depth(webpki::RevocationCheckDepth::EndEntity)
            .with_status_policy(webpki::UnknownStatusPolicy::Deny)
            .build();
        let [own, root] = cluster.chain() else {
            panic!()
        };
        let [leaf, own, root] = [&leaf, own, root].map(|c| CertificateDer::from(c.der()));
        let seconds = u64::try_from(now.unix()).unwrap();
        webpki::EndEntityCert::try_from(&leaf)
            .unwrap()
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[webpki::anchor_from_trusted_cert(&root).unwrap()],
                &[own],
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                webpki::KeyUsage::client_auth(),
                Some(options),
                None,
            )
            .map(drop)
    };
    assert_eq!(verify(&cluster.crl(1, &[]).unwrap()), Ok(()));
    assert_eq!(verify(&cluster.crl(2, &[revoked(&other)]).unwrap()), Ok(()));
    let both = [revoked(&other), revoked(&leaf)];
    assert_eq!(
        verify(&cluster.crl(3, &both).unwrap()),
        Err(webpki::Error::CertRevoked)
    );
    // The list of a stranger says nothing about it.
    let [(_, _, stranger), ..] = &lists()[..] else {
        panic!()
    };
    assert!(verify(stranger).is_err());
}

/// Every certificate once.
fn lint_all(linter: &Linter) {
    let folder = TempDir::new().unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut write = |name: String, pem: String| {
        files.push(folder.path().join(name));
        std::fs::write(files.last().unwrap(), pem).unwrap();
    };
    for shape in SHAPES.iter() {
        write(
            format!("{}.pem", shape.label),
            shape.certificates[0].to_pem(),
        );
        if shape.profile == Profile::FLEET_INTERMEDIATE {
            let root = shape.certificates.last().unwrap();
            write(
                shape.label.replace("fleet-intermediate", "root") + ".pem",
                root.to_pem(),
            );
        }
    }
    // keyCertSign without being a CA's: a linter that finds nothing in it looks at nothing.
    let wrong = folder.path().join("wrong.pem");
    parts::stdout(
        Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x",
            ])
            .args(["-addext", "basicConstraints=CA:FALSE"])
            .args(["-addext", "keyUsage=keyCertSign"])
            .args(["-keyout", "/dev/null", "-out"])
            .arg(&wrong),
    )
    .unwrap();
    files.push(wrong);
    let (wrong, findings): (Vec<_>, Vec<_>) = linter
        .lint(&files)
        .unwrap()
        .into_iter()
        .partition(|finding| finding.file == "wrong.pem");
    assert!(!wrong.is_empty());
    println!(
        "{}: {} files, {} findings",
        linter.name(),
        files.len(),
        findings.len()
    );
    let complaints = {
        let mut exceptions = lint::exceptions().unwrap();
        exceptions.retain(|exception| !exception.is_of_status());
        lint::complaints(linter.name(), &findings, &exceptions)
    };
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn zlint_finds_nothing_but_what_is_listed() {
    const NAME: &str = "zlint_finds_nothing_but_what_is_listed";
    if let Some(program) = parts::part_or_skip(NAME, "SIGNET_ZLINT") {
        lint_all(&Linter::Zlint(program));
    }
}

#[test]
fn pkilint_finds_nothing_but_what_is_listed() {
    const NAME: &str = "pkilint_finds_nothing_but_what_is_listed";
    if let Some(bin) = parts::part_or_skip(NAME, "SIGNET_PKILINT_BIN") {
        lint_all(&Linter::Pkilint(bin));
    }
}
