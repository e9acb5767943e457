//! Acts that wait for a second person. What is agreed to is what was shown: where the world has changed since, it is proposed
//! anew.

use pki::crypto;
use pki::time::Ttl;
use serde_json::json;

use super::actor::Actor;
use super::acts::{Act, Change};
use super::permit::Permit;
use super::{App, Context, Error, ErrorKind};
use crate::entropy;
use crate::store::administrators::{ProposalRow, ProposalState};

/// For how long a proposal may be agreed to.
const LIFE: Ttl = Ttl::days(7);

/// What came of handing in an act.
#[derive(Debug)]
pub enum Submitted {
    /// It was done, to what has this id.
    Done(String),
    /// It waits for a second person.
    Waits(Box<ProposalRow>),
}

impl App {
    /// Does an act, or lets it wait for a second person where the configuration says so.
    ///
    /// # Errors
    /// When it cannot be done now, or as the act itself.
    pub async fn submit(
        &self,
        act: Act,
        permit: &Permit,
        actor: &Actor,
    ) -> Result<Submitted, Error> {
        let context = self.context();
        may(&act, context, permit).await?;
        let changes = act.changes(context).await?;
        if !self.administration().two_person.contains(&act.kind()) {
            return act.execute(context, actor).await.map(Submitted::Done);
        }
        let row = propose(context, &act, &changes, actor).await?;
        Ok(Submitted::Waits(Box::new(row)))
    }

    /// The second person agrees: the act is done.
    ///
    /// # Errors
    /// `Denied` for who proposed it, or may not do it; `Conflict` when it is decided, over, or would change something else by
    /// now; and as the act itself, whose failure is kept.
    pub async fn approve(&self, id: &str, permit: &Permit) -> Result<ProposalRow, Error> {
        let context = self.context();
        let (row, actor) = find(context, id, permit).await?;
        let now = context.clock.trusted_now()?;
        waits(&row)?;
        if row.created_by == actor.name {
            return Err(Error::new(
                ErrorKind::Denied,
                "second-person",
                "who proposed it cannot agree to it: somebody else has to",
            ));
        }
        if row.expires_at <= now {
            return Err(conflict("over", "its time is over: propose it anew"));
        }
        if !row.is_sealed_by(context.row_key()?) {
            tracing::error!(
                proposal.id = id,
                "a proposal is not what was proposed: somebody has changed the database"
            );
            return Err(conflict("seal", "the proposal was changed in the database"));
        }
        let act: Act = serde_json::from_str(&row.act).map_err(Error::internal)?;
        may(&act, context, permit).await?;
        let shown: Vec<Change> = serde_json::from_str(&row.changes).map_err(Error::internal)?;
        if act.changes(context).await? != shown {
            return Err(conflict(
                "stale",
                "it would change something else by now than was shown: propose it anew",
            ));
        }
        // Taken first, so that two who agree at once do it once. If we crash between the two it counts as applied and the
        // trail lacks the act's own entry: it is proposed again.
        decide(context, &row, ProposalState::Applied, None, &actor).await?;
        let both = Actor {
            rule: format!("{}, proposal {id} by {}", actor.rule, row.created_by),
            ..actor.clone()
        };
        let done = act.execute(context, &both).await;
        let taken = ProposalRow {
            version: row.version + 1,
            ..row
        };
        match done {
            Ok(thing) => {
                decide(
                    context,
                    &taken,
                    ProposalState::Applied,
                    Some(&thing),
                    &actor,
                )
                .await?;
            }
            Err(error) => {
                decide(
                    context,
                    &taken,
                    ProposalState::Failed,
                    Some(&error.to_string()),
                    &actor,
                )
                .await?;
                return Err(error);
            }
        }
        reread(context, id).await
    }

    /// Somebody who may decide it does not agree.
    ///
    /// # Errors
    /// When it is decided already, or the store is away.
    pub async fn reject(&self, id: &str, permit: &Permit) -> Result<ProposalRow, Error> {
        let context = self.context();
        let (row, actor) = find(context, id, permit).await?;
        waits(&row)?;
        decide(context, &row, ProposalState::Rejected, None, &actor).await?;
        reread(context, id).await
    }

    /// Who proposed it takes it back.
    ///
    /// # Errors
    /// `Denied` for anybody else; `Conflict` when it is decided already.
    pub async fn withdraw(&self, id: &str, permit: &Permit) -> Result<ProposalRow, Error> {
        let context = self.context();
        let (row, actor) = find(context, id, permit).await?;
        if row.created_by != actor.name {
            return Err(Error::new(
                ErrorKind::Denied,
                "second-person",
                "who proposed it takes it back; others reject it",
            ));
        }
        waits(&row)?;
        decide(context, &row, ProposalState::Withdrawn, None, &actor).await?;
        reread(context, id).await
    }
}

/// A proposal that the caller may see.
///
/// # Errors
/// `NotFound` when there is none, or it is of a cluster elsewhere.
pub async fn find(
    context: &Context,
    id: &str,
    permit: &Permit,
) -> Result<(ProposalRow, Actor), Error> {
    let missing = || {
        Error::new(
            ErrorKind::NotFound,
            "proposal",
            format!("there is no proposal {id}"),
        )
    };
    if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(missing());
    }
    let row = context.store.proposal(id).await?.ok_or_else(missing)?;
    match &row.cluster {
        Some(cluster) if permit.scope().has(cluster) => {}
        None if permit.scope().clusters().is_none() => {}
        _ => return Err(missing()),
    }
    let actor = permit.oneself();
    Ok((row, actor))
}

/// Whether the caller may do all that the act comes to.
async fn may(act: &Act, context: &Context, permit: &Permit) -> Result<(), Error> {
    for (operation, cluster) in act.needs(context).await? {
        if !permit.also(operation, cluster.as_ref()) {
            return Err(super::permit::denied(operation));
        }
    }
    Ok(())
}

async fn reread(context: &Context, id: &str) -> Result<ProposalRow, Error> {
    let row = context.store.proposal(id).await?;
    row.ok_or_else(|| conflict("conflict", "the proposal is gone"))
}

fn conflict(reason: &'static str, text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, reason, text.into())
}

fn waits(row: &ProposalRow) -> Result<(), Error> {
    if row.state == ProposalState::Waiting {
        Ok(())
    } else {
        Err(conflict(
            "state",
            format!("proposal {} is {}", row.id, row.state.as_str()),
        ))
    }
}

async fn propose(
    context: &Context,
    act: &Act,
    changes: &[Change],
    actor: &Actor,
) -> Result<ProposalRow, Error> {
    let id: [u8; 8] = entropy::draw(&*context.entropy)?;
    let now = context.clock.trusted_now()?;
    let row = ProposalRow {
        id: crypto::hex(&id),
        act: serde_json::to_string(act).map_err(Error::internal)?,
        kind: act.kind().to_string(),
        cluster: act.cluster().cloned(),
        changes: serde_json::to_string(changes).map_err(Error::internal)?,
        state: ProposalState::Waiting,
        created_at: now,
        created_by: actor.name.clone(),
        expires_at: now.plus(LIFE),
        decided: None,
        outcome: None,
        seal: [0; 32],
        version: 1,
    }
    .sealed(context.row_key()?);
    let detail = json!({ "id": row.id, "kind": row.kind, "changes": changes });
    let audit = actor.did(now, "proposal.create", &detail);
    context.store.insert_proposal(&row, &audit).await?;
    Ok(row)
}

async fn decide(
    context: &Context,
    row: &ProposalRow,
    state: ProposalState,
    outcome: Option<&str>,
    actor: &Actor,
) -> Result<(), Error> {
    let now = context.clock.untrusted_now();
    let decided = ProposalRow {
        state,
        decided: Some((now, actor.name.clone())),
        outcome: outcome.map(str::to_owned),
        ..row.clone()
    };
    let detail = json!({ "id": row.id, "kind": row.kind, "proposed_by": row.created_by, "outcome": outcome });
    let audit = actor.did(now, &format!("proposal.{}", state.as_str()), &detail);
    Ok(context.store.decide_proposal(&decided, &audit).await?)
}
