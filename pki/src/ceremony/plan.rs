//! The plan: the one thing that says what a ceremony does.

use std::collections::BTreeSet;

use crate::ceremony::fault::Faults;
use crate::ceremony::file_name::FileName;
use crate::ceremony::read;
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
}

/// Making a root: key, certificate and first CRL.
#[derive(Clone, Debug)]
pub struct CreateRoot {
    pub(super) subject: DistinguishedName,
    pub(super) algorithm: KeyAlgorithm,
    pub(super) life: Ttl,
    pub(super) certificate: FileName,
    pub(super) key: FileName,
    pub(super) crl: FileName,
    pub(super) crl_life: Ttl,
}

impl CreateRoot {
    /// The kind of key to make.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }
}

/// The files of a root that exists.
#[derive(Clone, Debug)]
pub struct RootFiles {
    /// Its certificate.
    pub certificate: FileName,
    /// Its key file.
    pub key: FileName,
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
        let ceremony = read::ceremony(text)?;
        let plan = Self {
            text: text.to_owned(),
            ceremony,
        };
        let faults = plan.doubles();
        faults.or(Some(plan))
    }

    /// A file is written once, and never one that is read.
    fn doubles(&self) -> Faults {
        let mut faults = Faults::default();
        let mut taken: BTreeSet<&FileName> = self.inputs().into_iter().collect();
        let key = self.key().0;
        if !taken.insert(key) {
            faults.push(key.as_str(), "is the key file and something else");
        }
        for output in self.outputs() {
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
        }
    }

    /// The files that it reads, the root's key aside.
    #[must_use]
    pub fn inputs(&self) -> Vec<&FileName> {
        match &self.ceremony {
            Ceremony::CreateRoot(_) => Vec::new(),
            Ceremony::SignIntermediate(plan) => [&plan.root.certificate]
                .into_iter()
                .chain(plan.intermediates.iter().map(|i| &i.request))
                .chain(&plan.known)
                .collect(),
            Ceremony::IssueCrl(plan) => [&plan.root.certificate]
                .into_iter()
                .chain(&plan.previous)
                .chain(plan.revoke.iter().filter_map(|revoke| match &revoke.which {
                    Which::Certificate(file) => Some(file),
                    Which::Serial(_) => None,
                }))
                .collect(),
        }
    }

    /// The root's key file, and whether it is made.
    #[must_use]
    pub fn key(&self) -> (&FileName, bool) {
        match &self.ceremony {
            Ceremony::CreateRoot(plan) => (&plan.key, true),
            Ceremony::SignIntermediate(plan) => (&plan.root.key, false),
            Ceremony::IssueCrl(plan) => (&plan.root.key, false),
        }
    }

    /// The certificates and CRLs that it writes.
    #[must_use]
    pub fn outputs(&self) -> Vec<&FileName> {
        match &self.ceremony {
            Ceremony::CreateRoot(plan) => vec![&plan.certificate, &plan.crl],
            Ceremony::SignIntermediate(plan) => plan.intermediates.iter().map(|i| &i.out).collect(),
            Ceremony::IssueCrl(plan) => vec![&plan.out],
        }
    }

    /// The root's certificate: read, or made.
    #[must_use]
    pub fn root_certificate(&self) -> &FileName {
        match &self.ceremony {
            Ceremony::CreateRoot(plan) => &plan.certificate,
            Ceremony::SignIntermediate(plan) => &plan.root.certificate,
            Ceremony::IssueCrl(plan) => &plan.root.certificate,
        }
    }
}
