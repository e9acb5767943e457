//! Showing what will be signed, and having it confirmed: by each witness of the plan, then by whoever leads.

use std::io::{BufRead, Write};

use anyhow::bail;
use pki::ceremony::{Person, Plan, Task, WITNESSED_DIGITS, Witness, digest_words, name_words};
use pki::certificate::Certificate;
use pki::crypto::{Digest, hex};
use pki::time::Timestamp;

/// How often a witness may mistype.
const MAX_TRIES: usize = 3;

/// What is shown.
pub(crate) struct Shown<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) started: Timestamp,
    /// The root that signs, when it exists already.
    pub(crate) root: Option<Certificate>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(crate) key: Digest,
    /// What its token says about the key.
    pub(crate) origin: Option<String>,
    pub(crate) tasks: &'a [Task],
}

/// Shows everything, then asks; what each witness saw.
pub(crate) fn confirm(
    shown: &Shown<'_>,
    yes: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Vec<Witness>> {
    show(shown, out)?;
    if yes {
        writeln!(out, "not asked: --yes")?;
        let witness = |name: &Person| Witness {
            name: name.clone(),
            plan_sha256: None,
            key_sha256: None,
        };
        return Ok(shown.plan.witnesses().iter().map(witness).collect());
    }
    let mut witnesses = Vec::new();
    for name in shown.plan.witnesses() {
        witnesses.push(ask_witness(name, shown, out)?);
    }
    if ask("sign? type yes: ", out)? != "yes" {
        bail!("not confirmed; nothing was signed");
    }
    Ok(witnesses)
}

fn show(shown: &Shown<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    let Shown { plan, started, .. } = shown;
    writeln!(out, "ceremony {}, at {started}", plan.kind())?;
    writeln!(out, "plan SHA-256 {}", hex(&plan.digest()))?;
    if let Some(root) = &shown.root {
        let name = name_words(root.subject());
        let key = digest_words(&shown.key);
        writeln!(out, "with root {name}\n  its key's SHA-256 {key}")?;
    }
    if let Some(origin) = &shown.origin {
        writeln!(out, "  its key: {origin}")?;
    }
    for line in plan.words() {
        writeln!(out, "{line}")?;
    }
    for (i, task) in shown.tasks.iter().enumerate() {
        writeln!(out)?;
        for (j, line) in task.words.iter().enumerate() {
            if j == 0 {
                writeln!(out, "{}. {line}", i + 1)?;
            } else {
                writeln!(out, "{line}")?;
            }
        }
    }
    writeln!(out)?;
    Ok(())
}

/// A witness types their name and the beginnings of two digests: nobody does that without having looked.
fn ask_witness(name: &Person, shown: &Shown<'_>, out: &mut dyn Write) -> anyhow::Result<Witness> {
    let digits = |digest: &Digest| hex(digest)[..WITNESSED_DIGITS].to_owned();
    let (plan, key) = (digits(&shown.plan.digest()), digits(&shown.key));
    writeln!(out, "witness {name}: what stands above is what was planned")?;
    let first = format!("the first {WITNESSED_DIGITS} digits of the");
    for (prompt, wanted) in [
        ("  your name: ".to_owned(), name.as_str()),
        (format!("  {first} plan's SHA-256: "), plan.as_str()),
        (
            format!("  {first} SHA-256 of the root's key: "),
            key.as_str(),
        ),
    ] {
        let mut tries = 0;
        while !is_same(&ask(&prompt, out)?, wanted) {
            tries += 1;
            if tries == MAX_TRIES {
                bail!("witness {name} did not confirm what is shown; nothing was signed");
            }
            writeln!(out, "  that is not what stands above")?;
        }
    }
    Ok(Witness {
        name: name.clone(),
        plan_sha256: Some(plan),
        key_sha256: Some(key),
    })
}

/// Digests are shown in groups, and may be typed so.
fn is_same(typed: &str, wanted: &str) -> bool {
    typed == wanted || typed.replace(' ', "").to_ascii_lowercase() == wanted
}

fn ask(prompt: &str, out: &mut dyn Write) -> anyhow::Result<String> {
    write!(out, "{prompt}")?;
    out.flush()?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        bail!("not confirmed; nothing was signed");
    }
    Ok(answer.trim().to_owned())
}
