//! Holding a ceremony.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hsm::{Signer, SoftwareSigner, key_file};
use pki::ceremony::{
    Ceremony, Confirmation, CreateRoot, Entropy, Files, Input, Known, Materials, Output, Plan,
    PlanRecord, SignedTranscript, Task, Transcript, Work, digest_words, name_words, prepare,
    prepare_first_crl, prepare_root,
};
use pki::certificate::Certificate;
use pki::crypto::hex;
use pki::time::Timestamp;

use crate::folder::{self, FOR_ALL, FOR_OWNER, Folder};
use crate::passphrase;
use crate::signed::{Finished, finish, random_octets, sign};

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
    yes: bool,
    /// Read the key's passphrase from this file; by default it is asked for on the terminal.
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
    /// The folder of the plan's files; the plan's own by default.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A transcript of an earlier ceremony of this root: its authorities' keys and names are refused. May be repeated.
    #[arg(long)]
    known: Vec<PathBuf>,
}

/// A ceremony with everything that it reads in memory: what changes outside from here on changes nothing.
struct Session<'a> {
    arguments: &'a Arguments,
    plan: Plan,
    folder: Folder,
    files: Files,
    known: Vec<Known>,
    known_inputs: Vec<Input>,
    started: Timestamp,
}

/// The text of the key file of a key that was made, encrypted already.
type NewKey = Option<String>;

/// Holds a ceremony.
///
/// Nothing is written and no key is opened before everything was checked, shown and confirmed. A crash while the
/// files are written leaves `TRANSCRIPT.unfinished`, which names them, and the next run stops at it.
pub(crate) fn run(
    arguments: &Arguments,
    clock: fn() -> Timestamp,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let session = Session::open(arguments, clock())?;
    session.refuse_to_overwrite()?;
    let (signer, new_key, finished) = match session.plan.ceremony() {
        Ceremony::CreateRoot(plan) => session.create_root(plan, out)?,
        _ => session.use_root(out)?,
    };
    let transcript = session.transcript(&*signer, &finished, new_key.is_some(), clock())?;
    session.write(&new_key, &finished, &transcript)?;
    for finished in &finished {
        writeln!(out, "wrote {}", finished.name)?;
    }
    if new_key.is_some() {
        writeln!(out, "wrote {}, the key, encrypted", session.plan.key().0)?;
    }
    writeln!(
        out,
        "wrote {}, the transcript",
        arguments.transcript.display()
    )?;
    Ok(())
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
    fn root(&self) -> anyhow::Result<Certificate> {
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
        let (key, made) = self.plan.key();
        let mut outputs = self.plan.outputs();
        outputs.extend(made.then_some(key));
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

    fn create_root(
        &self,
        plan: &CreateRoot,
        out: &mut dyn Write,
    ) -> anyhow::Result<(Box<dyn Signer>, NewKey, Vec<Finished>)> {
        let (signer, pkcs8) = SoftwareSigner::generate(plan.algorithm())?;
        let task = prepare_root(plan, signer.public_key(), random_octets()?, self.started)?;
        self.confirm(std::slice::from_ref(&task), out)?;
        let passphrase = passphrase::read(self.arguments.passphrase_file.as_deref(), true)?;
        let key_file = key_file::encrypt(&pkcs8, &passphrase).context("nothing was signed")?;
        // A file that does not open would be found out at the next ceremony: too late.
        key_file::decrypt(key_file.as_bytes(), &passphrase).context("nothing was signed")?;
        let certificate = task.output;
        let Work::Certificate(prepared) = task.work else {
            bail!("a root begins with its certificate");
        };
        let root = sign(&signer, prepared)?;
        let crl = prepare_first_crl(plan, &root, self.started)?;
        let finished = vec![
            Finished::certificate(certificate, &root),
            finish(&signer, crl)?,
        ];
        Ok((Box::new(signer), Some(key_file), finished))
    }

    fn use_root(
        &self,
        out: &mut dyn Write,
    ) -> anyhow::Result<(Box<dyn Signer>, NewKey, Vec<Finished>)> {
        let mut entropy = Entropy::new();
        for output in self.plan.outputs() {
            entropy.insert(output.clone(), random_octets()?);
        }
        let materials = Materials {
            files: &self.files,
            known: &self.known,
            entropy: &entropy,
            now: self.started,
        };
        let tasks = prepare(&self.plan, &materials).context("refused; nothing was signed")?;
        let (key, _) = self.plan.key();
        let key_bytes = self.folder.read(key)?;
        let key_bytes = key_bytes.with_context(|| format!("{key}: is not there"))?;
        self.confirm(&tasks, out)?;

        let passphrase = passphrase::read(self.arguments.passphrase_file.as_deref(), false)?;
        let signer = key_file::decrypt(&key_bytes, &passphrase)
            .with_context(|| format!("{key}; nothing was signed"))?;
        if *signer.public_key() != self.root()?.public_key()? {
            let certificate = self.plan.root_certificate();
            bail!("{key} is not the key of {certificate}; nothing was signed");
        }
        let finished = tasks
            .into_iter()
            .map(|task| finish(&signer, task))
            .collect::<anyhow::Result<_>>()?;
        Ok((Box::new(signer), None, finished))
    }

    /// Shows everything, then asks.
    fn confirm(&self, tasks: &[Task], out: &mut dyn Write) -> anyhow::Result<()> {
        writeln!(out, "ceremony {}, at {}", self.plan.kind(), self.started)?;
        writeln!(out, "plan SHA-256 {}", hex(&self.plan.digest()))?;
        if let Ok(root) = self.root() {
            let key = digest_words(&root.public_key()?.digest());
            writeln!(
                out,
                "with root {}\n  its key's SHA-256 {key}",
                name_words(root.subject())
            )?;
        }
        for (i, task) in tasks.iter().enumerate() {
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
        if self.arguments.yes {
            writeln!(out, "not asked: --yes")?;
            return Ok(());
        }
        write!(out, "sign? type yes: ")?;
        out.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if answer.trim() != "yes" {
            bail!("not confirmed; nothing was signed");
        }
        Ok(())
    }

    fn transcript(
        &self,
        signer: &dyn Signer,
        finished: &[Finished],
        key_is_new: bool,
        now: Timestamp,
    ) -> anyhow::Result<String> {
        let mut outputs: Vec<Output> = finished.iter().map(|f| f.record.clone()).collect();
        if key_is_new {
            outputs.push(Output::key(self.plan.key().0, signer.public_key()));
        }
        let root_subject = match finished.first() {
            Some(root) if key_is_new => root.record.subject.clone().unwrap_or_default(),
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
            root_key_sha256: hex(&signer.public_key().digest()),
            plan: PlanRecord::of(&plan_name.to_string_lossy(), &self.plan),
            known: self.known_inputs.clone(),
            inputs: self
                .files
                .iter()
                .map(|(name, bytes)| Input::of(name.as_str(), bytes))
                .collect(),
            outputs,
        };
        let prepared = transcript.prepare(signer.public_key())?;
        Ok(sign(signer, prepared)?.to_file())
    }

    fn unfinished(&self) -> PathBuf {
        let mut path = self.arguments.transcript.clone().into_os_string();
        path.push(".unfinished");
        path.into()
    }

    /// Writes everything: first the note that it was begun, last the transcript.
    fn write(
        &self,
        new_key: &NewKey,
        finished: &[Finished],
        transcript: &str,
    ) -> anyhow::Result<()> {
        let unfinished = self.unfinished();
        let key = self.plan.key().0;
        let mut names: Vec<&str> = finished.iter().map(|f| f.name.as_str()).collect();
        names.extend(new_key.as_ref().map(|_| key.as_str()));
        let note = format!(
            "ca-root began to write these files, for the plan with SHA-256 {}:\n{}\n",
            hex(&self.plan.digest()),
            names.join("\n")
        );
        folder::write_new(&unfinished, note.as_bytes(), FOR_ALL)?;
        // A crash from here to the end leaves the note, and with it some of the files.
        let written = || -> anyhow::Result<()> {
            if let Some(key_file) = new_key {
                folder::write_new(&self.folder.path(key), key_file.as_bytes(), FOR_OWNER)?;
            }
            for Finished { name, pem, .. } in finished {
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
}
