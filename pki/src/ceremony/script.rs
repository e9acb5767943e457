//! A ceremony on paper: what the people in the room read, type, tick off and sign. One page for what is usual.

use crate::ceremony::file_name::FileName;
use crate::ceremony::key_place::KeyPlace;
use crate::ceremony::plan::{Ceremony, Plan};
use crate::ceremony::record::WITNESSED_DIGITS;
use crate::ceremony::words::digest_words;
use crate::crypto;

/// As wide as paper and terminals are.
const WIDTH: usize = 80;

/// Prints a plan as a script; `file` is the plan's name, as it is typed in the room.
#[must_use]
pub fn script(plan: &Plan, file: &FileName) -> String {
    let mut page = Page(String::new());
    let stem = file.as_str();
    let stem = stem.strip_suffix(".toml").unwrap_or(stem);
    let transcript = format!("{stem}.transcript");
    title(plan, file, &mut page);
    before(plan, &mut page);
    who(plan, &mut page);
    steps(plan, file, &transcript, &mut page);
    after(plan, &transcript, &mut page);
    page.0
}

fn title(plan: &Plan, file: &FileName, page: &mut Page) {
    page.rule('=');
    page.text("", &format!("KEY CEREMONY: {}", title_of(plan)));
    let root = match plan.ceremony() {
        Ceremony::CreateRoot(plan) => plan.root_name(),
        _ => format!("that of {}", plan.root_certificate()),
    };
    page.text("root     ", &root);
    page.text("plan     ", file.as_str());
    let digest = plan.digest();
    page.text("SHA-256  ", &digest_words(&digest[..16]));
    page.text("         ", &digest_words(&digest[16..]));
    page.rule('-');
    page.text(
        "",
        "Date ____________  Place ______________________  Begun _______  Ended ________",
    );
}

fn title_of(plan: &Plan) -> &'static str {
    match plan.ceremony() {
        Ceremony::CreateRoot(_) => "create-root, a root is made",
        Ceremony::SignIntermediate(_) => "sign-intermediate, the root signs intermediates",
        Ceremony::IssueCrl(_) => "issue-crl, the root signs its next CRL",
        Ceremony::CrossSign(_) => "cross-sign, the old root signs the new one",
        Ceremony::ReissueIntermediate(_) => "reissue-intermediate, the same keys are signed again",
        Ceremony::SplitKey(_) => "split-key, the root's key gets new shares",
    }
}

fn before(plan: &Plan, page: &mut Page) {
    page.heading("THE ROOM AND THE MACHINE");
    page.tick("no network: cables out, radios off; no disk but its own and the courier's");
    page.tick("no telephone, no camera, no window from which screen or keyboard is seen");
    page.tick("swap is off (swapon prints nothing) and the clock is right (date -u)");
    page.tick("ca-root --version says ______________, its SHA-256 is the release's");
    if let KeyPlace::Token(token) = plan.key() {
        page.tick(&format!("the token is in: {}", token.uri()));
    }
}

fn who(plan: &Plan, page: &mut Page) {
    page.heading("WHO IS HERE, each with a paper that shows who they are");
    page.person("leads", "");
    for witness in plan.witnesses() {
        page.person("witness", witness.as_str());
    }
    for holder in plan.opened_by() {
        page.person("brings a share", holder.as_str());
    }
    let holders = plan.sharing().map_or(&[][..], |sharing| sharing.holders());
    for (i, holder) in holders.iter().enumerate() {
        page.person(&format!("gets share {}", i + 1), holder.as_str());
    }
    if !plan.opened_by().is_empty() {
        let what = "Not all of those who could bring a share need be here: strike out who is not.";
        page.text("  ", what);
    }
}

fn steps(plan: &Plan, file: &FileName, transcript: &str, page: &mut Page) {
    page.heading("STEPS");
    let digits = &crypto::hex(&plan.digest())[..WITNESSED_DIGITS];
    let inputs: Vec<&str> = plan.inputs().into_iter().map(FileName::as_str).collect();
    let mut brought = vec![file.as_str()];
    brought.extend(&inputs);
    brought.extend(
        plan.root_files()
            .and_then(|root| root.key.file())
            .map(FileName::as_str),
    );
    page.step(1, "Put these files into one folder, and go there:");
    page.text("     ", &brought.join("  "));
    page.step(2, "See that the plan is the one that was agreed on.");
    page.command(&format!("sha256sum {file}"));
    page.tick(&format!(
        "it begins with {digits}, as above; a witness reads the rest aloud"
    ));
    page.step(3, "Hold the ceremony.");
    page.command(&format!("ca-root run {file} --transcript {transcript}"));
    page.tick(&format!(
        "it shows ceremony {}, and plan SHA-256 {digits}…",
        plan.kind()
    ));
    page.tick("everybody has read what it will sign; digests of keys were compared");
    if !plan.witnesses().is_empty() {
        page.tick(&format!(
            "each witness typed their name, {digits}, and 8 digits of the key's SHA-256"
        ));
    }
    page.tick("the leader typed yes");
    match (plan.root_files(), plan.key()) {
        (Some(root), _) if !root.opened_by.is_empty() => {
            page.tick("each holder alone at the keyboard typed their share, until it was enough");
        }
        (Some(_), KeyPlace::File(_)) => page.tick("the passphrase was typed, seen by nobody else"),
        (_, KeyPlace::Token(_)) => page.tick("the token's PIN was typed, seen by nobody else"),
        (None, KeyPlace::File(_)) if plan.sharing().is_none() => {
            page.tick("the new passphrase was typed twice, seen by nobody else");
        }
        (None, KeyPlace::File(_)) => {}
    }
    if plan
        .sharing()
        .is_some_and(|sharing| sharing.files().is_none())
    {
        page.tick("each holder alone at the screen copied their share, and read it back");
    }
    let mut written: Vec<&str> = plan.outputs().into_iter().map(FileName::as_str).collect();
    written.extend(plan.made_key().map(FileName::as_str));
    written.extend(plan.share_files().iter().map(FileName::as_str));
    written.push(transcript);
    page.tick(&format!("it wrote {}", written.join(", ")));
    page.step(4, "Check it, as anybody can years from now.");
    page.command(&format!("ca-root verify {transcript}"));
    page.tick("it ends with \"ok: everything is as the plan says\"");
}

fn after(plan: &Plan, transcript: &str, page: &mut Page) {
    page.heading("AFTERWARDS");
    let mut carried: Vec<&str> = plan.outputs().into_iter().map(FileName::as_str).collect();
    carried.push(transcript);
    page.tick(&format!(
        "carried out, for everybody: {}",
        carried.join(", ")
    ));
    match (plan.made_key(), plan.root_files(), plan.key()) {
        (Some(key), Some(_), _) => {
            page.tick(&format!(
                "{key} into the safe; {} destroyed, and every copy of it",
                plan.key()
            ));
        }
        (Some(key), None, _) => page.tick(&format!("{key} into the safe, a copy into another")),
        (None, _, KeyPlace::Token(_)) => page.tick("the token back into its safe"),
        (None, _, KeyPlace::File(key)) => {
            page.tick(&format!("{key} back into the safe, no copy left"))
        }
    }
    if let Some(sharing) = plan.sharing() {
        page.tick("each share on paper, in an envelope of its own, signed across its flap");
        page.tick("no two envelopes in one place, none where the key is");
        if let Some(files) = sharing.files() {
            let files: Vec<&str> = files.iter().map(FileName::as_str).collect();
            page.command(&format!("shred -u {}", files.join(" ")));
        }
    }
    page.tick("the machine is off, its memory cold, and this page is signed by all");
    page.rule('=');
}

/// Lines of at most [`WIDTH`] characters.
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn rule(&mut self, character: char) {
        let rule: String = std::iter::repeat_n(character, WIDTH).collect();
        self.line(&rule);
    }

    fn heading(&mut self, heading: &str) {
        self.line("");
        self.line(heading);
    }

    fn tick(&mut self, what: &str) {
        self.text("  [ ] ", what);
    }

    fn step(&mut self, number: usize, what: &str) {
        self.text(&format!("{number:>2}. "), what);
    }

    fn command(&mut self, command: &str) {
        self.wrap("      $ ", "          ", command, " \\");
    }

    fn text(&mut self, first: &str, text: &str) {
        let rest: String = first.chars().map(|_| ' ').collect();
        self.wrap(first, &rest, text, "");
    }

    /// A role, a name where the plan says one, and room for a signature.
    fn person(&mut self, role: &str, name: &str) {
        const ROLE: usize = 16;
        const NAME: usize = 36;
        let blank = "_".repeat(NAME - 2);
        let name = if name.is_empty() { &blank } else { name };
        let line = format!("  {role:<ROLE$}{name:<NAME$}");
        // A long name leaves less room, and a very long one a line of its own.
        let room = WIDTH.saturating_sub(line.chars().count());
        if room >= 12 {
            self.line(&format!("{line}{}", "_".repeat(room)));
        } else {
            self.line(&line);
            let place = 2 + ROLE;
            self.line(&format!("{:place$}{}", "", "_".repeat(WIDTH - place)));
        }
    }

    /// Breaks at spaces; `more` ends each line that goes on.
    fn wrap(&mut self, first: &str, rest: &str, text: &str, more: &str) {
        let mut line = first.to_owned();
        let mut is_begun = false;
        for word in text.split(' ') {
            let length = line.chars().count() + 1 + word.chars().count() + more.len();
            if is_begun && length > WIDTH {
                self.line(&format!("{line}{more}"));
                rest.clone_into(&mut line);
                is_begun = false;
            }
            if is_begun {
                line.push(' ');
            }
            line.push_str(word);
            is_begun = true;
        }
        self.line(&line);
    }
}
