//! Who administers, what waits for a second person, and what was answered before: as plain data.

use std::collections::BTreeSet;

use hsm::audit::AuditKey;
use pki::crypto::Digest;
use pki::name::ClusterName;
use pki::time::Timestamp;

use super::model::NewAudit;
use super::{Store, StoreError, within_deadline};
use crate::app::roles::{Binding, Role, Scope};

/// A role that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingRow {
    /// Its id.
    pub id: String,
    /// To whom.
    pub principal: String,
    /// Which.
    pub role: Role,
    /// Where it holds.
    pub scope: Scope,
    /// When.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// A MAC under the installation's key.
    pub seal: [u8; 32],
}

impl BindingRow {
    /// The row with its seal.
    #[must_use]
    pub fn sealed(mut self, key: &AuditKey) -> Self {
        self.seal = key.seal(&self.message());
        self
    }

    /// Whether whoever wrote the row had the installation's key.
    #[must_use]
    pub fn is_sealed_by(&self, key: &AuditKey) -> bool {
        key.is_seal(&self.message(), &self.seal)
    }

    fn message(&self) -> Vec<u8> {
        let clusters = self.scope.clusters().map(|names| {
            let names: Vec<_> = names.iter().map(ClusterName::as_str).collect();
            names.join(",")
        });
        fields(
            "signet role binding v1",
            &[
                &self.id,
                &self.principal,
                self.role.as_str(),
                clusters.as_deref().unwrap_or("*"),
                &self.created_at.unix().to_string(),
                &self.created_by,
            ],
        )
    }
}

impl From<BindingRow> for Binding {
    fn from(row: BindingRow) -> Self {
        Self {
            id: row.id,
            principal: row.principal,
            role: row.role,
            scope: row.scope,
        }
    }
}

/// Each field with its length before it: no two lists of fields read alike.
fn fields(label: &str, fields: &[&str]) -> Vec<u8> {
    let mut message = Vec::new();
    for field in std::iter::once(&label).chain(fields) {
        message.extend_from_slice(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        message.extend_from_slice(field.as_bytes());
    }
    message
}

/// Where a proposal is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalState {
    /// For a second person.
    Waiting,
    /// It was agreed to, and is done.
    Applied,
    /// It was agreed to, and could not be done.
    Failed,
    /// It was not agreed to.
    Rejected,
    /// Who proposed it took it back.
    Withdrawn,
}

impl ProposalState {
    const ALL: [Self; 5] = [
        Self::Waiting,
        Self::Applied,
        Self::Failed,
        Self::Rejected,
        Self::Withdrawn,
    ];

    /// Its name in the database and in interfaces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// An act that needs a second person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalRow {
    /// Its id.
    pub id: String,
    /// What will be done, as JSON that the store does not read.
    pub act: String,
    /// What kind of act it is.
    pub kind: String,
    /// The cluster that it is about; `None` for the whole installation.
    pub cluster: Option<ClusterName>,
    /// What it will change, as JSON.
    pub changes: String,
    /// Where it stands.
    pub state: ProposalState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Until when it may be agreed to.
    pub expires_at: Timestamp,
    /// When and by whom it was decided.
    pub decided: Option<(Timestamp, String)>,
    /// What came of it.
    pub outcome: Option<String>,
    /// A MAC under the installation's key over what was proposed.
    pub seal: [u8; 32],
    /// Grows with each change; 1 on insertion.
    pub version: i64,
}

impl ProposalRow {
    /// The row with its seal.
    #[must_use]
    pub fn sealed(mut self, key: &AuditKey) -> Self {
        self.seal = key.seal(&self.message());
        self
    }

    /// Whether what was proposed is what is here.
    #[must_use]
    pub fn is_sealed_by(&self, key: &AuditKey) -> bool {
        key.is_seal(&self.message(), &self.seal)
    }

    fn message(&self) -> Vec<u8> {
        fields(
            "signet proposal v1",
            &[
                &self.id,
                &self.act,
                &self.kind,
                self.cluster.as_ref().map_or("*", ClusterName::as_str),
                &self.changes,
                &self.created_at.unix().to_string(),
                &self.created_by,
                &self.expires_at.unix().to_string(),
            ],
        )
    }
}

/// What is known of a request that carries an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembering {
    /// Nothing, or it was cut off long ago: it is noted now.
    Fresh,
    /// It is under way.
    UnderWay,
    /// It was answered with this, sealed.
    Answered(Vec<u8>),
    /// The key was another request's.
    Other,
}

/// Roles, proposals, and requests that came before.
impl Store {
    /// All role bindings, by principal.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn bindings(&self) -> Result<Vec<BindingRow>, StoreError> {
        call!(self.bindings())
    }

    /// Gives a role.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the principal has it there already, or when the store fails.
    pub async fn insert_binding(
        &self,
        binding: &BindingRow,
        audit: &NewAudit,
    ) -> Result<(), StoreError> {
        call!(self.insert_binding(binding, audit))
    }

    /// Takes a role; `false` when there is no such binding, or it is the last security officer's of the whole installation.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_binding(&self, id: &str, audit: &NewAudit) -> Result<bool, StoreError> {
        call!(self.delete_binding(id, audit))
    }

    /// Proposals, newest first: `limit` of them after the one of this time and id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn proposals(
        &self,
        among: Option<&BTreeSet<ClusterName>>,
        after: Option<(Timestamp, &str)>,
        limit: u32,
    ) -> Result<Vec<ProposalRow>, StoreError> {
        call!(self.proposals(among, after, limit))
    }

    /// One proposal.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn proposal(&self, id: &str) -> Result<Option<ProposalRow>, StoreError> {
        call!(self.proposal(id))
    }

    /// Adds a proposal.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn insert_proposal(
        &self,
        proposal: &ProposalRow,
        audit: &NewAudit,
    ) -> Result<(), StoreError> {
        call!(self.insert_proposal(proposal, audit))
    }

    /// Says what became of a proposal that is still at its version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not, or when the store fails.
    pub async fn decide_proposal(
        &self,
        proposal: &ProposalRow,
        audit: &NewAudit,
    ) -> Result<(), StoreError> {
        call!(self.decide_proposal(proposal, audit))
    }

    /// Takes note of a request before it is carried out. What began before `cut_off` and has no answer counts as never begun;
    /// what is older than `forget` is forgotten.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remember(
        &self,
        principal: &str,
        key: &str,
        request: &Digest,
        now: Timestamp,
        cut_off: Timestamp,
        forget: Timestamp,
    ) -> Result<Remembering, StoreError> {
        call!(self.remember(principal, key, request, now, cut_off, forget))
    }

    /// Keeps a request's answer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remember_answer(
        &self,
        principal: &str,
        key: &str,
        answer: &[u8],
    ) -> Result<(), StoreError> {
        call!(self.remember_answer(principal, key, answer))
    }

    /// Forgets a request that was not carried out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_request(&self, principal: &str, key: &str) -> Result<(), StoreError> {
        call!(self.forget_request(principal, key))
    }
}
