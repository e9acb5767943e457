//! Looking without a key: checking a ceremony, and showing a file in words.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use pki::ceremony::{
    Confirmation, FileName, Files, Plan, SignedTranscript, Transcript, describe_certificate,
    describe_crl, describe_request, digest_words, verify as verify_ceremony,
};
use pki::certificate::Certificate;
use pki::crl::Crl;
use pki::csr::VerifiedCsr;
use pki::{crypto, pem};

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
    Ok(())
}

/// Prints a file in words.
pub(crate) fn show(file: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let bytes = folder::read_existing(file)?;
    let mut lines = Vec::new();
    if let Ok(signed) = SignedTranscript::parse(&bytes) {
        describe(signed.transcript(), out)?;
        writeln!(out, "nothing was checked: see ca-root verify")?;
        return Ok(());
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
            "{}: no PEM of a request, certificate or CRL, and no transcript",
            file.display()
        );
    }
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
