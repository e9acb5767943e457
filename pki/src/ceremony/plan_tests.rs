//! What plans are taken and what is said about the others.

use crate::ceremony::Plan;
use proptest::prelude::*;

const ROOT: &str = r#"
version = 1
ceremony = "create-root"
[root]
name = "Example Mesh Root 1"
organization = "Example"
algorithm = "P-256"
life = "10y"
[outputs]
certificate = "root.pem"
key = "root.key"
crl = "root.crl.pem"
crl_life = "400d"
"#;

const INTERMEDIATE: &str = r#"
version = 1
ceremony = "sign-intermediate"
known = ["old.pem"]
[root]
certificate = "root.pem"
key = "root.key"
crl_url = "http://pki.example/root.crl"
[[intermediate]]
request = "edge.csr"
profile = "cluster-intermediate"
name = "Edge 1 G1"
life = "1y"
path_len = 0
out = "edge.pem"
"#;

const CRL: &str = r#"
version = 1
ceremony = "issue-crl"
[root]
certificate = "root.pem"
key = "root.key"
[crl]
number = "next"
previous = "old.crl.pem"
out = "root.crl.pem"
[[revoke]]
serial = "01:51:2e:ab"
reason = "superseded"
at = 2026-11-24T02:53:00Z
[[revoke]]
certificate = "edge.pem"
reason = "keyCompromise"
"#;

fn faults(text: &str) -> Vec<String> {
    let faults = Plan::parse(text).unwrap_err();
    faults.to_string().lines().map(str::to_owned).collect()
}

fn names(files: Vec<&crate::ceremony::FileName>) -> Vec<&str> {
    files.into_iter().map(|file| file.as_str()).collect()
}

#[test]
fn the_three_ceremonies_are_read() {
    let plan = Plan::parse(ROOT).unwrap();
    assert_eq!(plan.kind(), "create-root");
    assert_eq!(names(plan.outputs()), ["root.pem", "root.crl.pem"]);
    assert!(plan.key().1);
    let plan = Plan::parse(INTERMEDIATE).unwrap();
    assert_eq!(names(plan.inputs()), ["root.pem", "edge.csr", "old.pem"]);
    assert!(!plan.key().1);
    let plan = Plan::parse(CRL).unwrap();
    assert_eq!(
        names(plan.inputs()),
        ["root.pem", "old.crl.pem", "edge.pem"]
    );
    assert_eq!(names(plan.outputs()), ["root.crl.pem"]);
}

#[test]
fn every_fault_is_told_with_its_place() {
    let text = INTERMEDIATE
        .replace("version = 1", "version = 2")
        .replace("known = [\"old.pem\"]", "known = [\"../old.pem\"]")
        .replace("key = \"root.key\"", "key = \"/root.key\"")
        .replace("http://", "https://")
        .replace("life = \"1y\"", "life = \"4y\"")
        .replace("path_len = 0", "path_len = 1\nextra = 1");
    let faults = faults(&text);
    let places: Vec<&str> = faults
        .iter()
        .filter_map(|fault| fault.split(": ").next())
        .collect();
    assert_eq!(
        places,
        [
            "version",
            "root.key",
            "root.crl_url",
            "known[0]",
            "intermediate[0].life",
            "intermediate[0].path_len",
            "intermediate[0].extra",
        ]
    );
}

#[test]
fn what_belongs_to_another_ceremony_is_not_known() {
    let text = format!("{ROOT}\n[[revoke]]\nserial = \"01\"\n");
    assert_eq!(faults(&text), ["revoke: is not known in this ceremony"]);
}

#[test]
fn profiles_of_leaves_and_roots_are_not_signed_here() {
    for profile in ["workload", "root", "nothing"] {
        let text = INTERMEDIATE.replace("cluster-intermediate", profile);
        assert_eq!(
            faults(&text),
            [
                "intermediate[0].profile: expected cluster-intermediate, fleet-intermediate or subordinate-ca"
            ]
        );
    }
}

#[test]
fn one_file_is_never_two_things() {
    for (from, to) in [
        ("crl = \"root.crl.pem\"", "crl = \"root.pem\""),
        ("key = \"root.key\"", "key = \"root.pem\""),
    ] {
        assert_eq!(
            faults(&ROOT.replace(from, to)),
            ["root.pem: would be written over another file of the plan"]
        );
    }
    let text = INTERMEDIATE.replace("out = \"edge.pem\"", "out = \"root.key\"");
    assert_eq!(faults(&text).len(), 1);
}

#[test]
fn a_next_number_needs_a_previous_crl_and_a_revocation_one_certificate() {
    let text = CRL
        .replace("previous = \"old.crl.pem\"\n", "")
        .replace("serial =", "certificate = \"x.pem\"\nserial =")
        .replace("keyCompromise", "certificateHold");
    let faults = faults(&text);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults[0].starts_with("revoke[0].certificate: expected either"));
    assert!(faults[1].starts_with("revoke[1].reason: expected unspecified"));
    assert!(faults[2].starts_with("crl.number: expected a positive number"));
}

proptest! {
    #[test]
    fn reading_never_panics(text in ".{0,200}") {
        let _ = Plan::parse(&text);
    }

    #[test]
    fn reading_a_changed_plan_never_panics(at in 0usize..600, with in "[\\[\\]{}=\"'a-z0-9.\n-]{0,6}", which in 0usize..3) {
        let mut text = [ROOT, INTERMEDIATE, CRL][which].to_owned();
        let at = at.min(text.len());
        let end = (at + with.len()).min(text.len());
        text.replace_range(at..end, &with);
        let _ = Plan::parse(&text);
    }
}
