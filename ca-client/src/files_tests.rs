use super::*;
use crate::answer;
use crate::identity::{KeyKind, NewKey};
use crate::stand_in::Authority;
use pki::csr::VerifiedCsr;
use pki::extension::SubjectNames;
use pki::serial::Serial;
use pki::time::Ttl;
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_unix(1_795_488_780);
const STEPS: [Step; 10] = [
    Step::Cleared,
    Step::Made,
    Step::KeyWritten,
    Step::ChainWritten,
    Step::BundleWritten,
    Step::VersionSynced,
    Step::Linked,
    Step::Staged,
    Step::Swapped,
    Step::OldRemoved,
];

fn issue(authority: &Authority) -> (NewKey, SignedCertificate) {
    let new = NewKey::generate(KeyKind::P256, &SubjectNames::default()).unwrap();
    let answer = authority.answer(new.csr(), Ttl::hours(1), NOW);
    let csr = VerifiedCsr::parse(new.csr()).unwrap();
    (new, answer::check(&answer, &csr, NOW).unwrap())
}

fn directory() -> (TempDir, IdentityDir) {
    let parent = tempfile::tempdir().unwrap();
    let directory = IdentityDir::new(parent.path().join("id"), FileNames::default());
    (parent, directory)
}

fn serial(directory: &IdentityDir) -> Option<Serial> {
    match directory.load() {
        Ok(stored) => Some(stored.leaf().serial()),
        Err(FilesError::NotEnrolled { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn sets(directory: &IdentityDir) -> usize {
    let entries = fs::read_dir(directory.path()).unwrap();
    entries
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            is_version_name(&name.to_string_lossy())
        })
        .count()
}

/// Stops the writer after `last`, with everything as a kill would leave it: nothing in `write_set` cleans up after an
/// error.
fn write_until(directory: &IdentityDir, new: &NewKey, signed: &SignedCertificate, last: Step) {
    let (chain, bundle) = (signed.chain_pem(), signed.bundle().to_pem());
    let set: Set<'_> = [
        (
            &directory.names.key,
            new.key_pem(),
            KEY_MODE,
            Step::KeyWritten,
        ),
        (
            &directory.names.chain,
            &chain,
            CERTIFICATE_MODE,
            Step::ChainWritten,
        ),
        (
            &directory.names.bundle,
            &bundle,
            CERTIFICATE_MODE,
            Step::BundleWritten,
        ),
    ];
    directory.prepare().unwrap();
    let mut reached = false;
    let result = directory.write_set(&version_name(NOW).unwrap(), set, &mut |step| {
        reached = step == last;
        if reached {
            return Err(io::Error::other("killed"));
        }
        Ok(())
    });
    assert!(result.is_err() && reached, "{last:?} was not reached");
}

#[test]
fn a_kill_at_any_step_leaves_the_old_set_or_the_new_one() {
    let authority = Authority::new(NOW.minus(Ttl::days(1)));
    for enrolled in [false, true] {
        for last in STEPS {
            let (_parent, directory) = directory();
            let before = enrolled.then(|| {
                let (key, signed) = issue(&authority);
                directory.write(key.key_pem(), &signed, NOW).unwrap();
                signed.serial()
            });
            let (key, signed) = issue(&authority);
            write_until(&directory, &key, &signed, last);

            let committed = matches!(last, Step::Swapped | Step::OldRemoved);
            let expected = if committed {
                Some(signed.serial())
            } else {
                before
            };
            // `load` also says that key and chain belong together.
            assert_eq!(
                serial(&directory),
                expected,
                "{last:?}, enrolled: {enrolled}"
            );

            // The next writer finds its way from there, and nothing is left of the killed one.
            let (key, signed) = issue(&authority);
            directory.write(key.key_pem(), &signed, NOW).unwrap();
            assert_eq!(serial(&directory), Some(signed.serial()), "{last:?}");
            assert_eq!(sets(&directory), 1, "{last:?}");
            assert!(fs::symlink_metadata(directory.path().join(STAGED)).is_err());
        }
    }
}

#[test]
fn the_files_are_found_by_name_and_the_key_is_its_owners_alone() {
    let authority = Authority::new(NOW.minus(Ttl::days(1)));
    let (_parent, directory) = directory();
    let (key, signed) = issue(&authority);
    directory.write(key.key_pem(), &signed, NOW).unwrap();
    let path = |name: &str| directory.path().join(name);
    assert_eq!(
        &fs::read_to_string(path("tls.key")).unwrap(),
        &**key.key_pem()
    );
    assert_eq!(
        fs::read_to_string(path("tls.crt")).unwrap(),
        signed.chain_pem()
    );
    assert_eq!(
        fs::read_to_string(path("ca.crt")).unwrap(),
        signed.bundle().to_pem()
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory.path()), 0o700);
    assert_eq!(mode(&path(CURRENT)), 0o700);
    assert_eq!(mode(&path("tls.key")), 0o600);
}

#[test]
fn a_key_of_another_certificate_is_not_written() {
    let authority = Authority::new(NOW.minus(Ttl::days(1)));
    let (_parent, directory) = directory();
    let (_, signed) = issue(&authority);
    let (other, _) = issue(&authority);
    let refusal = directory.write(other.key_pem(), &signed, NOW).unwrap_err();
    assert!(matches!(refusal, FilesError::OtherKey { .. }));
    assert_eq!(serial(&directory), None);
}

#[test]
fn what_others_made_or_may_write_to_is_left_alone() {
    let authority = Authority::new(NOW.minus(Ttl::days(1)));
    let (_parent, directory) = directory();
    let (key, signed) = issue(&authority);
    directory.prepare().unwrap();
    fs::write(directory.path().join("tls.key"), "somebody's").unwrap();
    assert!(directory.write(key.key_pem(), &signed, NOW).is_err());
    let kept = fs::read_to_string(directory.path().join("tls.key")).unwrap();
    assert_eq!(kept, "somebody's");

    fs::remove_file(directory.path().join("tls.key")).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refusal = directory.write(key.key_pem(), &signed, NOW).unwrap_err();
    assert!(matches!(refusal, FilesError::Open { mode: 0o777, .. }));
}

#[test]
fn names_stay_inside_the_directory() {
    assert!(FileNames::new("key.pem", "chain.pem", "roots.pem").is_ok());
    for bad in ["", ".", "..data", "../x", "a/b", "chain.pem"] {
        assert!(
            FileNames::new(bad, "chain.pem", "roots.pem").is_err(),
            "{bad}"
        );
    }
}

#[test]
fn only_our_own_directories_are_cleared() {
    assert!(is_version_name(&version_name(NOW).unwrap()));
    for other in [
        "..data",
        "..lock",
        "..",
        "..1-2",
        "..1795488780-zzzzzzzzzzzzzzzz",
        "1-0123456789abcdef",
    ] {
        assert!(!is_version_name(other), "{other}");
    }
}
