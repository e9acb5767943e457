//! Issuing a certificate: the one way from a request and a proven caller to something that leaves the house.

use std::sync::Arc;

use pki::certificate::{Certificate, LeafRequest, PrepareError, prepare_leaf};
use pki::csr::VerifiedCsr;
use pki::log::Issued;
use pki::name::ClusterName;
use pki::policy::{self, AskedTtl, Grant};
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};

use super::caller::{Caller, Proof, Shown};
use super::cluster::Role;
use super::state::{Authority, Cluster, PublishedBundle, Snapshot};
use super::{App, Asker, Context, Error, ErrorKind, status};
use crate::entropy;
use crate::store::RecordError;
use crate::store::model::NewRecord;

/// A request by a proven caller.
#[derive(Debug)]
pub struct IssueRequest {
    /// DER of the PKCS#10 request, unread.
    pub csr: Vec<u8>,
    /// The profile asked for.
    pub profile: Profile,
    /// The lifetime asked for.
    pub ttl: AskedTtl,
    /// Who asks.
    pub caller: Caller,
    /// The request's id in logs.
    pub request_id: String,
}

/// A certificate that is on record.
#[derive(Debug)]
pub struct IssuedCertificate {
    /// The certificate.
    pub certificate: Certificate,
    /// Who signed it.
    pub authority: Arc<Authority>,
    /// The roots to verify peers with.
    pub bundle: Arc<PublishedBundle>,
}

impl IssuedCertificate {
    /// PEM of the certificate and those above it but the root.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        let intermediates = self.authority.intermediates_pem.iter();
        std::iter::once(self.certificate.to_pem())
            .chain(intermediates.cloned())
            .collect()
    }
}

/// For how long after its use an enrolment token's holder may ask again: an answer that was lost.
const ENROLMENT_RETRY: Ttl = Ttl::minutes(10);

/// Whether a certificate that was good when it was shown is so at `now`, which was read before the store is.
pub(super) async fn still_stands(
    context: &Context,
    shown: &Shown,
    now: Timestamp,
) -> Result<(), Error> {
    let Shown {
        authority,
        serial,
        checked_at,
    } = shown;
    if now <= *checked_at || !context.store.is_revoked(authority, serial).await? {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unauthenticated,
        "revoked",
        format!("certificate {serial} is revoked"),
    ))
}

/// A serial number collides once in 2^64 certificates a day; more often, the randomness is broken.
const ATTEMPTS: usize = 3;

impl App {
    /// Issues a certificate.
    ///
    /// # Errors
    /// When the request is not acceptable, policy does not grant it, no authority can sign, or the store does not
    /// record it. What was signed and not recorded is dropped here and never sent.
    pub async fn issue(&self, request: &IssueRequest) -> Result<IssuedCertificate, Error> {
        let issued = self.decide_and_issue(request).await;
        issued.map_err(|error| error.asked_by(|| Asker::asking(request, None)))
    }

    async fn decide_and_issue(&self, request: &IssueRequest) -> Result<IssuedCertificate, Error> {
        if self.status().has_gone_back() {
            return Err(Error::gone_back());
        }
        let turns = self.turns();
        let caller = &request.caller;
        let identity = format!("{}/{}", caller.cluster.name, caller.label());
        // In this order: who waits for its quota keeps nobody else from a turn.
        turns.quota(&identity).await?;
        let _turn = turns.turn().await?;
        if caller.cluster.role == Role::Fleet {
            return Err(Error::new(
                ErrorKind::Denied,
                "role",
                format!(
                    "cluster {} signs authorities, not workloads",
                    caller.cluster.name
                ),
            ));
        }
        check_enrolment_profile(request)?;
        let csr = VerifiedCsr::parse(&request.csr).map_err(|e| Error::malformed("csr", e))?;
        let grant = policy::decide(
            &caller.cluster.policy,
            &caller.identity,
            request.profile,
            &csr,
            request.ttl,
        )
        .map_err(|e| {
            Error::malformed("policy", e).asked_by(|| Asker::asking(request, Some(&csr)))
        })?;
        if let Some(issued) = self.issued_before(caller, &csr, &grant).await? {
            return Ok(issued);
        }
        for _ in 0..ATTEMPTS {
            let now = self.context.clock.trusted_now()?;
            self.still_good(caller, now).await?;
            let issued = self.sign(request, &grant, &csr, now).await?;
            let asked = Asked {
                cluster: &caller.cluster.name,
                kind: caller.proof.kind(),
                caller: caller.label(),
                detail: Some(caller.detail(request.ttl)),
                ttl: request.ttl,
                request_id: &request.request_id,
            };
            let record = record(asked, &csr, &grant, &issued, now)?;
            let (serial, authority) = (record.serial, record.authority.clone());
            match self.put_on_record(record, caller, now).await {
                Ok(log_index) => {
                    self.metrics
                        .issued(grant.profile.as_str(), caller.proof.kind());
                    tracing::info!(
                        cert.serial = %serial,
                        authority.id = %authority,
                        cluster.id = %caller.cluster.name,
                        names = ?grant.names.to_strings(),
                        caller = %caller.label(),
                        profile = grant.profile.as_str(),
                        rule = grant.rule,
                        not_after = %issued.certificate.not_after(),
                        log.index = log_index,
                        request.id = %request.request_id,
                        "certificate issued"
                    );
                    return Ok(issued);
                }
                // Another request with the same token was faster.
                Err(error @ RecordError::EnrolmentSpent) => {
                    let issued = self.issued_before(caller, &csr, &grant).await?;
                    return issued.ok_or_else(|| not_recorded(error));
                }
                Err(RecordError::Duplicate) => {
                    tracing::warn!(cert.serial = %serial, "serial number collided, drawing another");
                }
                Err(error) => return Err(not_recorded(error)),
            }
        }
        Err(Error::internal(
            "serial numbers keep colliding: is the system's randomness sound?",
        ))
    }

    async fn sign(
        &self,
        request: &IssueRequest,
        grant: &Grant,
        csr: &VerifiedCsr,
        now: Timestamp,
    ) -> Result<IssuedCertificate, Error> {
        let cluster = &request.caller.cluster;
        // `cluster` may be of an older snapshot: the authority in force now signs.
        let snapshot = self.snapshot.load_full();
        let current = snapshot.clusters.get(&cluster.name);
        let active = current
            .and_then(|cluster| cluster.active.as_ref())
            .ok_or_else(|| no_authority(&cluster.name))?;
        let end = active.issuer.not_after();
        // Who asked for exactly this is told, rather than given less; near its end an authority signs only where it has no
        // successor.
        if matches!(request.ttl, AskedTtl::Exactly(ttl) if now < end && now.plus(ttl) > end) {
            return Err(Error::new(
                ErrorKind::Malformed,
                "ttl",
                format!(
                    "the cluster's authority ends at {end}, before the lifetime that was asked for"
                ),
            ));
        }
        sign_by(&self.context, &snapshot, active, grant, csr, cluster, now).await
    }

    /// A caller who waited for its turn may have been revoked meanwhile. `now` was read before the store is: no certificate
    /// that says that it was issued after a revocation renews the revoked one.
    async fn still_good(&self, caller: &Caller, now: Timestamp) -> Result<(), Error> {
        match &caller.proof {
            Proof::Certificate(shown) => still_stands(&self.context, shown, now).await,
            _ => Ok(()),
        }
    }

    /// What an enrolment token was used for, when its holder asks again for the same with the same key: the answer was
    /// lost on a bad network. There is one certificate for a token, however often it is asked for.
    async fn issued_before(
        &self,
        caller: &Caller,
        csr: &VerifiedCsr,
        grant: &Grant,
    ) -> Result<Option<IssuedCertificate>, Error> {
        let Proof::Enrolment { id, .. } = &caller.proof else {
            return Ok(None);
        };
        let store = &self.context.store;
        let row = store.enrolment(id).await?;
        let used = row.and_then(|row| Some((row.consumed_at?, row.key_digest?, row.certificate?)));
        let Some((at, key, (authority, serial))) = used else {
            return Ok(None);
        };
        let spent = || not_recorded(RecordError::EnrolmentSpent);
        let now = self.context.clock.trusted_now()?;
        if key != csr.key().digest() || now > at.plus(ENROLMENT_RETRY) {
            return Err(spent());
        }
        let record = store.record_of(&authority, &serial).await?;
        let same = record.filter(|stored| {
            stored.record.names == grant.names.to_strings() && stored.revoked.is_none()
        });
        let stored = same.ok_or_else(spent)?;
        let snapshot = self.snapshot.load_full();
        let authority = snapshot.authority(&authority).ok_or_else(spent)?;
        tracing::info!(cert.serial = %serial, enrolment.id = %id, "the enrolment's certificate is handed out again");
        Ok(Some(IssuedCertificate {
            certificate: Certificate::parse(&stored.record.der).map_err(Error::internal)?,
            authority: authority.clone(),
            bundle: self.bundle(&caller.cluster.policy.trust_domain)?,
        }))
    }

    async fn put_on_record(
        &self,
        record: NewRecord,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<u64, RecordError> {
        match &caller.proof {
            Proof::Enrolment { id, .. } => {
                self.context.store.record_enrolled(&record, id, now).await
            }
            Proof::Administrator { .. } | Proof::Certificate(_) | Proof::ServiceAccount { .. } => {
                self.recorder.record(record).await
            }
        }
    }
}

/// Has `authority` sign, whatever its state, under what `snapshot` says is in force.
pub(super) async fn sign_by(
    context: &Context,
    snapshot: &Snapshot,
    authority: &Arc<Authority>,
    grant: &Grant,
    csr: &VerifiedCsr,
    cluster: &Cluster,
    now: Timestamp,
) -> Result<IssuedCertificate, Error> {
    let key = authority.key.as_ref().ok_or_else(|| {
        Error::new(
            ErrorKind::Unavailable,
            "no-key",
            format!("this replica does not hold the key of {}", authority.id),
        )
    })?;
    let bundle = snapshot.bundle(&cluster.policy.trust_domain)?;
    let entropy = entropy::draw(&*context.entropy)?;
    let leaf = LeafRequest {
        grant,
        key: csr.key(),
        urls: &status::urls(&context.settings, grant.profile, authority, &entropy),
        entropy,
        now,
    };
    let prepared = prepare_leaf(&leaf, &authority.issuer).map_err(|error| match error {
        PrepareError::IssuerNotValid { .. } => Error::new(
            ErrorKind::Internal,
            "issuer-expired",
            "the cluster's authority is not valid now",
        )
        .because(error),
        error => Error::internal(error),
    })?;
    let certificate = key.seal(prepared).await?;
    Ok(IssuedCertificate {
        certificate,
        authority: authority.clone(),
        bundle,
    })
}

pub(super) fn no_authority(cluster: &ClusterName) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "no-authority",
        format!("cluster {cluster} has no active authority"),
    )
}

/// An enrolment token is for one profile.
fn check_enrolment_profile(request: &IssueRequest) -> Result<(), Error> {
    match &request.caller.proof {
        Proof::Enrolment { profile, .. } if profile.as_str() != request.profile.as_str() => {
            Err(Error::new(
                ErrorKind::Malformed,
                "policy",
                format!(
                    "the enrolment token is for profile {profile}, {} was asked for",
                    request.profile.as_str()
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// What a record says of the asking.
pub(super) struct Asked<'a> {
    pub(super) cluster: &'a ClusterName,
    pub(super) kind: &'static str,
    pub(super) caller: String,
    pub(super) detail: Option<String>,
    pub(super) ttl: AskedTtl,
    pub(super) request_id: &'a str,
}

pub(super) fn record(
    asked: Asked<'_>,
    csr: &VerifiedCsr,
    grant: &Grant,
    issued: &IssuedCertificate,
    now: Timestamp,
) -> Result<NewRecord, Error> {
    let IssuedCertificate {
        certificate,
        authority,
        bundle,
    } = issued;
    let names = grant.names.to_strings();
    let (certificate_digest, key_digest) = (certificate.digest(), csr.key().digest());
    let leaf_hash = Issued {
        issued_at: now,
        authority: &authority.id,
        serial: certificate.serial(),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        certificate: certificate_digest,
        request: csr.digest(),
        key: key_digest,
        profile: grant.profile.as_str(),
        caller: &asked.caller,
        names: &names,
    }
    .leaf_hash();
    Ok(NewRecord {
        authority: authority.id.clone(),
        cluster: asked.cluster.clone(),
        serial: certificate.serial(),
        issued_at: now,
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        names,
        key_digest,
        request_digest: csr.digest(),
        certificate_digest,
        der: certificate.der().to_vec(),
        caller_kind: asked.kind.to_owned(),
        caller: asked.caller,
        caller_detail: asked.detail,
        profile: grant.profile.name().map_err(Error::internal)?,
        asked_names: csr.alt_names().iter().map(ToString::to_string).collect(),
        asked_ttl: match asked.ttl {
            AskedTtl::Default => None,
            AskedTtl::Exactly(ttl) | AskedTtl::AtMost(ttl) => Some(ttl.seconds()),
        },
        granted_ttl: grant.ttl.seconds(),
        rule: grant.rule.clone(),
        bundle_sequence: bundle.bundle.sequence(),
        request_id: asked.request_id.to_owned(),
        leaf_hash,
    })
}

pub(super) fn not_recorded(error: RecordError) -> Error {
    match error {
        RecordError::EnrolmentSpent => Error::new(
            ErrorKind::Unauthenticated,
            "enrolment-spent",
            "the enrolment token was used, by another key or too long ago",
        ),
        RecordError::EnrolmentExpired => Error::new(
            ErrorKind::Unauthenticated,
            "enrolment-expired",
            "the enrolment token has expired or was revoked",
        ),
        RecordError::LogClosed => Error::new(
            ErrorKind::Unavailable,
            "no-authority",
            "the cluster's authority was revoked, try again when it has another",
        )
        .because(error),
        RecordError::Unavailable { .. } => Error::new(
            ErrorKind::Unavailable,
            "store",
            "the store is away, try again",
        )
        .because(error),
        error => Error::internal(error),
    }
}
