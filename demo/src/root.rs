//! The offline root, as `ca-root` holds it: a plan, a key file, certificates, and a transcript of each ceremony. Here
//! it lies in a directory that stands for the offline machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ca_server::entropy::{SystemEntropy, draw};
use hsm::{Signer, SoftwareSigner, key_file};
use pki::artefact::{Artefact, Prepared};
use pki::ceremony::{
    Ceremony, Confirmation, Entropy, FileName, Files, Input, Materials, Output, Plan, PlanRecord,
    Task, Transcript, Work, name_words, prepare, prepare_first_crl, prepare_root,
};
use pki::certificate::Certificate;
use pki::name::AuthorityId;
use pki::time::Timestamp;
use zeroize::Zeroizing;

use crate::home::{self, Home};

/// The directory that stands for the offline machine.
pub(crate) const FOLDER: &str = "root-offline";
/// The root's certificate, as everybody may have it.
pub(crate) const ROOT: &str = "root.pem";
/// Its first CRL, which revokes nothing.
pub(crate) const CRL: &str = "root.crl.pem";
/// The transcript of the ceremony that made the root.
pub(crate) const TRANSCRIPT: &str = "create-root.transcript";
const PLAN: &str = "create-root.toml";
const PASSPHRASE: &str = "passphrase";
const KEY: &str = "root.key";
const TOOL: &str = concat!("demo ", env!("CARGO_PKG_VERSION"));

const CREATE_ROOT: &str = r#"# The try-out's root.
version = 1
ceremony = "create-root"

[root]
name = "Signet Demo Root 1"
organization = "demo.signet"
algorithm = "P-256"
life = "10y"

[outputs]
certificate = "root.pem"
key = "root.key"
crl = "root.crl.pem"
"#;

/// The root: its folder, and its certificate.
#[derive(Debug)]
pub(crate) struct OfflineRoot {
    folder: PathBuf,
    certificate: Certificate,
}

impl OfflineRoot {
    /// Takes up the root, or makes it; tells whether it was made.
    pub(crate) fn open(home: &Home, now: Timestamp) -> Result<(Self, bool)> {
        let folder = home.path(FOLDER);
        let is_new = !folder.exists();
        if is_new {
            // Made beside, and moved when it is whole: half a root is none.
            let staged = home.path("root-offline.new");
            if staged.exists() {
                std::fs::remove_dir_all(&staged).with_context(|| staged.display().to_string())?;
            }
            home.make("root-offline.new")?;
            create(&staged, now)?;
            std::fs::rename(&staged, &folder).with_context(|| folder.display().to_string())?;
        }
        let pem = read(&folder, ROOT)?;
        let mut found = Certificate::parse_pem(&pem).context(ROOT)?;
        if found.len() != 1 {
            bail!("{}: --clean starts over", folder.join(ROOT).display());
        }
        let certificate = found.remove(0);
        // What everybody gets to know of the root.
        home.write(ROOT, certificate.to_pem().as_bytes())?;
        let root = Self {
            folder,
            certificate,
        };
        Ok((root, is_new))
    }

    /// PEM of its first CRL.
    pub(crate) fn crl(&self) -> Result<Vec<u8>> {
        read(&self.folder, CRL)
    }

    /// The certificate.
    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs an authority's request; gives its certificate with the root's. What was signed for this key before is
    /// given again.
    pub(crate) fn sign(
        &self,
        authority: &AuthorityId,
        request: &[u8],
        now: Timestamp,
    ) -> Result<Vec<Certificate>> {
        let out = format!("{authority}.pem");
        if !self.folder.join(&out).exists() {
            home::write(&self.folder.join(format!("{authority}.csr.pem")), request)?;
            self.hold(&authority.to_string(), &sign_plan(authority), now)
                .with_context(|| format!("the ceremony for {authority}"))?;
        }
        let mut chain = Certificate::parse_pem(&read(&self.folder, &out)?).context(out)?;
        chain.push(self.certificate.clone());
        Ok(chain)
    }

    /// Holds a ceremony with the root's key. The certificate is written last: where it is, everything is.
    fn hold(&self, name: &str, text: &str, started: Timestamp) -> Result<()> {
        let plan_name = format!("{name}.toml");
        home::write(&self.folder.join(&plan_name), text.as_bytes())?;
        let plan = Plan::parse(text)?;
        let mut files = Files::new();
        for input in plan.inputs() {
            files.insert(input.clone(), read(&self.folder, input.as_str())?);
        }
        let mut entropy = Entropy::new();
        for output in plan.outputs() {
            entropy.insert(output.clone(), draw(&SystemEntropy::default())?);
        }
        let materials = Materials {
            files: &files,
            known: &[],
            entropy: &entropy,
            now: started,
        };
        let tasks = prepare(&plan, &materials)?;
        let passphrase = Zeroizing::new(read(&self.folder, PASSPHRASE)?);
        let signer = key_file::open(&self.folder.join(KEY), &passphrase)?;
        let signed: Vec<Signed> = tasks
            .into_iter()
            .map(|task| Signed::new(&signer, task))
            .collect::<Result<_>>()?;
        let record = Record {
            folder: &self.folder,
            name,
            plan: PlanRecord::of(&plan_name, &plan),
            kind: plan.kind(),
            subject: name_words(self.certificate.subject()),
            started,
        };
        record.write(&signer, &files, &signed, None)?;
        write_all(&self.folder, &signed)
    }
}

fn sign_plan(authority: &AuthorityId) -> String {
    format!(
        r#"# An intermediate of the try-out.
version = 1
ceremony = "sign-intermediate"

[root]
certificate = "root.pem"
key = "root.key"

[[intermediate]]
request = "{authority}.csr.pem"
profile = "cluster-intermediate"
organization = "demo.signet"
life = "1y"
path_len = 0
out = "{authority}.pem"
"#
    )
}

/// Makes the root in an empty folder.
fn create(folder: &Path, now: Timestamp) -> Result<()> {
    let plan = Plan::parse(CREATE_ROOT)?;
    let Ceremony::CreateRoot(create) = plan.ceremony() else {
        bail!("the plan makes a root");
    };
    let (signer, pkcs8) = SoftwareSigner::generate(create.algorithm())?;
    let serial = draw(&SystemEntropy::default())?;
    let task = prepare_root(create, signer.public_key(), serial, now)?;
    let Work::Certificate(prepared) = task.work else {
        bail!("a root begins with its certificate");
    };
    let certificate = seal(&signer, prepared)?;
    let crl = prepare_first_crl(create, &certificate, now)?;
    let signed = [
        Signed::certificate(task.output, &certificate),
        Signed::new(&signer, crl)?,
    ];
    let passphrase = home::new_passphrase()?;
    home::write(&folder.join(PASSPHRASE), passphrase.as_bytes())?;
    key_file::write_new(&folder.join(KEY), &pkcs8, passphrase.as_bytes())?;
    home::write(&folder.join(PLAN), CREATE_ROOT.as_bytes())?;
    write_all(folder, &signed)?;
    let record = Record {
        folder,
        name: "create-root",
        plan: PlanRecord::of(PLAN, &plan),
        kind: plan.kind(),
        subject: name_words(certificate.subject()),
        started: now,
    };
    let key = plan.made_key();
    let key = key.map(|file| Output::key(file, signer.public_key()));
    record.write(&signer, &Files::new(), &signed, key)
}

/// A certificate or CRL that was signed.
struct Signed {
    name: FileName,
    pem: String,
    output: Output,
}

impl Signed {
    fn new(signer: &SoftwareSigner, task: Task) -> Result<Self> {
        match task.work {
            Work::Certificate(prepared) => {
                Ok(Self::certificate(task.output, &seal(signer, prepared)?))
            }
            Work::Crl(prepared) => {
                let crl = seal(signer, prepared)?;
                let pem = crl.to_pem();
                Ok(Self {
                    output: Output::crl(&task.output, pem.as_bytes(), &crl),
                    name: task.output,
                    pem,
                })
            }
        }
    }

    fn certificate(name: FileName, certificate: &Certificate) -> Self {
        let pem = certificate.to_pem();
        Self {
            output: Output::certificate(&name, pem.as_bytes(), certificate),
            name,
            pem,
        }
    }
}

fn seal<T: Artefact>(signer: &SoftwareSigner, prepared: Prepared<T>) -> Result<T> {
    let signature = signer.sign(prepared.to_be_signed())?;
    Ok(prepared.seal(&signature)?)
}

/// What a transcript tells beside the files.
struct Record<'a> {
    folder: &'a Path,
    name: &'a str,
    plan: PlanRecord,
    kind: &'a str,
    subject: String,
    started: Timestamp,
}

impl Record<'_> {
    fn write(
        self,
        signer: &SoftwareSigner,
        inputs: &Files,
        signed: &[Signed],
        key: Option<Output>,
    ) -> Result<()> {
        let inputs = inputs.iter();
        let transcript = Transcript {
            version: 1,
            tool: TOOL.to_owned(),
            ceremony: self.kind.to_owned(),
            started: self.started,
            finished: self.started,
            confirmation: Confirmation::ByFlag,
            root_subject: self.subject,
            root_key_sha256: pki::crypto::hex(&signer.public_key().digest()),
            plan: self.plan,
            token: None,
            opened: None,
            split: None,
            witnesses: Vec::new(),
            known: Vec::new(),
            inputs: inputs
                .map(|(name, bytes)| Input::of(name.as_str(), bytes))
                .collect(),
            outputs: signed
                .iter()
                .map(|signed| signed.output.clone())
                .chain(key)
                .collect(),
        };
        let sealed = seal(signer, transcript.prepare(signer.public_key())?)?;
        let path = self.folder.join(format!("{}.transcript", self.name));
        home::write(&path, sealed.to_file().as_bytes())
    }
}

fn write_all(folder: &Path, signed: &[Signed]) -> Result<()> {
    signed.iter().try_for_each(|signed| {
        home::write(&folder.join(signed.name.as_str()), signed.pem.as_bytes())
    })
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    std::fs::read(&path).with_context(|| format!("{}: --clean starts over", path.display()))
}
