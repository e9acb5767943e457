//! Answering OCSP: from memory where it can, from the store where it must, never `good` for what is not on record.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use pki::crl::Reason;
use pki::name::AuthorityId;
use pki::ocsp::{
    CertId, ErrorStatus, HashAlgorithm, OcspRequest, Responder, ResponseRequest, SingleStatus,
    Status as CertStatus, prepare_response,
};
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};
use quick_cache::sync::Cache;

use super::Document;
use crate::app::signing::Key as SigningKey;
use crate::app::state::Authority;
use crate::app::{App, Error};
use crate::store::model::AuthorityState;

/// Answers that are kept: about 1 KB each.
const KEPT: usize = 50_000;
/// How far thisUpdate lies in the past, for readers whose clocks are behind.
const BACKDATE: Ttl = Ttl::minutes(1);
/// How a staple names its issuer: what every reader of staples knows how to compare.
const STAPLED: HashAlgorithm = HashAlgorithm::Sha1;
/// The shortest life that a responder is certified for.
const SHORTEST_LIFE: Ttl = Ttl::minutes(1);
/// RFC 6960 appendix A.2.
pub(crate) const OCSP_RESPONSE: &str = "application/ocsp-response";

/// What is said to who asked.
#[derive(Clone, Debug)]
pub enum OcspAnswer {
    /// A signed response, which caches may keep as long as it says.
    Signed(Arc<Document>),
    /// A signed response to this request alone: it repeats its nonce.
    Once(Vec<u8>),
    /// An error, unsigned.
    Error(ErrorStatus),
}

/// An answer that serves whoever asks the same.
#[derive(Debug)]
struct Kept {
    document: Arc<Document>,
    /// From when a fresh one is better.
    stale_at: Timestamp,
    /// Whether anyone asked since the last round of refreshing.
    asked: AtomicBool,
}

/// Whose certificate: the authority's place among ours is its id.
type Key = (AuthorityId, Serial, HashAlgorithm);

/// Who answers for an authority: a key and a certificate that live in this process alone.
#[derive(Debug)]
struct OwnResponder {
    responder: Responder,
    key: SigningKey,
    renew_at: Timestamp,
}

/// What answering takes.
#[derive(Debug)]
pub(super) struct Ocsp {
    responders: RwLock<HashMap<AuthorityId, Arc<OwnResponder>>>,
    kept: Cache<Key, Arc<Kept>>,
}

impl Default for Ocsp {
    fn default() -> Self {
        Self {
            responders: RwLock::default(),
            kept: Cache::new(KEPT),
        }
    }
}

impl Ocsp {
    /// Forgets what was said of a certificate: it has changed.
    pub(super) fn forget(&self, authority: &AuthorityId, serial: Serial) {
        for hash in [
            HashAlgorithm::Sha1,
            HashAlgorithm::Sha256,
            HashAlgorithm::Sha384,
            HashAlgorithm::Sha512,
        ] {
            self.kept.remove(&(authority.clone(), serial, hash));
        }
    }

    /// Forgets everything: an authority has changed.
    pub(super) fn forget_all(&self) {
        self.kept.clear();
    }

    fn responder(&self, id: &AuthorityId) -> Option<Arc<OwnResponder>> {
        let responders = self.responders.read();
        responders
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }
}

impl App {
    /// Answers the DER of an OCSP request.
    pub async fn ocsp(&self, der: &[u8]) -> OcspAnswer {
        let answer = match OcspRequest::parse(der) {
            Ok(request) => self.answer(&request).await,
            Err(error) => {
                tracing::debug!(%error, "OCSP request refused");
                OcspAnswer::Error(ErrorStatus::MalformedRequest)
            }
        };
        self.metrics.ocsp_answered(match &answer {
            OcspAnswer::Signed(_) => "cacheable",
            OcspAnswer::Once(_) => "once",
            OcspAnswer::Error(status) => status.as_str(),
        });
        answer
    }

    /// A response to staple, for the certificate with this serial number (RFC 6066 §8).
    ///
    /// # Errors
    /// When it is not on record, or the store is away.
    pub async fn ocsp_staple(&self, serial: &Serial) -> Result<OcspAnswer, Error> {
        let snapshot = self.snapshot.load_full();
        let known = snapshot.authorities.iter().find(|authority| {
            let key = (authority.id.clone(), *serial, STAPLED);
            self.revocation_of_its_own(&authority.id, serial).is_some()
                || self.status.ocsp.kept.peek(&key).is_some()
        });
        // What is known here needs no store.
        let authority = match known {
            Some(authority) => Some(authority),
            None => {
                let issuer = self.lookup.issuer_of(*serial).await?;
                issuer.and_then(|id| snapshot.authority(&id))
            }
        };
        let now = self.context.clock.earliest_now();
        let Some(authority) = authority.filter(|authority| authority.answers(now)) else {
            return Ok(OcspAnswer::Error(ErrorStatus::Unauthorized));
        };
        let issuer = &authority.issuer;
        let id = CertId::new(STAPLED, issuer.name(), issuer.key().raw(), serial);
        Ok(self.answer_one(authority, &id, *serial).await)
    }

    async fn answer(&self, request: &OcspRequest) -> OcspAnswer {
        let snapshot = self.snapshot.load_full();
        let now = self.context.clock.earliest_now();
        // A responder speaks for one issuer: whose certificate is asked for first.
        let answering = request.certificates().iter().find_map(|id| {
            let mut answering = snapshot.authorities.iter();
            answering.find(|authority| authority.answers(now) && authority.ocsp.matches(id))
        });
        let Some(authority) = answering else {
            return OcspAnswer::Error(ErrorStatus::Unauthorized);
        };
        if let ([id], None) = (request.certificates(), request.nonce())
            && let Some(serial) = id.serial()
        {
            return self.answer_one(authority, id, *serial).await;
        }
        let answer = self.sign_for(authority, request.certificates(), request.nonce());
        match answer.await {
            Ok(signed) => OcspAnswer::Once(signed.body),
            Err(error) => refused(authority, &error),
        }
    }

    /// One certificate and no nonce: what RFC 5019 has clients ask, and what is kept.
    async fn answer_one(&self, authority: &Authority, id: &CertId, serial: Serial) -> OcspAnswer {
        let ocsp = &self.status.ocsp;
        let key: Key = (authority.id.clone(), serial, id.algorithm());
        let now = self.context.clock.untrusted_now();
        let kept = ocsp.kept.get(&key);
        if let Some(kept) = &kept {
            kept.asked.store(true, Ordering::Relaxed);
            if now < kept.stale_at {
                return OcspAnswer::Signed(kept.document.clone());
            }
        }
        match self.fresh(authority, id, key).await {
            Ok(document) => OcspAnswer::Signed(document),
            // While the store is away, what was said last holds until its end.
            Err(error) => {
                match kept.filter(|kept| kept.document.expires.is_some_and(|end| now < end)) {
                    Some(kept) => OcspAnswer::Signed(kept.document.clone()),
                    None => refused(authority, &error),
                }
            }
        }
    }

    async fn fresh(
        &self,
        authority: &Authority,
        id: &CertId,
        key: Key,
    ) -> Result<Arc<Document>, Error> {
        let serial = key.1;
        let before = self.revocation(&authority.id, &serial);
        let signed = self
            .sign_for(authority, std::slice::from_ref(id), None)
            .await?;
        let Signed {
            body,
            this_update,
            next_update,
            stale_at,
            known,
            revoked,
        } = signed;
        let document = Arc::new(Document {
            // A revocation may follow on a good answer at once.
            changes_within_a_second: true,
            ..Document::new(body, OCSP_RESPONSE, Some(this_update), Some(next_update))
        });
        // What is unknown may be issued the next moment; what is asked in an unusual way nobody else asks so.
        if !known || !id.is_usual() {
            return Ok(document);
        }
        let kept = Kept {
            document: document.clone(),
            stale_at,
            asked: AtomicBool::new(false),
        };
        self.status.ocsp.kept.insert(key, Arc::new(kept));
        // A change that was heard of while this was signed has looked for it before it was there.
        if self.revocation(&authority.id, &serial) != before || revoked != before.is_some() {
            self.status.ocsp.forget(&authority.id, serial);
        }
        Ok(document)
    }

    fn revocation(&self, id: &AuthorityId, serial: &Serial) -> Option<(Timestamp, u8)> {
        self.status
            .read(id, |status| status.revocation(serial))
            .flatten()
    }

    fn revocation_of_its_own(&self, id: &AuthorityId, serial: &Serial) -> Option<(Timestamp, u8)> {
        let own = self.status.read(id, |status| status.own_revocation(serial));
        own.flatten()
    }

    async fn sign_for(
        &self,
        authority: &Authority,
        ids: &[CertId],
        nonce: Option<&[u8]>,
    ) -> Result<Signed, Error> {
        // Times that nobody can believe help nobody.
        let now = self.context.clock.trusted_now()?;
        let unavailable = || {
            let text = format!("nobody answers for {} on this replica yet", authority.id);
            Error::new(crate::app::ErrorKind::Unavailable, "responder", text)
        };
        let own = self
            .status
            .ocsp
            .responder(&authority.id)
            .ok_or_else(unavailable)?;
        let mut statuses = Vec::with_capacity(ids.len());
        for id in ids {
            statuses.push(SingleStatus {
                id,
                status: self.status_of(authority, id).await?,
            });
        }
        let validity = self.context.settings.ocsp_validity;
        let next_update = now.plus(validity).min(own.responder.not_after());
        let this_update = now.minus(BACKDATE);
        let request = ResponseRequest {
            produced_at: now,
            this_update,
            next_update,
            statuses: &statuses,
            nonce,
        };
        let known = statuses
            .iter()
            .all(|single| single.status != CertStatus::Unknown);
        let revoked = statuses
            .iter()
            .any(|single| matches!(single.status, CertStatus::Revoked { .. }));
        let prepared = prepare_response(&request, &own.responder).map_err(Error::internal)?;
        let response = own.key.seal(prepared).await?;
        Ok(Signed {
            body: response.to_response_der(),
            this_update,
            next_update,
            stale_at: Timestamp::from_unix(now.unix() + next_update.seconds_since(now) / 2),
            known,
            revoked,
        })
    }

    async fn status_of(&self, authority: &Authority, id: &CertId) -> Result<CertStatus, Error> {
        let Some(serial) = id.serial().filter(|_| authority.ocsp.matches(id)) else {
            return Ok(CertStatus::Unknown);
        };
        let revoked = |(at, reason): (Timestamp, u8)| CertStatus::Revoked {
            at,
            reason: Reason::from_code(reason).unwrap_or(Reason::Unspecified),
        };
        if let Some(own) = self.revocation_of_its_own(&authority.id, serial) {
            return Ok(revoked(own));
        }
        if !self.lookup.is_on_record(&authority.id, *serial).await? {
            return Ok(CertStatus::Unknown);
        }
        // Read again: a revocation may have been heard of meanwhile.
        Ok(self
            .revocation(&authority.id, serial)
            .map_or(CertStatus::Good, revoked))
    }

    /// The authorities that sign and for which nobody answers yet.
    pub fn without_responder(&self) -> Vec<AuthorityId> {
        let snapshot = self.snapshot.load_full();
        let soon = self.context.clock.earliest_now().plus(SHORTEST_LIFE);
        let active = snapshot.authorities.iter().filter(|authority| {
            authority.state == AuthorityState::Active
                && authority.is_ready()
                && authority.answers(soon)
        });
        active
            .filter(|authority| self.status.ocsp.responder(&authority.id).is_none())
            .map(|authority| authority.id.clone())
            .collect()
    }

    /// Sees to it that someone answers for each authority, well before the one who does comes to an end.
    ///
    /// # Errors
    /// When an authority cannot certify its responder now; the others have theirs.
    pub async fn keep_responders(&self) -> Result<(), Error> {
        let now = self.context.clock.trusted_now()?;
        let snapshot = self.snapshot.load_full();
        let mut failed = None;
        for authority in &snapshot.authorities {
            let current = self.status.ocsp.responder(&authority.id);
            let fresh =
                current.is_some_and(|own| now < own.renew_at && own.responder.not_after() > now);
            // In its last minute nobody is certified any more.
            if fresh || !authority.is_ready() || !authority.answers(now.plus(SHORTEST_LIFE)) {
                continue;
            }
            match self.new_responder(authority, now).await {
                Ok(own) => {
                    tracing::info!(authority.id = %authority.id, not_after = %own.responder.not_after(), "OCSP responder certified");
                    let responders = self.status.ocsp.responders.write();
                    responders
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(authority.id.clone(), Arc::new(own));
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn new_responder(
        &self,
        authority: &Arc<Authority>,
        now: Timestamp,
    ) -> Result<OwnResponder, Error> {
        let (certificate, key) = self.issue_responder(authority).await?;
        let responder =
            Responder::delegated(&certificate, authority.issuer.key()).map_err(Error::internal)?;
        let life = certificate.not_after().seconds_since(now);
        // One that ends with its authority is the last: the next could end no later.
        let renew_at = if certificate.not_after() >= authority.issuer.not_after() {
            certificate.not_after()
        } else {
            Timestamp::from_unix(now.unix() + life / 2)
        };
        Ok(OwnResponder {
            responder,
            key,
            renew_at,
        })
    }

    /// Signs anew what is asked for often, before it grows stale: nobody waits for it then.
    ///
    /// # Errors
    /// When the store is away; what was kept stays.
    pub async fn refresh_hot_answers(&self) -> Result<(), Error> {
        let now = self.context.clock.trusted_now()?;
        let ahead = Ttl::from_seconds(self.context.settings.ocsp_validity.seconds() / 10);
        let soon = ahead.map_or(now, |ahead| now.plus(ahead));
        let snapshot = self.snapshot.load_full();
        let hot: Vec<Key> = self
            .status
            .ocsp
            .kept
            .iter()
            .filter(|(_, kept)| kept.asked.swap(false, Ordering::Relaxed) && kept.stale_at <= soon)
            .map(|(key, _)| key)
            .collect();
        for key in hot {
            let Some(authority) = snapshot.authority(&key.0) else {
                continue;
            };
            let issuer = &authority.issuer;
            let id = CertId::new(key.2, issuer.name(), issuer.key().raw(), &key.1);
            self.fresh(authority, &id, key).await?;
        }
        Ok(())
    }
}

struct Signed {
    body: Vec<u8>,
    this_update: Timestamp,
    next_update: Timestamp,
    stale_at: Timestamp,
    /// Whether everything that it speaks of is on record.
    known: bool,
    /// Whether something that it speaks of is revoked.
    revoked: bool,
}

fn refused(authority: &Authority, error: &Error) -> OcspAnswer {
    tracing::debug!(authority.id = %authority.id, error = %error.detail(), "OCSP request not answered");
    OcspAnswer::Error(match error.kind() {
        crate::app::ErrorKind::Internal => ErrorStatus::InternalError,
        _ => ErrorStatus::TryLater,
    })
}
