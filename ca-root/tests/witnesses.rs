//! Witnesses: each types what they saw, and the transcript says so, or that nobody asked.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod common;

use common::{CREATE_ROOT, Folder, PASSPHRASE, SIGN, told};
use hsm::{Signer, key_file};
use pki::ceremony::{Confirmation, Person, Plan, SignedTranscript, Transcript};
use pki::certificate::Certificate;
use pki::crypto::hex;

const WITNESSES: &str = "witnesses = [\"Wilma Witt\", \"Xaver\"]\nceremony";

/// The first eight digits of the plan's digest and of the root's key.
fn digits(folder: &Folder, plan: &str) -> (String, String) {
    let root = Certificate::parse_pem(folder.read("root.pem").as_bytes()).unwrap();
    let key = root[0].public_key().unwrap().digest();
    let plan = Plan::parse(plan).unwrap().digest();
    (hex(&plan)[..8].to_owned(), hex(&key)[..8].to_owned())
}

fn asked(folder: &Folder, name: &str, plan: &str, answers: &[&str]) -> std::process::Output {
    folder.write(&format!("{name}.toml"), plan);
    let (file, transcript) = (format!("{name}.toml"), format!("{name}.transcript"));
    let arguments = [
        "run",
        &file,
        "--transcript",
        &transcript,
        "--passphrase-file",
        "pass",
    ];
    folder.ca_root(&arguments, &(answers.join("\n") + "\n"))
}

#[test]
fn each_witness_types_what_stands_there_before_anything_is_signed() {
    let folder = Folder::with_root();
    let plan = SIGN.replacen("ceremony", WITNESSES, 1);
    let (saw, key) = digits(&folder, &plan);
    let grouped = format!("{} {}", &key[..4], key[4..].to_uppercase());
    let answers = [
        "Wilma Witt",
        &saw,
        &key, // she reads
        "Wilma",
        "Xaver",
        "00000000",
        &saw,
        &grouped, // he mistypes twice
        "yes",
    ];
    let output = asked(&folder, "sign", &plan, &answers);
    assert!(output.status.success(), "{}", told(&output));
    assert!(
        told(&output).contains("  witnesses   Wilma Witt"),
        "{}",
        told(&output)
    );
    assert_eq!(
        told(&output)
            .matches("that is not what stands above")
            .count(),
        2
    );
    let said = folder.verified("sign.transcript");
    let line = format!("witness Xaver saw plan {saw}… and key {key}…");
    assert!(said.contains(&line), "{said}");
}

#[test]
fn a_witness_who_saw_something_else_stops_the_ceremony() {
    let folder = Folder::with_root();
    let plan = SIGN.replacen("ceremony", WITNESSES, 1);
    let (saw, key) = digits(&folder, &plan);
    let why = "did not confirm what is shown; nothing was signed";
    for (answers, why) in [
        (vec!["Wilma Witt", &saw, "1", "2", "3"], why),
        (vec!["Xaver", "Yvo", "Zoe"], why),
        (vec!["Wilma Witt", &key, &key, &key], why),
        (
            vec!["Wilma Witt", &saw],
            "not confirmed; nothing was signed",
        ),
        (
            vec!["Wilma Witt", &saw, &key, "Xaver", &saw, &key, "no"],
            "not confirmed",
        ),
    ] {
        let output = asked(&folder, "sign", &plan, &answers);
        assert_eq!(output.status.code(), Some(1), "{answers:?}");
        assert!(told(&output).contains(why), "{}", told(&output));
        assert!(!folder.has("edge.pem") && !folder.has("sign.transcript"));
    }
}

#[test]
fn a_root_is_made_before_witnesses_who_see_its_key() {
    let folder = Folder::new();
    folder.write("c.toml", CREATE_ROOT.replacen("ceremony", WITNESSES, 1));
    let arguments = [
        "run",
        "c.toml",
        "--transcript",
        "c.transcript",
        "--passphrase-file",
        "pass",
    ];
    let mut terminal = folder.terminal(&arguments);
    for name in ["Wilma Witt", "Xaver"] {
        terminal.answer("your name: ", name);
        let shown = |what: &str| {
            let at = terminal.seen.find(what).unwrap() + what.len();
            let digits = terminal.seen[at..].trim_start().chars();
            digits.filter(|c| *c != ' ').take(8).collect::<String>()
        };
        let (plan, key) = (shown("plan SHA-256 "), shown("key SHA-256"));
        terminal.answer("plan's SHA-256: ", &plan);
        terminal.answer("SHA-256 of the root's key: ", &key);
    }
    terminal.answer("type yes: ", "yes");
    let (seen, content) = terminal.end();
    assert!(content, "{seen}");
    let said = folder.verified("c.transcript");
    assert!(said.contains("witness Xaver saw"), "{said}");
}

#[test]
fn that_nobody_asked_is_recorded_and_told() {
    let folder = Folder::with_root();
    folder.done("sign", &SIGN.replacen("ceremony", WITNESSES, 1));
    let said = folder.verified("sign.transcript");
    assert!(said.contains("witness Wilma Witt was not asked"), "{said}");
    for (witnesses, why) in [
        ("[\"Ada\", \"ADA\"]", "witnesses[1]: ADA stands twice"),
        ("[\"\"]", "witnesses[0]: not a person's name"),
        ("\"Ada\"", "witnesses: expected at most 16 names"),
        ("[\"A\\u202edA\"]", "witnesses[0]: not a person's name"),
    ] {
        let plan = SIGN.replacen("ceremony", &format!("witnesses = {witnesses}\nceremony"), 1);
        folder.refused(&plan.replace("edge.pem", "e.pem"), &[], why);
    }
}

/// A transcript that the root's keeper signs although it does not tell what happened.
fn signed_anyway(folder: &Folder, change: impl FnOnce(&mut Transcript)) {
    let root = key_file::open(&folder.path("root.key"), PASSPHRASE.as_bytes()).unwrap();
    let signed = SignedTranscript::parse(folder.read("sign.transcript").as_bytes()).unwrap();
    let mut transcript = signed.transcript().clone();
    change(&mut transcript);
    let prepared = transcript.prepare(root.public_key()).unwrap();
    let signature = root.sign(prepared.to_be_signed()).unwrap();
    folder.write(
        "forged.transcript",
        prepared.seal(&signature).unwrap().to_file(),
    );
}

#[test]
fn a_transcript_that_tells_of_other_people_is_named_though_the_root_signed_it() {
    let folder = Folder::with_root();
    let plan = SIGN.replacen("ceremony", WITNESSES, 1);
    let (saw, key) = digits(&folder, &plan);
    let answers = ["Wilma Witt", &saw, &key, "Xaver", &saw, &key, "yes"];
    asked(&folder, "sign", &plan, &answers);
    signed_anyway(&folder, |_| {});
    folder.verified("forged.transcript");

    let others = "lists other witnesses than the plan";
    signed_anyway(&folder, |t| t.witnesses.truncate(1));
    folder.differs("forged.transcript", others);
    signed_anyway(&folder, |t| {
        t.witnesses[1].name = Person::parse("Yvo").unwrap()
    });
    folder.differs("forged.transcript", others);
    let else_ = "witness Xaver saw something else than this ceremony";
    signed_anyway(&folder, |t| {
        t.witnesses[1].plan_sha256 = Some("00000000".into())
    });
    folder.differs("forged.transcript", else_);
    signed_anyway(&folder, |t| t.witnesses[1].key_sha256 = None);
    folder.differs("forged.transcript", else_);
    signed_anyway(&folder, |t| t.confirmation = Confirmation::ByFlag);
    folder.differs("forged.transcript", else_);
}
