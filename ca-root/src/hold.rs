//! The three ways of a ceremony from its plan to signatures: a root is made, a root is used, a key gets new shares.

use std::io::Write;

use anyhow::{Context, bail};
use hsm::pkcs11::{Pin, Token, TokenSigner};
use hsm::{Signer, SoftwareSigner, key_file, shares};
use pki::ceremony::{
    CreateRoot, Entropy, KeyOrigin, KeyPlace, Materials, Opened, Task, TokenKey, Witness, Work,
    name_words, prepare, prepare_first_crl, prepare_root,
};
use zeroize::Zeroizing;

use crate::confirm::{Shown, confirm};
use crate::gather::deal;
use crate::run::{Held, Session};
use crate::secret::passphrase;
use crate::signed::{Finished, finish, random_octets, sign};

/// A ceremony signs one thing after the other.
const TOKEN_SESSIONS: usize = 1;

/// The key of a root that exists, opened.
struct OpenKey {
    signer: Box<dyn Signer>,
    /// What opened it: a passphrase or a PIN.
    secret: Zeroizing<Vec<u8>>,
    opened: Option<Opened>,
    token: Option<KeyOrigin>,
}

impl Session<'_> {
    pub(crate) fn create_root(
        &self,
        plan: &CreateRoot,
        out: &mut dyn Write,
    ) -> anyhow::Result<Held> {
        match self.plan.key() {
            KeyPlace::File(_) => self.create_in_file(plan, out),
            KeyPlace::Token(key) => self.create_in_token(plan, key, out),
        }
    }

    fn create_in_file(&self, plan: &CreateRoot, out: &mut dyn Write) -> anyhow::Result<Held> {
        let opening = &self.arguments.opening;
        if self.plan.sharing().is_some() && opening.passphrase_file.is_some() {
            bail!("the plan splits what opens the key: there is no passphrase to give");
        }
        let (signer, pkcs8) = SoftwareSigner::generate(plan.algorithm())?;
        let task = prepare_root(plan, signer.public_key(), random_octets()?, self.started)?;
        let witnesses = self.confirm(&signer, None, std::slice::from_ref(&task), out)?;
        let (dealt, secret) = match self.plan.sharing() {
            None => (None, passphrase(opening.passphrase_file.as_deref(), true)?),
            Some(sharing) => {
                let secret = shares::fresh_secret()?;
                let passphrase = shares::passphrase(&secret);
                (
                    Some(deal(&secret, &plan.root_name(), sharing)?),
                    Zeroizing::new(passphrase.as_bytes().to_vec()),
                )
            }
        };
        let key_file = key_file::encrypt(&pkcs8, &secret).context("nothing was signed")?;
        // A file that does not open would be found out at the next ceremony: too late.
        key_file::decrypt(key_file.as_bytes(), &secret).context("nothing was signed")?;
        let finished = self.sign_root(plan, &signer, task)?;
        let (shares, split) = dealt.unzip();
        Ok(Held {
            signer: Box::new(signer),
            witnesses,
            new_key: Some(key_file),
            shares: shares.unwrap_or_default(),
            split,
            opened: None,
            token: None,
            finished,
        })
    }

    fn create_in_token(
        &self,
        plan: &CreateRoot,
        key: &TokenKey,
        out: &mut dyn Write,
    ) -> anyhow::Result<Held> {
        let secret = self
            .arguments
            .opening
            .pin(self.arguments.pin_file.as_deref(), None, &[])?;
        if secret.opened.is_some() {
            bail!("a token's PIN is split when its root is made, and not before");
        }
        let dealt = self
            .plan
            .sharing()
            .map(|sharing| deal(&secret.bytes, &plan.root_name(), sharing))
            .transpose()?;
        let token = open_token(key, &secret.bytes)?;
        let label = key.uri().object().unwrap_or_default();
        let signer = token
            .generate(label, plan.algorithm())
            .with_context(|| format!("no key was made in {}", key.uri()))?;
        // The certificate is shown with its key, so the key is made first; whoever says no has it to remove.
        self.create_with(plan, key, signer, out)
            .with_context(|| {
                format!(
                    "the new key {label:?} is in the token and belongs to nothing: \
                     remove it with pkcs11-tool --delete-object"
                )
            })
            .map(|held| {
                let (shares, split) = dealt.unzip();
                Held {
                    shares: shares.unwrap_or_default(),
                    split,
                    ..held
                }
            })
    }

    fn create_with(
        &self,
        plan: &CreateRoot,
        key: &TokenKey,
        signer: TokenSigner,
        out: &mut dyn Write,
    ) -> anyhow::Result<Held> {
        let origin = confined(key, &signer)?;
        let task = prepare_root(plan, signer.public_key(), random_octets()?, self.started)?;
        let words = signer.origin().to_string();
        let witnesses = self.confirm(&signer, Some(words), std::slice::from_ref(&task), out)?;
        let finished = self.sign_root(plan, &signer, task)?;
        Ok(Held {
            signer: Box::new(signer),
            witnesses,
            new_key: None,
            shares: Vec::new(),
            split: None,
            opened: None,
            token: Some(origin),
            finished,
        })
    }

    /// The certificate, and then the CRL that it takes to be believed.
    fn sign_root(
        &self,
        plan: &CreateRoot,
        signer: &dyn Signer,
        task: Task,
    ) -> anyhow::Result<Vec<Finished>> {
        let certificate = task.output;
        let Work::Certificate(prepared) = task.work else {
            bail!("a root begins with its certificate");
        };
        let root = sign(signer, prepared)?;
        let crl = prepare_first_crl(plan, &root, self.started)?;
        Ok(vec![
            Finished::certificate(certificate, &root),
            finish(signer, crl)?,
        ])
    }

    pub(crate) fn use_root(&self, out: &mut dyn Write) -> anyhow::Result<Held> {
        let (witnesses, key, finished) = self.sign_all(out)?;
        Ok(Held {
            signer: key.signer,
            witnesses,
            new_key: None,
            shares: Vec::new(),
            split: None,
            opened: key.opened,
            token: key.token,
            finished,
        })
    }

    pub(crate) fn split_key(&self, out: &mut dyn Write) -> anyhow::Result<Held> {
        let sharing = self.plan.sharing().context("the plan has no shares")?;
        let (witnesses, key, finished) = self.sign_all(out)?;
        let root = self.root_name()?;
        let ((shares, split), new_key) = match self.plan.key() {
            KeyPlace::Token(_) => (deal(&key.secret, &root, sharing)?, None),
            KeyPlace::File(file) => {
                let secret = shares::fresh_secret()?;
                let dealt = deal(&secret, &root, sharing)?;
                let text = self.folder.read(file)?;
                let text = text.with_context(|| format!("{file}: is not there"))?;
                let passphrase = shares::passphrase(&secret);
                let (signer, text) = key_file::reencrypt(&text, &key.secret, passphrase.as_bytes())
                    .with_context(|| format!("{file}"))?;
                if signer.public_key() != key.signer.public_key() {
                    bail!("{file} was changed meanwhile; nothing was written");
                }
                (dealt, Some(text))
            }
        };
        Ok(Held {
            signer: key.signer,
            witnesses,
            new_key,
            shares,
            split: Some(split),
            opened: key.opened,
            token: key.token,
            finished,
        })
    }

    /// Prepares, shows, asks, opens the key, signs.
    fn sign_all(
        &self,
        out: &mut dyn Write,
    ) -> anyhow::Result<(Vec<Witness>, OpenKey, Vec<Finished>)> {
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
        let key_file = match self.plan.key() {
            KeyPlace::Token(_) => None,
            KeyPlace::File(file) => {
                let bytes = self.folder.read(file)?;
                Some(bytes.with_context(|| format!("{file}: is not there"))?)
            }
        };
        let root = self.root()?;
        let shown = Shown {
            plan: &self.plan,
            started: self.started,
            key: root.public_key()?.digest(),
            root: Some(root),
            origin: None,
            tasks: &tasks,
        };
        let witnesses = confirm(&shown, self.arguments.yes, out)?;
        let key = self.open_key(key_file.as_deref())?;
        let finished = tasks
            .into_iter()
            .map(|task| finish(&*key.signer, task))
            .collect::<anyhow::Result<_>>()?;
        Ok((witnesses, key, finished))
    }

    fn open_key(&self, key_file: Option<&[u8]>) -> anyhow::Result<OpenKey> {
        let root = self.root_name()?;
        let opened_by = self.plan.opened_by();
        let opening = &self.arguments.opening;
        let key = match self.plan.key() {
            KeyPlace::File(file) => {
                if self.arguments.pin_file.is_some() {
                    bail!("{file} has a passphrase and no PIN: give --passphrase-file");
                }
                let secret = opening.passphrase(Some(&root), opened_by)?;
                let signer = key_file::decrypt(key_file.unwrap_or_default(), &secret.bytes)
                    .with_context(|| format!("{file}; nothing was signed"))?;
                OpenKey {
                    signer: Box::new(signer),
                    secret: secret.bytes,
                    opened: secret.opened,
                    token: None,
                }
            }
            KeyPlace::Token(key) => {
                let file = self.arguments.pin_file.as_deref();
                let secret = opening.pin(file, Some(&root), opened_by)?;
                let signer = open_token(key, &secret.bytes)?
                    .find(key.uri())
                    .with_context(|| format!("{}; nothing was signed", key.uri()))?;
                OpenKey {
                    token: Some(confined(key, &signer)?),
                    signer: Box::new(signer),
                    secret: secret.bytes,
                    opened: secret.opened,
                }
            }
        };
        if *key.signer.public_key() != self.root()?.public_key()? {
            let (place, certificate) = (self.plan.key(), self.plan.root_certificate());
            bail!("{place} is not the key of {certificate}; nothing was signed");
        }
        Ok(key)
    }

    fn confirm(
        &self,
        signer: &dyn Signer,
        origin: Option<String>,
        tasks: &[Task],
        out: &mut dyn Write,
    ) -> anyhow::Result<Vec<Witness>> {
        let shown = Shown {
            plan: &self.plan,
            started: self.started,
            root: None,
            key: signer.public_key().digest(),
            origin,
            tasks,
        };
        confirm(&shown, self.arguments.yes, out)
    }

    /// The name of the root that the plan uses, as its shares carry it.
    fn root_name(&self) -> anyhow::Result<String> {
        Ok(name_words(self.root()?.subject()))
    }
}

fn open_token(key: &TokenKey, pin: &[u8]) -> anyhow::Result<std::sync::Arc<Token>> {
    let pin = Pin::new(Zeroizing::new(pin.to_vec()))?;
    Token::open(key.module(), key.uri(), pin, TOKEN_SESSIONS).with_context(|| {
        format!(
            "the token of {} was not opened; nothing was signed",
            key.uri()
        )
    })
}

/// What the token says about the key, when the plan takes that.
fn confined(key: &TokenKey, signer: &TokenSigner) -> anyhow::Result<KeyOrigin> {
    let origin = signer.origin();
    if key.is_confined() && !origin.is_confined() {
        bail!(
            "{}: {origin}; the plan demands a key that was made in its token and cannot leave it",
            key.uri()
        );
    }
    Ok(KeyOrigin {
        uri: signer.uri().clone(),
        local: origin.local,
        sensitive: origin.sensitive,
        always_sensitive: origin.always_sensitive,
        extractable: origin.extractable,
        never_extractable: origin.never_extractable,
    })
}
