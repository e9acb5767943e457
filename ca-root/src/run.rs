//! Holding a ceremony, from its plan to its transcript.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hsm::Signer;
use hsm::shares::Share;
use pki::ceremony::{
    Ceremony, Confirmation, FileName, Files, Input, KeyOrigin, Known, Opened, Output, Plan,
    PlanRecord, SignedTranscript, Split, Transcript, Witness, name_words,
};
use pki::certificate::Certificate;
use pki::crypto::hex;
use pki::time::Timestamp;

use crate::folder::{self, FOR_ALL, FOR_OWNER, Folder};
use crate::gather;
use crate::secret::Opening;
use crate::signed::{Finished, sign};

const TOOL: &str = concat!("ca-root ", env!("CARGO_PKG_VERSION"));
const TRANSCRIPT_VERSION: u32 = 1;

/// Arguments of `ca-root run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The plan; see `ca-root plan`.
    plan: PathBuf,
    /// Where the transcript goes; it must not exist.
    #[arg(long)]
    transcript: PathBuf,
    /// Do not ask; for scripts. The transcript says so.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) opening: Opening,
    /// Read the token's PIN from this file; by default it is asked for on the terminal.
    #[arg(long, conflicts_with_all = ["passphrase_file", "share", "ask_shares"])]
    pub(crate) pin_file: Option<PathBuf>,
    /// The folder of the plan's files; the plan's own by default.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A transcript of an earlier ceremony of this root: its authorities' keys and names are refused. May be repeated.
    #[arg(long)]
    known: Vec<PathBuf>,
}

/// A ceremony with everything that it reads in memory: what changes outside from here on changes nothing.
pub(crate) struct Session<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) plan: Plan,
    pub(crate) folder: Folder,
    pub(crate) files: Files,
    pub(crate) known: Vec<Known>,
    known_inputs: Vec<Input>,
    pub(crate) started: Timestamp,
}

/// A ceremony that was confirmed and signed; nothing is written yet.
pub(crate) struct Held {
    pub(crate) signer: Box<dyn Signer>,
    pub(crate) witnesses: Vec<Witness>,
    /// The text of the key file that is to be written, encrypted already.
    pub(crate) new_key: Option<String>,
    pub(crate) shares: Vec<Share>,
    pub(crate) split: Option<Split>,
    pub(crate) opened: Option<Opened>,
    pub(crate) token: Option<KeyOrigin>,
    pub(crate) finished: Vec<Finished>,
}

/// Holds a ceremony.
///
/// Nothing is written and no key is opened before everything was checked, shown and confirmed; a token alone is opened
/// before when a key is made in it. A crash while the files are written leaves `TRANSCRIPT.unfinished`, which names
/// them, and the next run stops at it.
pub(crate) fn run(
    arguments: &Arguments,
    clock: fn() -> Timestamp,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let session = Session::open(arguments, clock())?;
    session.refuse_to_overwrite()?;
    let held = match session.plan.ceremony() {
        Ceremony::CreateRoot(plan) => session.create_root(plan, out)?,
        Ceremony::SplitKey(_) => session.split_key(out)?,
        _ => session.use_root(out)?,
    };
    let transcript = session.transcript(&held, clock())?;
    if session.plan.share_files().is_empty() && !held.shares.is_empty() {
        // Before the key is there: a key whose shares nobody has would be lost.
        gather::show(&held.shares).context("nothing was written")?;
    }
    session.write(&held, &transcript)?;
    session.tell(&held, out)
}

impl<'a> Session<'a> {
    fn open(arguments: &'a Arguments, started: Timestamp) -> anyhow::Result<Self> {
        let text = folder::read_existing(&arguments.plan)?;
        let text = String::from_utf8(text)
            .with_context(|| format!("{}: is not UTF-8", arguments.plan.display()))?;
        let plan = Plan::parse(&text)
            .with_context(|| format!("{} cannot be followed", arguments.plan.display()))?;
        let folder = Folder::of(arguments.dir.as_deref(), &arguments.plan);
        let files = folder.read_all(&plan.inputs())?;
        let mut session = Self {
            arguments,
            plan,
            folder,
            files,
            known: Vec::new(),
            known_inputs: Vec::new(),
            started,
        };
        for path in &arguments.known {
            session.learn(path)?;
        }
        Ok(session)
    }

    /// Takes the authorities of an earlier transcript of the same root.
    fn learn(&mut self, path: &Path) -> anyhow::Result<()> {
        let bytes = folder::read_existing(path)?;
        let shown = path.display();
        let signed = SignedTranscript::parse(&bytes).with_context(|| format!("{shown}"))?;
        let key = self.root()?.public_key()?;
        signed
            .verify_by(&key)
            .with_context(|| format!("{shown}: is not a transcript of this root, unchanged"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.known.extend(signed.transcript().known(&name));
        self.known_inputs.push(Input::of(&name, &bytes));
        Ok(())
    }

    /// The certificate of the root that the plan uses.
    pub(crate) fn root(&self) -> anyhow::Result<Certificate> {
        let name = self.plan.root_certificate();
        let bytes = self.files.get(name);
        let bytes = bytes.with_context(|| format!("{name}: there is no root certificate yet"))?;
        let found = Certificate::parse_pem(bytes).with_context(|| format!("{name}"))?;
        found
            .into_iter()
            .next()
            .with_context(|| format!("{name}: no certificate"))
    }

    fn refuse_to_overwrite(&self) -> anyhow::Result<()> {
        let transcript = &self.arguments.transcript;
        let unfinished = self.unfinished();
        if folder::exists(&unfinished) {
            bail!(
                "{0}: an earlier ceremony was cut off while it wrote its files; {0} names them. A key among them may \
                 be whole: find out what is there, put it away or destroy it, and remove {0}",
                unfinished.display()
            );
        }
        let mut outputs = self.plan.outputs();
        outputs.extend(self.plan.made_key());
        outputs.extend(self.plan.share_files());
        let mut taken: Vec<String> = outputs
            .iter()
            .filter(|name| self.folder.has(name))
            .map(ToString::to_string)
            .collect();
        if folder::exists(transcript) {
            taken.push(transcript.display().to_string());
        }
        if !taken.is_empty() {
            let taken = taken.join(", ");
            bail!("{taken}: exists already, and nothing is overwritten; nothing was signed");
        }
        let name = transcript.file_name().unwrap_or_default();
        let is_output = outputs.iter().any(|output| output.as_str() == name);
        if is_output && self.folder.holds(transcript) {
            bail!("the transcript cannot go into a file that the plan writes");
        }
        Ok(())
    }

    fn transcript(&self, held: &Held, now: Timestamp) -> anyhow::Result<String> {
        let key = held.signer.public_key();
        let mut outputs: Vec<Output> = held.finished.iter().map(|f| f.record.clone()).collect();
        outputs.extend(self.plan.made_key().map(|file| Output::key(file, key)));
        let root_subject = match (self.plan.root_files(), held.finished.first()) {
            (None, Some(made)) => made.record.subject.clone().unwrap_or_default(),
            _ => name_words(self.root()?.subject()),
        };
        let plan_name = self.arguments.plan.file_name().unwrap_or_default();
        let transcript = Transcript {
            version: TRANSCRIPT_VERSION,
            tool: TOOL.to_owned(),
            ceremony: self.plan.kind().to_owned(),
            started: self.started,
            finished: now,
            confirmation: match self.arguments.yes {
                true => Confirmation::ByFlag,
                false => Confirmation::Asked,
            },
            root_subject,
            root_key_sha256: hex(&key.digest()),
            plan: PlanRecord::of(&plan_name.to_string_lossy(), &self.plan),
            token: held.token.clone(),
            opened: held.opened.clone(),
            split: held.split.clone(),
            witnesses: held.witnesses.clone(),
            known: self.known_inputs.clone(),
            inputs: self
                .files
                .iter()
                .map(|(name, bytes)| Input::of(name.as_str(), bytes))
                .collect(),
            outputs,
        };
        let prepared = transcript.prepare(key)?;
        Ok(sign(&*held.signer, prepared)?.to_file())
    }

    fn unfinished(&self) -> PathBuf {
        let mut path = self.arguments.transcript.clone().into_os_string();
        path.push(".unfinished");
        path.into()
    }

    /// Writes everything: first the note that it was begun, then what opens the key, then the key, last the transcript.
    fn write(&self, held: &Held, transcript: &str) -> anyhow::Result<()> {
        let unfinished = self.unfinished();
        let key = self.plan.made_key().zip(held.new_key.as_deref());
        let mut names: Vec<&FileName> = held.finished.iter().map(|f| &f.name).collect();
        names.extend(key.map(|(name, _)| name));
        names.extend(self.plan.share_files());
        let names: Vec<&str> = names.into_iter().map(FileName::as_str).collect();
        let note = format!(
            "ca-root began to write these files, for the plan with SHA-256 {}:\n{}\n",
            hex(&self.plan.digest()),
            names.join("\n")
        );
        folder::write_new(&unfinished, note.as_bytes(), FOR_ALL)?;
        // A crash from here to the end leaves the note, and with it some of the files.
        let written = || -> anyhow::Result<()> {
            for (name, share) in self.plan.share_files().iter().zip(&held.shares) {
                let text = share.to_text();
                folder::write_new(&self.folder.path(name), text.as_bytes(), FOR_OWNER)?;
            }
            if let Some((name, text)) = key {
                folder::write_new(&self.folder.path(name), text.as_bytes(), FOR_OWNER)?;
            }
            for Finished { name, pem, .. } in &held.finished {
                folder::write_new(&self.folder.path(name), pem.as_bytes(), FOR_ALL)?;
            }
            folder::write_new(&self.arguments.transcript, transcript.as_bytes(), FOR_ALL)
        };
        written().with_context(|| {
            let note = unfinished.display();
            format!("the ceremony is not complete, some files were written; {note} names them")
        })?;
        std::fs::remove_file(&unfinished).with_context(|| {
            format!(
                "{}: everything was written, but not removed this",
                unfinished.display()
            )
        })
    }

    fn tell(&self, held: &Held, out: &mut dyn Write) -> anyhow::Result<()> {
        for finished in &held.finished {
            writeln!(out, "wrote {}", finished.name)?;
        }
        if let Some(key) = self.plan.made_key() {
            writeln!(out, "wrote {key}, the key, encrypted")?;
        }
        for (name, share) in self.plan.share_files().iter().zip(&held.shares) {
            let holder = share.holder();
            writeln!(
                out,
                "wrote {name}, for {holder} alone; destroy it when it is on paper"
            )?;
        }
        if let Some(opened) = &held.opened {
            for share in &opened.shares {
                writeln!(out, "share {} of {} was used", share.number, share.holder)?;
            }
        }
        let transcript = self.arguments.transcript.display();
        writeln!(out, "wrote {transcript}, the transcript")?;
        Ok(())
    }
}
