//! CRLs and OCSP responses of every shape, in the linters' eyes.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::{Path, PathBuf};

use pki::crl::{Reason, RevokedCertificate, Scope};
use pki::key::KeyAlgorithm;
use pki::ocsp::{CertId, HashAlgorithm, SingleStatus, Status};
use pki::profile::Profile;
use pki::serial::Serial;
use pki::time::Ttl;
use tempfile::TempDir;
use tests::hierarchy::{self, Authority};
use tests::lint::{self, Linter};
use tests::parts;

const SHARD: &str = "http://ca.example/crls/cluster-1/shard-0.crl";
const DELTA: &str = "http://ca.example/crls/cluster-1/delta.crl";

fn revoked(authority: &Authority, reasons: &[Reason]) -> Vec<RevokedCertificate> {
    let of = |reason: &Reason| RevokedCertificate {
        serial: Serial::issue(authority.now(), hierarchy::entropy().unwrap()),
        revoked_at: authority.now().minus(Ttl::hours(1)),
        reason: *reason,
    };
    reasons.iter().map(of).collect()
}

const REASONS: [Reason; 8] = [
    Reason::Unspecified,
    Reason::KeyCompromise,
    Reason::CaCompromise,
    Reason::AffiliationChanged,
    Reason::Superseded,
    Reason::CessationOfOperation,
    Reason::CertificateHold,
    Reason::PrivilegeWithdrawn,
];

/// Writes every shape of list; gives the files.
fn write_lists(folder: &Path, label: &str, authority: &Authority) -> Vec<PathBuf> {
    let all = revoked(authority, &REASONS);
    let changed = revoked(authority, &[Reason::RemoveFromCrl, Reason::Superseded]);
    let freshest = Scope::Complete {
        freshest: Some(DELTA),
    };
    let shapes = [
        ("empty", Scope::COMPLETE, &[][..]),
        ("full", Scope::COMPLETE, &all),
        ("with-delta", freshest, &all),
        ("shard", Scope::Shard { url: SHARD }, &all),
        ("delta", Scope::Delta { base: 6 }, &changed),
    ];
    let write = |(shape, scope, revoked): (&str, Scope<'_>, &[RevokedCertificate])| {
        let list = authority.crl_of(scope, 7, revoked).unwrap();
        let file = folder.join(format!("{label}-{shape}.crl.pem"));
        std::fs::write(&file, list.to_pem()).unwrap();
        file
    };
    shapes.into_iter().map(write).collect()
}

/// Writes every kind of answer; gives the files.
fn write_answers(folder: &Path, label: &str, authority: &Authority) -> Vec<PathBuf> {
    let issuer = authority.issuer();
    let since = authority.now().minus(Ttl::hours(1));
    let of = |reason| Status::Revoked { at: since, reason };
    let statuses = [
        ("good", Status::Good),
        ("unknown", Status::Unknown),
        ("revoked", of(Reason::KeyCompromise)),
        ("held", of(Reason::CertificateHold)),
        ("unspecified", of(Reason::Unspecified)),
    ];
    let serial = Serial::issue(authority.now(), hierarchy::entropy().unwrap());
    let mut files = Vec::new();
    for hash in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
        let id = CertId::new(hash, issuer.name(), issuer.key().raw(), &serial);
        for (what, status) in statuses {
            for nonce in [None, Some(&[7; 32][..])] {
                let single = SingleStatus { id: &id, status };
                let der = authority.ocsp(&[single], nonce).unwrap();
                let with = if nonce.is_some() { "-nonce" } else { "" };
                let file = folder.join(format!("{label}-{hash:?}-{what}{with}.ocsp.der"));
                std::fs::write(&file, der).unwrap();
                files.push(file);
            }
        }
    }
    files
}

fn lint_all(linter: &Linter, answers: bool) {
    let folder = TempDir::new().unwrap();
    let mut files = Vec::new();
    for (label, algorithm) in [
        ("p256", KeyAlgorithm::EcdsaP256),
        ("p384", KeyAlgorithm::EcdsaP384),
    ] {
        let now = hierarchy::now().unwrap();
        let root = Authority::root(algorithm, Ttl::days(3650), hierarchy::urls(), now).unwrap();
        let cluster = root
            .child(Profile::CLUSTER_INTERMEDIATE, "Cluster 1", 0)
            .unwrap();
        files.extend(write_lists(folder.path(), label, &cluster));
        if answers {
            files.extend(write_answers(folder.path(), label, &cluster));
        }
    }
    // Without an authority key identifier: a linter that finds nothing in it looks at nothing.
    let good = std::fs::read(&files[1]).unwrap();
    let mut der = pki::pem::read_crls(&good).unwrap().remove(0);
    let at = der
        .windows(3)
        .position(|oid| oid == [0x55, 0x1d, 0x23])
        .unwrap();
    der[at + 2] = 0x7f;
    files.push(folder.path().join("wrong.crl.pem"));
    std::fs::write(&files[files.len() - 1], pki::pem::crl(&der)).unwrap();
    let (wrong, findings): (Vec<_>, Vec<_>) = linter
        .lint(&files)
        .unwrap()
        .into_iter()
        .partition(|finding| finding.file == "wrong.crl.pem");
    assert!(!wrong.is_empty());
    let mut exceptions = lint::exceptions().unwrap();
    exceptions.retain(lint::Exception::is_of_status);
    let complaints = lint::complaints(linter.name(), &findings, &exceptions);
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn zlint_finds_nothing_but_what_is_listed() {
    const NAME: &str = "zlint_finds_nothing_but_what_is_listed (status)";
    if let Some(program) = parts::part_or_skip(NAME, "SIGNET_ZLINT") {
        lint_all(&Linter::Zlint(program), false);
    }
}

#[test]
fn pkilint_finds_nothing_but_what_is_listed() {
    const NAME: &str = "pkilint_finds_nothing_but_what_is_listed (status)";
    if let Some(bin) = parts::part_or_skip(NAME, "SIGNET_PKILINT_BIN") {
        lint_all(&Linter::Pkilint(bin), true);
    }
}
