//! What plans are taken and what is said about the others.

use crate::ceremony::{KeyPlace, Plan};
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

const CROSS: &str = r#"
version = 1
ceremony = "cross-sign"
witnesses = ["Wilma W.", "Xaver X."]
[root]
certificate = "root.pem"
key = "root.key"
opened_by = ["Ada", "Bert", "Cleo"]
[cross]
certificate = "root-2.pem"
life = "3y"
path_len = 2
out = "root-2-by-1.pem"
"#;

const REISSUE: &str = r#"
version = 1
ceremony = "reissue-intermediate"
[root]
certificate = "root.pem"
key = "pkcs11:token=ca;object=root"
crl = "root.crl.pem"
[token]
module = "/usr/lib/softhsm/libsofthsm2.so"
confined = true
[[reissue]]
certificate = "edge.pem"
request = "edge.csr"
profile = "cluster-intermediate"
life = "1y"
out = "edge-b.pem"
"#;

const SPLIT: &str = r#"
version = 1
ceremony = "split-key"
[root]
certificate = "root.pem"
key = "root.key"
[shares]
threshold = 3
holders = ["Ada", "Bert", "Cleo", "Dora", "Émile"]
[outputs]
key = "root-b.key"
"#;

fn faults(text: &str) -> Vec<String> {
    let faults = Plan::parse(text).unwrap_err();
    faults.to_string().lines().map(str::to_owned).collect()
}

fn names(files: Vec<&crate::ceremony::FileName>) -> Vec<&str> {
    files.into_iter().map(|file| file.as_str()).collect()
}

#[test]
fn every_ceremony_is_read() {
    let plan = Plan::parse(ROOT).unwrap();
    assert_eq!(plan.kind(), "create-root");
    assert_eq!(names(plan.outputs()), ["root.pem", "root.crl.pem"]);
    assert_eq!(plan.made_key().unwrap().as_str(), "root.key");
    let plan = Plan::parse(INTERMEDIATE).unwrap();
    assert_eq!(names(plan.inputs()), ["root.pem", "edge.csr", "old.pem"]);
    assert_eq!(plan.made_key(), None);
    let plan = Plan::parse(CRL).unwrap();
    assert_eq!(
        names(plan.inputs()),
        ["root.pem", "old.crl.pem", "edge.pem"]
    );
    assert_eq!(names(plan.outputs()), ["root.crl.pem"]);
    let plan = Plan::parse(CROSS).unwrap();
    assert_eq!(names(plan.inputs()), ["root.pem", "root-2.pem"]);
    assert_eq!((plan.witnesses().len(), plan.opened_by().len()), (2, 3));
    let plan = Plan::parse(REISSUE).unwrap();
    assert_eq!(
        names(plan.inputs()),
        ["root.pem", "root.crl.pem", "edge.pem", "edge.csr"]
    );
    assert!(matches!(plan.key(), KeyPlace::Token(key) if key.is_confined()));
    let plan = Plan::parse(SPLIT).unwrap();
    assert_eq!(plan.made_key().unwrap().as_str(), "root-b.key");
    assert_eq!(plan.share_files()[4].as_str(), "share-5.txt");
    assert!(plan.outputs().is_empty());
}

#[test]
fn schemes_of_shares_that_make_no_sense_are_told() {
    let told = |from: &str, to: &str| {
        let text = SPLIT.replace(from, to);
        assert_ne!(text, SPLIT);
        faults(&text).join("\n")
    };
    let wrong = "shares.threshold: expected a number from 2 to that of the holders";
    for number in ["1", "6", "0", "-3", "\"3\"", "300"] {
        assert_eq!(
            told("threshold = 3", &format!("threshold = {number}")),
            wrong
        );
    }
    assert_eq!(
        told("\"Émile\"", "\"ada\""),
        "shares.holders[4]: ada stands twice"
    );
    assert!(told("\"Émile\"", "\"E\\n\"").starts_with("shares.holders[4]: not a person's name"));
    let two = "holders = [\"Ada\", \"Bert\", \"Cleo\", \"Dora\", \"Émile\"]";
    assert!(told(two, "holders = [\"Ada\"]").starts_with("shares.holders: expected 2 to 16 names"));
    assert_eq!(
        told("threshold = 3", "threshold = 3\nprefix = \"../x\"")
            .split(": ")
            .next(),
        Some("shares.prefix")
    );
    let over = told("\"root-b.key\"", "\"share-3.txt\"");
    assert_eq!(
        over,
        "share-3.txt: would be written over another file of the plan"
    );
    assert!(told("[outputs]\nkey = \"root-b.key\"\n", "").starts_with("outputs: is missing"));
}

#[test]
fn keys_in_tokens_are_named_whole_and_by_an_absolute_module() {
    let told = |from: &str, to: &str| faults(&REISSUE.replace(from, to)).join("\n");
    for (from, to, why) in [
        (
            "object=root",
            "id=%01",
            "root.key: the URI lacks the key's label",
        ),
        (
            "token=ca",
            "slot-id=1",
            "root.key: a slot is another one on another day",
        ),
        ("object=root", "object=root;pin-value=1234", "root.key: "),
        (
            "object=root",
            "object=root?module-path=/x.so",
            "root.key: names a module",
        ),
        (
            "\"/usr/lib",
            "\"usr/lib",
            "token.module: expected an absolute path",
        ),
        (
            "/softhsm/",
            "/../",
            "token.module: expected an absolute path",
        ),
        (
            "confined = true",
            "confined = 1",
            "token.confined: expected true or false",
        ),
        (
            "confined = true",
            "pin = \"1234\"",
            "token.pin: is not known",
        ),
        (
            "pkcs11:token=ca;object=root",
            "root.key",
            "token: stands there, and the key is a file",
        ),
    ] {
        let told = told(from, to);
        assert!(told.contains(why), "{to}: {told}");
        assert!(!told.contains("1234"));
    }
    let bare = REISSUE.split("[token]").next().unwrap();
    assert!(
        faults(&format!("{bare}[[reissue]]\n"))
            .join("\n")
            .contains("token: is missing")
    );
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
    fn reading_a_changed_plan_never_panics(at in 0usize..600, with in "[\\[\\]{}=\"'a-z0-9.\n-]{0,6}", which in 0usize..6) {
        let mut text = [ROOT, INTERMEDIATE, CRL, CROSS, REISSUE, SPLIT][which].to_owned();
        let at = text.floor_char_boundary(at);
        let end = text.ceil_char_boundary((at + with.len()).min(text.len()));
        text.replace_range(at..end, &with);
        let _ = Plan::parse(&text);
    }
}
