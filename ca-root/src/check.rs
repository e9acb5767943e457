//! Looking without a key: checking a ceremony, and showing a file in words.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use hsm::shares::Share;
use pki::ceremony::{
    Confirmation, FileName, Files, Plan, SignedTranscript, Transcript, describe_certificate,
    describe_crl, describe_request, digest_words, script as ceremony_script,
    verify as verify_ceremony,
};
use pki::certificate::Certificate;
use pki::crl::Crl;
use pki::csr::VerifiedCsr;
use pki::{crypto, pem};
use zeroize::Zeroizing;

use crate::folder::{self, Folder};

/// Checks the ceremony of a transcript, and says what differs.
pub(crate) fn verify(
    transcript: &Path,
    dir: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let shown = transcript.display();
    let signed = SignedTranscript::parse(&folder::read_existing(transcript)?)
        .with_context(|| format!("{shown}"))?;
    let folder = Folder::of(dir, transcript);
    let files = files(&folder, signed.transcript())?;
    let plan_file = match FileName::parse(&signed.transcript().plan.file) {
        Ok(name) => folder.read(&name)?,
        Err(_) => None,
    };
    verify_ceremony(&signed, plan_file.as_deref(), &files)
        .with_context(|| format!("{shown} does not hold"))?;
    describe(signed.transcript(), out)?;
    if plan_file.is_none() {
        writeln!(
            out,
            "the plan's file is not here; its text in the transcript was checked"
        )?;
    }
    writeln!(
        out,
        "ok: everything is as the plan says and as the ceremony left it"
    )?;
    Ok(())
}

fn files(folder: &Folder, transcript: &Transcript) -> anyhow::Result<Files> {
    let plan = Plan::parse(&transcript.plan.text).context("the plan in the transcript")?;
    let mut names = plan.inputs();
    names.extend(plan.outputs());
    folder.read_all(&names)
}

fn describe(transcript: &Transcript, out: &mut dyn Write) -> anyhow::Result<()> {
    let how = match transcript.confirmation {
        Confirmation::Asked => "confirmed when asked",
        Confirmation::ByFlag => "not asked (--yes)",
    };
    let Transcript {
        ceremony,
        tool,
        started,
        finished,
        ..
    } = transcript;
    writeln!(
        out,
        "ceremony {ceremony}, {tool}, {started} to {finished}, {how}"
    )?;
    writeln!(out, "root {}", transcript.root_subject)?;
    if let Some(digest) = crypto::from_hex(&transcript.root_key_sha256) {
        writeln!(out, "  its key's SHA-256 {}", digest_words(&digest))?;
    }
    for output in &transcript.outputs {
        let subject = output.subject.as_deref().unwrap_or_default();
        writeln!(out, "  {} {subject}", output.file)?;
    }
    describe_people(transcript, out)
}

fn describe_people(transcript: &Transcript, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(origin) = &transcript.token {
        let confined = match origin.is_confined() {
            true => "made in its token, which it cannot leave",
            false => "NOT confined to its token",
        };
        writeln!(out, "  key {}: {confined}", origin.uri)?;
    }
    for witness in &transcript.witnesses {
        let name = &witness.name;
        match (&witness.plan_sha256, &witness.key_sha256) {
            (Some(plan), Some(key)) => {
                writeln!(out, "  witness {name} saw plan {plan}… and key {key}…")?;
            }
            _ => writeln!(out, "  witness {name} was not asked")?,
        }
    }
    if let Some(opened) = &transcript.opened {
        let (set, threshold) = (&opened.set, opened.threshold);
        writeln!(
            out,
            "  opened by shares of set {set}, of which {threshold} are enough"
        )?;
        for share in &opened.shares {
            writeln!(out, "    {} {}", share.number, share.holder)?;
        }
    }
    if let Some(split) = &transcript.split {
        let (set, threshold) = (&split.set, split.threshold);
        writeln!(
            out,
            "  split into shares of set {set}, of which {threshold} are enough"
        )?;
        for share in &split.shares {
            writeln!(out, "    {} {}", share.number, share.holder)?;
        }
    }
    Ok(())
}

/// Prints a plan as a script.
pub(crate) fn script(path: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let shown = path.display();
    let text = String::from_utf8(folder::read_existing(path)?)
        .with_context(|| format!("{shown}: is not UTF-8"))?;
    let plan = Plan::parse(&text).with_context(|| format!("{shown} cannot be followed"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = FileName::parse(&name).with_context(|| format!("{shown}"))?;
    write!(out, "{}", ceremony_script(&plan, &name))?;
    Ok(())
}

/// Prints a file in words.
pub(crate) fn show(file: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let bytes = Zeroizing::new(folder::read_existing(file)?);
    let mut lines = Vec::new();
    if let Ok(signed) = SignedTranscript::parse(&bytes) {
        describe(signed.transcript(), out)?;
        writeln!(out, "nothing was checked: see ca-root verify")?;
        return Ok(());
    } else if bytes.starts_with(b"-----BEGIN SIGNET SHARE") {
        let share = Share::parse(&bytes).with_context(|| format!("{}", file.display()))?;
        lines.push(format!("share {} of {}", share.number(), share.count()));
        lines.push(format!("  of          {}", share.root()));
        lines.push(format!("  kept by     {}", share.holder()));
        let (set, threshold) = (share.set(), share.threshold());
        lines.push(format!(
            "  set         {set}, of which {threshold} are enough"
        ));
        lines.push("every line's check fits".to_owned());
    } else if let Ok(der) = pem::read_request(&bytes) {
        lines.push("certificate request".to_owned());
        lines.extend(describe_request(&VerifiedCsr::parse(&der)?));
    } else if let Ok(certificates) = Certificate::parse_pem(&bytes) {
        for certificate in certificates {
            lines.push("certificate".to_owned());
            lines.extend(describe_certificate(&certificate));
        }
    } else if let Ok(ders) = pem::read_crls(&bytes) {
        for der in ders {
            lines.push("CRL".to_owned());
            lines.extend(describe_crl(&Crl::parse(&der)?));
        }
    } else {
        bail!(
            "{}: no PEM of a request, certificate or CRL, no transcript and no share",
            file.display()
        );
    }
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
