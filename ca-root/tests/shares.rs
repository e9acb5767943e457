//! A root whose key no one person opens: its shares made, used, typed, refused, and made anew.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod common;

use common::{CREATE_ROOT, Folder, SHARED_ROOT, SIGN, told};
use hsm::shares::{Gathered, Share, passphrase};

/// `--share` for each of these.
fn given(files: &[&'static str]) -> Vec<&'static str> {
    files.iter().flat_map(|file| ["--share", file]).collect()
}

fn shared() -> Folder {
    let folder = Folder::new();
    folder.done("create-root", SHARED_ROOT);
    folder.request("edge.csr", "Test Edge G1");
    folder
}

#[test]
fn any_three_of_five_shares_sign_and_the_transcript_says_whose() {
    let folder = Folder::new();
    let made = folder.done("create-root", SHARED_ROOT);
    assert!(made.contains("opened by   any 3 of 5 shares"), "{made}");
    assert!(made.contains("wrote share-2.txt, for Bert alone"), "{made}");
    folder.request("edge.csr", "Test Edge G1");
    let files = given(&["share-5.txt", "share-2.txt", "share-1.txt"]);
    let used = folder.done_with("sign", SIGN, &files);
    assert!(used.contains("share 2 of Bert was used"), "{used}");

    let told = folder.verified("create-root.transcript");
    assert!(told.contains("of which 3 are enough"), "{told}");
    let told = folder.verified("sign.transcript");
    assert!(told.contains("    1 Ada Lovelace\n"), "{told}");
    assert!(
        told.contains("    5 Émile\n") && !told.contains("Cleo"),
        "{told}"
    );

    // What is secret stands in the shares alone, and they are for one person's eyes.
    let mut public = made + &used;
    for file in [
        "create-root.transcript",
        "sign.transcript",
        "root.key",
        "root.pem",
    ] {
        public += &folder.read(file);
    }
    let mut gathered = Gathered::default();
    for n in 1..=5 {
        let file = format!("share-{n}.txt");
        assert_eq!(folder.mode(&file), 0o600);
        let text = folder.read(&file);
        for line in text.lines().skip(6).filter(|line| line.contains(": ")) {
            let code = line.split_once(": ").unwrap().1;
            assert!(!public.contains(code) && !public.contains(&code.replace(' ', "")));
        }
        gathered
            .add(Share::parse(text.as_bytes()).unwrap())
            .unwrap();
    }

    // With the shares put together, OpenSSL opens the key file as well.
    let secret = passphrase(&gathered.combine().unwrap());
    assert!(!public.contains(secret.as_str()));
    folder.write("secret", secret.as_bytes());
    let key = [
        "pkey",
        "-in",
        "root.key",
        "-passin",
        "file:secret",
        "-pubout",
    ];
    let certificate = ["x509", "-in", "root.pem", "-noout", "-pubkey"];
    let (key, certificate) = (folder.openssl(&key), folder.openssl(&certificate));
    assert!(key.status.success(), "{key:?}");
    assert_eq!(key.stdout, certificate.stdout);
}

#[test]
fn shares_that_do_not_do_are_refused_in_words() {
    let folder = shared();
    let refused = |files: &[&'static str], why: &str| folder.refused(SIGN, &given(files), why);
    let missing = "too few shares: 1 more is needed";
    refused(&["share-1.txt", "share-4.txt"], missing);
    refused(&["share-3.txt"], "too few shares: 2 more are needed");
    let twice = ["share-1.txt", "share-2.txt", "share-1.txt"];
    refused(&twice, "share-1.txt: share 1 was given already");

    let other = shared();
    folder.write("other.txt", other.read("share-2.txt"));
    refused(
        &["share-1.txt", "other.txt"],
        "other.txt: the share is of set ",
    );
    // All of them of another root of the same name: nothing is told but that they do not open it.
    for n in 1..=3 {
        folder.write(
            &format!("other-{n}.txt"),
            other.read(&format!("share-{n}.txt")),
        );
    }
    let others = ["other-1.txt", "other-2.txt", "other-3.txt"];
    refused(
        &others,
        "root.key; nothing was signed: the key file does not open",
    );

    let text = folder.read("share-2.txt");
    let group = text.lines().nth(7).unwrap().get(9..13).unwrap();
    let changed = if group.starts_with('7') {
        "8888"
    } else {
        "7777"
    };
    folder.write("mistyped.txt", text.replace(group, changed));
    let why = "mistyped.txt: line 3 of the share: its last group does not fit the others";
    refused(&["share-1.txt", "mistyped.txt"], why);
    folder.write("renamed.txt", text.replace("Bert", "Dora"));
    let why = "renamed.txt: the share was made for another holder or another root than it names";
    refused(&["renamed.txt"], why);
    refused(&["edge.csr"], "edge.csr: not the text of a share");
    refused(&["nothing.txt"], "nothing.txt: is not there");

    let named = SIGN.replace(
        "key = ",
        "opened_by = [\"Ada Lovelace\", \"Bert\", \"Cleo\"]\nkey = ",
    );
    let why = "share-4.txt: a share of Dora, whom the plan does not name";
    folder.refused(
        &named,
        &given(&["share-1.txt", "share-2.txt", "share-4.txt"]),
        why,
    );
    let why = "the plan says that shares open the key";
    folder.refused(&named, &["--passphrase-file", "pass"], why);
    let three = given(&["share-1.txt", "share-2.txt", "share-3.txt"]);
    folder.done_with("named", &named, &three);
    folder.verified("named.transcript");
}

#[test]
fn a_root_with_shares_is_made_whole_or_not_at_all() {
    let folder = Folder::new();
    folder.write("share-3.txt", "");
    folder.refused(SHARED_ROOT, &[], "share-3.txt: exists already");
    std::fs::remove_file(folder.path("share-3.txt")).unwrap();
    let why = "the plan splits what opens the key: there is no passphrase to give";
    folder.refused(SHARED_ROOT, &["--passphrase-file", "pass"], why);
    let shown = format!("{SHARED_ROOT}show = true\n");
    folder.refused(&shown, &[], "there is no terminal to ask on");
}

#[test]
fn shares_are_shown_one_by_one_and_typed_one_by_one() {
    let folder = Folder::new();
    folder.write("create.toml", format!("{SHARED_ROOT}show = true\n"));
    let mut terminal = folder.terminal(&["run", "create.toml", "--transcript", "c.transcript"]);
    terminal.answer("type yes: ", "yes");
    let mut sheets = Vec::new();
    for _ in 0..5 {
        terminal.answer("nobody else looks: press Enter ", "");
        let from = terminal.seen.len();
        assert!(
            !folder.has("root.key"),
            "a key before its shares are copied"
        );
        terminal.answer("compared line by line: press Enter ", "");
        let sheet = terminal.seen[from..].replace('\r', "");
        let begin = sheet.find("-----BEGIN").unwrap();
        assert!(sheet[..begin].ends_with("\u{1b}[2J\u{1b}[3J\u{1b}[H"));
        let end = sheet.find("\ncopied").unwrap();
        sheets.push(sheet[begin..end].to_owned());
    }
    let (seen, content) = terminal.end();
    assert!(content, "{seen}");
    assert!(!folder.has("share-1.txt"));
    folder.verified("c.transcript");

    folder.request("edge.csr", "Test Edge G1");
    folder.write("sign.toml", SIGN);
    let arguments = [
        "run",
        "sign.toml",
        "--transcript",
        "s.transcript",
        "--ask-shares",
        "--yes",
    ];
    let mut terminal = folder.terminal(&arguments);
    let codes = |sheet: &str| -> Vec<String> {
        let lines = sheet.lines().filter_map(|line| line.split_once(": "));
        lines.map(|(_, code)| code.to_owned()).skip(3).collect()
    };
    // Somebody else's name is told before the whole is typed; a mistyped line is asked for again.
    let cleo = codes(&sheets[2]);
    terminal.answer(
        "the first share: its holder's name (empty to stop): ",
        "Bert",
    );
    terminal.answer("  line 1: ", &cleo[0]);
    for (prompt, n, name) in [
        ("the first share", 2, "Cleo"),
        (
            "the next share, of 2 that it still takes",
            0,
            "Ada Lovelace",
        ),
        ("the last share that it takes", 4, "Émile"),
    ] {
        terminal.answer(
            &format!("{prompt}: its holder's name (empty to stop): "),
            name,
        );
        for (i, code) in codes(&sheets[n]).iter().enumerate() {
            let of = if i == 0 {
                String::new()
            } else {
                " of 6".to_owned()
            };
            let prompt = format!("  line {}{of}: ", i + 1);
            if i == 3 {
                terminal.answer(&prompt, &codes(&sheets[n])[2].to_lowercase());
            }
            terminal.answer(&prompt, &code.to_lowercase());
        }
    }
    let (seen, content) = terminal.end();
    assert!(content, "{seen}");
    assert!(
        seen.contains("not taken: it is not the share of Bert"),
        "{seen}"
    );
    assert!(
        seen.contains("line 4 of the share: its last group does not fit"),
        "{seen}"
    );
    assert!(seen.contains("share 5 of Émile is taken"), "{seen}");
    for code in sheets.iter().flat_map(|sheet| codes(sheet)) {
        assert!(!seen.contains(&code) && !seen.contains(&code.to_lowercase()));
    }
    assert!(folder.verified("s.transcript").contains("    5 Émile\n"));
}

const SPLIT: &str = r#"
version = 1
ceremony = "split-key"
[root]
certificate = "root.pem"
key = "root.key"
[shares]
threshold = 2
holders = ["Ada", "Bert", "Cleo"]
prefix = "b"
[outputs]
key = "root-b.key"
"#;

#[test]
fn a_key_gets_shares_later_and_other_shares_later_still() {
    let folder = Folder::new();
    folder.done("create-root", CREATE_ROOT);
    folder.request("edge.csr", "Test Edge G1");
    let said = folder.done("split", SPLIT);
    assert!(
        said.contains("the same key under a fresh secret, into root-b.key"),
        "{said}"
    );
    folder.verified("split.transcript");

    let again = SPLIT
        .replace("root-b.key", "root-c.key")
        .replace("root.key", "root-b.key")
        .replace("\"b\"", "\"c\"");
    folder.done_with("again", &again, &given(&["b-1.txt", "b-3.txt"]));
    let said = folder.verified("again.transcript");
    assert!(
        said.contains("opened by shares") && said.contains("split into shares"),
        "{said}"
    );

    let sign = SIGN.replace("root.key", "root-c.key");
    let why = "the key file does not open";
    folder.refused(&sign, &given(&["b-1.txt", "b-2.txt"]), why);
    folder.refused(&sign, &[], why);
    folder.done_with("sign", &sign, &given(&["c-2.txt", "c-3.txt"]));
    folder.verified("sign.transcript");

    // A transcript that was changed is told, whatever in it.
    let text = folder.read("again.transcript");
    for (from, to) in [
        ("holder = \"Cleo\"", "holder = \"Clea\""),
        ("number = 3", "number = 2"),
    ] {
        folder.write("changed.transcript", text.replacen(from, to, 1));
        folder.differs(
            "changed.transcript",
            "transcript: was changed, or is another root's",
        );
    }
}

#[test]
fn show_checks_a_share_and_tells_nothing_of_it() {
    let folder = shared();
    let output = folder.ca_root(&["show", "share-4.txt"], "");
    let said = told(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("share 4 of 5") && said.contains("kept by     Dora"),
        "{said}"
    );
    let text = folder.read("share-4.txt");
    for line in text.lines().filter_map(|line| line.split_once(": ")) {
        let code = line.1.trim();
        assert!(code.len() != 25 || !said.contains(code));
    }
    folder.write("cut.txt", text.replace("\n 3: ", "\n"));
    let output = folder.ca_root(&["show", "cut.txt"], "");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with(" 6: "))
        .collect();
    folder.write("cut.txt", lines.join("\n"));
    let output = folder.ca_root(&["show", "cut.txt"], "");
    assert!(
        told(&output).contains("line 6 of the share is missing"),
        "{}",
        told(&output)
    );
}
