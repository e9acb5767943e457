//! The plan: the one thing that says what a ceremony does.

use std::collections::BTreeSet;

use crate::ceremony::fault::Faults;
use crate::ceremony::file_name::FileName;
use crate::ceremony::key_place::KeyPlace;
use crate::ceremony::people::{Person, Sharing};
use crate::ceremony::read;
use crate::ceremony::words::name_words;
use crate::certificate::Urls;
use crate::crl::Reason;
use crate::crypto::{self, Digest};
use crate::key::KeyAlgorithm;
use crate::name::DistinguishedName;
use crate::profile::Profile;
use crate::serial::Serial;
use crate::time::{Timestamp, Ttl};

/// The longest plan that is read.
pub const MAX_PLAN_BYTES: usize = 64 * 1024;
/// A plan, read and typed; its files are not looked at yet.
#[derive(Clone, Debug)]
pub struct Plan {
    text: String,
    witnesses: Vec<Person>,
    ceremony: Ceremony,
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Ceremony {
    /// A root is made.
    CreateRoot(CreateRoot),
    /// Intermediates are signed.
    SignIntermediate(SignIntermediate),
    /// A CRL is signed.
    IssueCrl(IssueCrl),
    /// A new root is signed by the old one.
    CrossSign(CrossSign),
    /// Intermediates are signed again, for the keys and under the names that they have.
    ReissueIntermediate(ReissueIntermediate),
    /// What opens the root's key is split anew.
    SplitKey(SplitKey),
}

/// Making a root: key, certificate and first CRL.
#[derive(Clone, Debug)]
pub struct CreateRoot {
    pub(super) subject: DistinguishedName,
    pub(super) algorithm: KeyAlgorithm,
    pub(super) life: Ttl,
    pub(super) certificate: FileName,
    pub(super) key: KeyPlace,
    pub(super) crl: FileName,
    pub(super) crl_life: Ttl,
    pub(super) sharing: Option<Sharing>,
}

impl CreateRoot {
    /// The kind of key to make.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The root's name, as shares carry it and [`name_words`] writes it.
    #[must_use]
    pub fn root_name(&self) -> String {
        name_words(&self.subject.to_der())
    }
}

/// The files of a root that exists.
#[derive(Clone, Debug)]
pub struct RootFiles {
    /// Its certificate.
    pub certificate: FileName,
    /// Its key.
    pub key: KeyPlace,
    /// Whose shares open it; empty when the plan does not say.
    pub opened_by: Vec<Person>,
}

/// Signing intermediates.
#[derive(Clone, Debug)]
pub struct SignIntermediate {
    pub(super) root: RootFiles,
    pub(super) urls: Urls,
    pub(super) intermediates: Vec<Intermediate>,
    pub(super) known: Vec<FileName>,
}

#[derive(Clone, Debug)]
pub(super) struct Intermediate {
    pub(super) request: FileName,
    pub(super) profile: Profile,
    pub(super) name: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) key_sha256: Option<Digest>,
    pub(super) life: Ttl,
    pub(super) path_len: u8,
    pub(super) out: FileName,
}

/// Signing a CRL.
#[derive(Clone, Debug)]
pub struct IssueCrl {
    pub(super) root: RootFiles,
    /// `None` stands for one more than the previous CRL's.
    pub(super) number: Option<u64>,
    pub(super) previous: Option<FileName>,
    pub(super) life: Ttl,
    pub(super) out: FileName,
    pub(super) revoke: Vec<Revoke>,
}

#[derive(Clone, Debug)]
pub(super) struct Revoke {
    pub(super) which: Which,
    pub(super) reason: Reason,
    pub(super) at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) enum Which {
    Certificate(FileName),
    Serial(Serial),
}

/// Signing a new root by the old one: who believes in the old one then believes in the new one as well.
#[derive(Clone, Debug)]
pub struct CrossSign {
    pub(super) root: RootFiles,
    pub(super) urls: Urls,
    pub(super) certificate: FileName,
    pub(super) key_sha256: Option<Digest>,
    pub(super) life: Ttl,
    pub(super) path_len: u8,
    pub(super) out: FileName,
}

/// Signing intermediates again.
#[derive(Clone, Debug)]
pub struct ReissueIntermediate {
    pub(super) root: RootFiles,
    pub(super) urls: Urls,
    /// What it revokes is not signed again.
    pub(super) crl: Option<FileName>,
    pub(super) intermediates: Vec<Reissue>,
}

#[derive(Clone, Debug)]
pub(super) struct Reissue {
    pub(super) certificate: FileName,
    /// A proof that the key is still there.
    pub(super) request: Option<FileName>,
    pub(super) profile: Profile,
    pub(super) key_sha256: Option<Digest>,
    pub(super) life: Ttl,
    pub(super) out: FileName,
}

/// Splitting what opens the root's key: the first time, or among other people.
#[derive(Clone, Debug)]
pub struct SplitKey {
    pub(super) root: RootFiles,
    /// The new key file; none for a token, whose PIN is split as it is.
    pub(super) key: Option<FileName>,
    pub(super) sharing: Sharing,
}

/// The root of a plan.
enum Root<'a> {
    Made(&'a CreateRoot),
    Used(&'a RootFiles),
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// Everything that is wrong with it; unknown keys are.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        if text.len() > MAX_PLAN_BYTES {
            let what = format!("has {} bytes, {MAX_PLAN_BYTES} are allowed", text.len());
            return Err(Faults::one("plan", what));
        }
        let (ceremony, witnesses) = read::ceremony(text)?;
        let plan = Self {
            text: text.to_owned(),
            witnesses,
            ceremony,
        };
        let faults = plan.doubles();
        faults.or(Some(plan))
    }

    /// A file is written once, and never one that is read.
    fn doubles(&self) -> Faults {
        let mut faults = Faults::default();
        let mut taken: BTreeSet<&FileName> = self.inputs().into_iter().collect();
        if let Some(key) = self.key().file()
            && !taken.insert(key)
        {
            faults.push(key.as_str(), "is the key file and something else");
        }
        let made_key = self.made_key().filter(|_| self.root_files().is_some());
        for output in self
            .outputs()
            .into_iter()
            .chain(made_key)
            .chain(self.share_files())
        {
            if !taken.insert(output) {
                let what = "would be written over another file of the plan";
                faults.push(output.as_str(), what);
            }
        }
        faults
    }

    /// The plan as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of its text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        crypto::sha256(self.text.as_bytes())
    }

    /// What it does.
    #[must_use]
    pub fn ceremony(&self) -> &Ceremony {
        &self.ceremony
    }

    /// What it does, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.ceremony {
            Ceremony::CreateRoot(_) => "create-root",
            Ceremony::SignIntermediate(_) => "sign-intermediate",
            Ceremony::IssueCrl(_) => "issue-crl",
            Ceremony::CrossSign(_) => "cross-sign",
            Ceremony::ReissueIntermediate(_) => "reissue-intermediate",
            Ceremony::SplitKey(_) => "split-key",
        }
    }

    /// Who sees to it that what is signed is what was planned.
    #[must_use]
    pub fn witnesses(&self) -> &[Person] {
        &self.witnesses
    }

    /// How what opens a key is split in this ceremony.
    #[must_use]
    pub fn sharing(&self) -> Option<&Sharing> {
        match &self.ceremony {
            Ceremony::CreateRoot(plan) => plan.sharing.as_ref(),
            Ceremony::SplitKey(plan) => Some(&plan.sharing),
            _ => None,
        }
    }

    /// Whose shares open the key of a root that exists; empty when the plan does not say.
    #[must_use]
    pub fn opened_by(&self) -> &[Person] {
        self.root_files().map_or(&[], |root| &root.opened_by)
    }

    /// The files of the root that the plan uses; none where it makes one.
    #[must_use]
    pub fn root_files(&self) -> Option<&RootFiles> {
        match self.root() {
            Root::Made(_) => None,
            Root::Used(files) => Some(files),
        }
    }

    fn root(&self) -> Root<'_> {
        match &self.ceremony {
            Ceremony::CreateRoot(plan) => Root::Made(plan),
            Ceremony::SignIntermediate(plan) => Root::Used(&plan.root),
            Ceremony::IssueCrl(plan) => Root::Used(&plan.root),
            Ceremony::CrossSign(plan) => Root::Used(&plan.root),
            Ceremony::ReissueIntermediate(plan) => Root::Used(&plan.root),
            Ceremony::SplitKey(plan) => Root::Used(&plan.root),
        }
    }

    /// The files that it reads, the root's key aside.
    #[must_use]
    pub fn inputs(&self) -> Vec<&FileName> {
        let mut files: Vec<&FileName> = Vec::new();
        files.extend(self.root_files().map(|root| &root.certificate));
        match &self.ceremony {
            Ceremony::CreateRoot(_) | Ceremony::SplitKey(_) => {}
            Ceremony::SignIntermediate(plan) => {
                files.extend(plan.intermediates.iter().map(|i| &i.request));
                files.extend(&plan.known);
            }
            Ceremony::IssueCrl(plan) => {
                files.extend(&plan.previous);
                files.extend(plan.revoke.iter().filter_map(|revoke| match &revoke.which {
                    Which::Certificate(file) => Some(file),
                    Which::Serial(_) => None,
                }));
            }
            Ceremony::CrossSign(plan) => files.push(&plan.certificate),
            Ceremony::ReissueIntermediate(plan) => {
                files.extend(&plan.crl);
                for reissue in &plan.intermediates {
                    files.push(&reissue.certificate);
                    files.extend(&reissue.request);
                }
            }
        }
        files
    }

    /// Where the key is that signs.
    #[must_use]
    pub fn key(&self) -> &KeyPlace {
        match self.root() {
            Root::Made(plan) => &plan.key,
            Root::Used(files) => &files.key,
        }
    }

    /// The key file that is written, where one is.
    #[must_use]
    pub fn made_key(&self) -> Option<&FileName> {
        match &self.ceremony {
            Ceremony::CreateRoot(plan) => plan.key.file(),
            Ceremony::SplitKey(plan) => plan.key.as_ref(),
            _ => None,
        }
    }

    /// The certificates and CRLs that it writes.
    #[must_use]
    pub fn outputs(&self) -> Vec<&FileName> {
        match &self.ceremony {
            Ceremony::CreateRoot(plan) => vec![&plan.certificate, &plan.crl],
            Ceremony::SignIntermediate(plan) => plan.intermediates.iter().map(|i| &i.out).collect(),
            Ceremony::IssueCrl(plan) => vec![&plan.out],
            Ceremony::CrossSign(plan) => vec![&plan.out],
            Ceremony::ReissueIntermediate(plan) => {
                plan.intermediates.iter().map(|i| &i.out).collect()
            }
            Ceremony::SplitKey(_) => Vec::new(),
        }
    }

    /// The files of the shares that it writes.
    #[must_use]
    pub fn share_files(&self) -> &[FileName] {
        self.sharing().and_then(Sharing::files).unwrap_or_default()
    }

    /// The root's certificate: read, or made.
    #[must_use]
    pub fn root_certificate(&self) -> &FileName {
        match self.root() {
            Root::Made(plan) => &plan.certificate,
            Root::Used(files) => &files.certificate,
        }
    }

    /// What it says about people and keys, in words.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (i, witness) in self.witnesses.iter().enumerate() {
            let what = if i == 0 { "witnesses" } else { "" };
            words.push(format!("  {what:<11} {witness}"));
        }
        if let Ceremony::SplitKey(plan) = &self.ceremony {
            words.push(match &plan.key {
                Some(file) => {
                    format!("  new key     the same key under a fresh secret, into {file}")
                }
                None => "  splits      the PIN of the token that the key is in".to_owned(),
            });
        }
        words.extend(self.sharing().map(Sharing::words).unwrap_or_default());
        words
    }
}
