//! Building and publishing CRLs: a reconciler. What is due follows from the store; a lease saves replicas double work, and
//! a compare-and-set on number and coverage keeps a late one from going back.
//!
//! What holds if we crash: before the store has a list, the one before it is in force everywhere; after, the new one is,
//! and each replica serves it as soon as it looks.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use pki::certificate::Issuer;
use pki::crl::{Crl, CrlRequest, Reason, RevokedCertificate, Scope, prepare_crl};
use pki::name::AuthorityId;
use pki::time::{Timestamp, Ttl};

use super::index::AuthorityStatus;
use super::parts::Part;
use super::{PAGE, ServedCrl};
use crate::app::signing::Key;
use crate::app::state::Authority;
use crate::app::{App, Context, Error, ErrorKind};
use crate::clock::ClockStepped;
use crate::store::StoreError;
use crate::store::model::{AuthorityState, CrlRow};

/// Revocations of an authority coalesce into one build in this time: with the time to hear of them they are served within
/// a second. thisUpdate, which has seconds and grows with each list, begins in the past and is never let past the present.
const BUILD_EVERY: Duration = Duration::from_millis(800);
/// How long a list that waits is left to the lease's holder.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longer than a build takes; a holder that dies holds others up for [`PATIENCE`] at most.
const LEASE_SECONDS: u32 = 10;
/// How far thisUpdate lies in the past, for readers whose clocks are behind.
const BACKDATE: Ttl = Ttl::minutes(5);
/// The shortest lifetime there is.
const SECOND: Ttl = Ttl::minutes(0);

/// How far a replica's clock may be ahead of the database's: replicas differ by five seconds, and asking takes time.
const AHEAD_SECONDS: i64 = 7;
/// Lists that are dated ahead, because a clock was wrong, come no faster than their dates grow: they run no further ahead.
const AHEAD_EVERY: Duration = Duration::from_secs(1);

/// What came of an attempt to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The store has the new list.
    Published,
    /// Another replica's list is there.
    Outrun,
    /// Not now: its turn comes within a second.
    Waits,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Outrun => "outrun",
            Self::Waits => "waited",
        }
    }
}

/// When a list was made and until when it holds.
#[derive(Clone, Copy, Debug)]
struct Dates {
    this_update: Timestamp,
    next_update: Timestamp,
}

impl App {
    /// Publishes each CRL that is due: revocations since the last one, or its time has come.
    ///
    /// # Errors
    /// When the store is away. What fails for one authority alone is logged and counted, and does not keep the others
    /// waiting.
    pub async fn publish_crls(&self) -> Result<(), Error> {
        let snapshot = self.snapshot.load_full();
        let mut unavailable = None;
        let now = self.context.clock.earliest_now();
        for authority in &snapshot.authorities {
            if !authority.answers(now) || !authority.is_ready() || !self.is_due(authority) {
                continue;
            }
            if !self.may_build(&authority.id).await? {
                continue;
            }
            match self.publish(authority).await {
                Ok(outcome) => {
                    self.metrics
                        .crl_publication(&authority.id, outcome.as_str());
                    if outcome != Outcome::Waits {
                        self.status
                            .waiting
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .remove(&authority.id);
                    }
                }
                Err(error) => {
                    self.metrics.crl_publication(&authority.id, "failed");
                    tracing::error!(authority.id = %authority.id, error = %error.detail(), "no new CRL: the one before it is served");
                    if error.kind() == ErrorKind::Unavailable {
                        unavailable = Some(error);
                    }
                }
            }
        }
        unavailable.map_or(Ok(()), Err)
    }

    fn is_due(&self, authority: &Authority) -> bool {
        let served = self.status.served();
        let Some(crl) = served.crls.get(&authority.id) else {
            return true;
        };
        if self.lacks_parts(authority, crl) {
            return true;
        }
        let known = self.status.read(&authority.id, AuthorityStatus::position);
        if known.is_some_and(|position| position > crl.covers) {
            return true;
        }
        // With a clock that is not believed, only revocations are news.
        let refresh = self.context.settings.crl_refresh;
        self.context
            .clock
            .trusted_now()
            .is_ok_and(|now| crl.this_update.plus(BACKDATE).plus(refresh) <= now)
    }

    /// Whether it is this replica's turn: not again at once, and only with the lease while its holder seems alive.
    async fn may_build(&self, id: &AuthorityId) -> Result<bool, Error> {
        let (recent, waiting) = {
            let built = self
                .status
                .built
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut waiting = self
                .status
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let since = *waiting.entry(id.clone()).or_insert_with(Instant::now);
            (
                built.get(id).is_some_and(|at| at.elapsed() < BUILD_EVERY),
                since.elapsed(),
            )
        };
        if recent {
            return Ok(false);
        }
        let name = format!("crl/{id}");
        let holder = &self.context.instance;
        let lease = self.context.store.try_lease(&name, holder, LEASE_SECONDS);
        Ok(lease.await? || waiting > PATIENCE)
    }

    async fn publish(&self, authority: &Authority) -> Result<Outcome, Error> {
        let id = &authority.id;
        let started = Instant::now();
        let Some(key) = &authority.key else {
            return Ok(Outcome::Waits);
        };
        let before = self.status.served().crls.get(id).cloned();
        let now = believed_now(&self.context).await?;
        let dates = dates(&self.context, &authority.issuer, before.as_deref(), &now)?;
        if let Ok(now) = &now
            && self.waits(id, before.as_deref(), dates, *now)
        {
            tracing::debug!(authority.id = %id, this_update = %dates.this_update, %now, "the next CRL waits for its second");
            return Ok(Outcome::Waits);
        }
        super::lock(&self.status.built).insert(id.clone(), started);
        // A certificate that ended before the last list was made has been on one since (RFC 5280 §5.2).
        let listed_until = before
            .as_deref()
            .map_or(Timestamp::EPOCH, |crl| crl.this_update);
        let (covers, mut revoked, all_of_it) = self
            .status
            .read(id, |status| {
                let revoked: Vec<_> = status.to_list(listed_until).map(entry).collect();
                (status.position(), revoked, status.all_revoked())
            })
            .unwrap_or_default();
        if let Some(since) = all_of_it {
            self.add_live(id, since, listed_until, &mut revoked).await?;
        }
        let known = super::lock(&self.status.watermark).crl_number(id.as_str());
        let number = before.as_deref().map_or(0, |crl| crl.number).max(known) + 1;
        let parts = self.parts(authority, before.as_deref(), revoked).await?;
        let row = build(authority, key, number, dates, covers, parts).await?;
        // After a restore the store has an older one than is served.
        let stored = super::lock(&self.status.stored).get(id).copied();
        let expected = stored.unwrap_or_else(|| before.as_deref().map(|crl| crl.number));
        let outcome = match self.context.store.put_crl(id, &row, expected).await {
            Ok(()) => {
                tracing::info!(
                    authority.id = %id,
                    crl.number = number,
                    crl.bytes = row.der.len(),
                    milliseconds = started.elapsed().as_millis(),
                    "CRL published"
                );
                Outcome::Published
            }
            // Another replica was faster; the next refresh shows what it made.
            Err(StoreError::Conflict(_)) => {
                tracing::debug!(authority.id = %id, "another replica published a CRL");
                Outcome::Outrun
            }
            Err(error) => return Err(error.into()),
        };
        self.refresh_status().await?;
        Ok(outcome)
    }

    /// Whether a list's turn is yet to come. Lists come a little faster than seconds: one that would be the first to be dated
    /// ahead waits for its second. Where the one before it lies ahead already, because a clock was wrong, waiting until the
    /// time is there would keep revocations back for as long.
    fn waits(
        &self,
        id: &AuthorityId,
        before: Option<&ServedCrl>,
        dates: Dates,
        now: Timestamp,
    ) -> bool {
        if before.is_none_or(|crl| crl.this_update <= now) {
            return dates.this_update > now;
        }
        let built = super::lock(&self.status.built).get(id).copied();
        let waits = built.is_some_and(|at| at.elapsed() < AHEAD_EVERY);
        if !waits {
            tracing::warn!(
                authority.id = %id, this_update = %dates.this_update, %now,
                "the CRL in force is dated ahead of the time: the next one goes on from its date"
            );
        }
        waits
    }

    /// All of a revoked authority's certificates that live, or ended since the last list.
    async fn add_live(
        &self,
        id: &AuthorityId,
        (at, reason): (Timestamp, u8),
        since: Timestamp,
        revoked: &mut Vec<RevokedCertificate>,
    ) -> Result<(), Error> {
        let mut known: Vec<_> = revoked.iter().map(|entry| entry.serial).collect();
        known.sort_unstable();
        let (mut after, from) = (None, since.max(at));
        let reason = Reason::from_code(reason).unwrap_or(Reason::Unspecified);
        loop {
            let page = self
                .context
                .store
                .live(id, from, after.as_ref(), PAGE)
                .await?;
            let more = page.len() == PAGE as usize;
            after = page.last().map(|(serial, _)| *serial);
            for (serial, _) in page {
                if known.binary_search(&serial).is_err() {
                    revoked.push(RevokedCertificate {
                        serial,
                        revoked_at: at,
                        reason,
                    });
                }
            }
            if !more {
                return Ok(());
            }
        }
    }
}

fn entry(revocation: &crate::store::model::Revocation) -> RevokedCertificate {
    RevokedCertificate {
        serial: revocation.serial,
        revoked_at: revocation.revoked_at,
        reason: Reason::from_code(revocation.reason).unwrap_or(Reason::Unspecified),
    }
}

/// The time that a list is dated by. A replica whose clock is ahead of the database's, by more than replicas may differ,
/// would date it ahead, and readers refuse a list from the future: the database's clock bounds it. On SQLite there is but
/// this machine's, and what is watched is how far it steps.
async fn believed_now(context: &Context) -> Result<Result<Timestamp, ClockStepped>, Error> {
    let now = context.clock.trusted_now();
    let bound = context.store.clock().await?;
    Ok(now.map(|now| match bound {
        Some(clock) if now.seconds_since(clock) > AHEAD_SECONDS => clock,
        _ => now,
    }))
}

/// Neither date ever goes back, and thisUpdate always grows: HTTP's Last-Modified comes from it. While the clock is not
/// believed a list goes on from the dates of the one before it, which are right whatever the time is: a revocation does not
/// wait for an operator to look at a clock.
fn dates(
    context: &Context,
    issuer: &Issuer,
    before: Option<&ServedCrl>,
    now: &Result<Timestamp, ClockStepped>,
) -> Result<Dates, Error> {
    let now = match (now, before) {
        (Ok(now), _) => *now,
        (Err(_), Some(before)) => {
            return Ok(Dates {
                this_update: before.this_update.plus(SECOND),
                next_update: before.next_update,
            });
        }
        (Err(stepped), None) => return Err(stepped.clone().into()),
    };
    let mut dates = Dates {
        this_update: now.minus(BACKDATE).max(issuer.not_before()),
        next_update: now
            .plus(context.settings.crl_validity)
            .min(issuer.not_after()),
    };
    if let Some(before) = before {
        dates.this_update = dates.this_update.max(before.this_update.plus(SECOND));
        dates.next_update = dates.next_update.max(before.next_update);
    }
    if dates.next_update <= now || dates.next_update <= dates.this_update {
        let text = format!(
            "its list would end at {}, and it is {now}",
            dates.next_update
        );
        return Err(Error::new(ErrorKind::Conflict, "dates", text));
    }
    Ok(dates)
}

async fn build(
    authority: &Authority,
    key: &Key,
    number: u64,
    dates: Dates,
    covers: Option<u64>,
    parts: Vec<Part>,
) -> Result<CrlRow, Error> {
    let mut row = CrlRow {
        number,
        der: Vec::new(),
        this_update: dates.this_update,
        next_update: dates.next_update,
        covers,
        parts: Vec::new(),
    };
    for part in parts {
        let issuer = authority.issuer.clone();
        // A list of a hundred thousand takes tens of milliseconds to write: off the runtime's workers.
        let prepared = tokio::task::spawn_blocking(move || {
            let list = CrlRequest {
                scope: part.about.scope(),
                number,
                this_update: dates.this_update,
                next_update: dates.next_update,
                revoked: &part.revoked,
            };
            prepare_crl(&list, &issuer).map(|prepared| (part.name, prepared))
        });
        let (name, prepared) = prepared
            .await
            .map_err(Error::internal)?
            .map_err(Error::internal)?;
        let crl: Crl = key.seal(prepared).await?;
        match name {
            None => row.der = crl.der().to_vec(),
            Some(name) => row.parts.push((name, crl.der().to_vec())),
        }
    }
    Ok(row)
}

/// The first CRL of an authority, empty: it is in everyone's set before the authority signs anything.
///
/// # Errors
/// When the clock is not trusted, or the signer fails.
pub async fn first_crl(context: &Context, issuer: &Issuer, key: &Key) -> Result<CrlRow, Error> {
    let now = believed_now(context).await?;
    let dates = dates(context, issuer, None, &now)?;
    let list = CrlRequest {
        scope: Scope::COMPLETE,
        number: 1,
        this_update: dates.this_update,
        next_update: dates.next_update,
        revoked: &[],
    };
    let prepared = prepare_crl(&list, issuer).map_err(Error::internal)?;
    let crl = key.seal(prepared).await?;
    Ok(CrlRow {
        number: 1,
        der: crl.der().to_vec(),
        this_update: dates.this_update,
        next_update: dates.next_update,
        covers: None,
        parts: Vec::new(),
    })
}

impl Authority {
    /// Whether it answers for certificates at `now`: from its publication until its end. After it no reader asks, and
    /// no list of its could be in force.
    #[must_use]
    pub fn answers(&self, now: Timestamp) -> bool {
        use AuthorityState as S;
        matches!(
            self.state,
            S::Published | S::Active | S::Retiring | S::Revoked
        ) && now < self.issuer.not_after()
    }
}
