//! What the store keeps, as plain data.

use std::collections::BTreeSet;
use std::fmt;

use hsm::pkcs11::KeyOrigin;
use hsm::wrapping::{SALT_BYTES, WrappingKind};
use pki::crypto::Digest;
use pki::name::{AuthorityId, ClusterName, KeyUri, ProfileName, SpiffePattern, TrustDomain};
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};

pub use super::audit::{AuditCursor, AuditFilter, AuditHead, AuditRow, NewAudit};

/// The installation's key-encryption key, as it rests.
#[derive(Clone, PartialEq, Eq)]
pub struct Installation {
    /// Where the key comes from that it is sealed under.
    pub wrapping: WrappingKind,
    /// The salt that the wrapping key is derived with.
    pub salt: [u8; SALT_BYTES],
    /// The key-encryption key, sealed.
    pub sealed_key: Vec<u8>,
    /// Since when it is sealed so.
    pub changed_at: Timestamp,
    /// Grows with each change; 1 on creation, whatever is given here.
    pub version: i64,
}

impl fmt::Debug for Installation {
    /// Without the sealed key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installation")
            .field("wrapping", &self.wrapping)
            .field("changed_at", &self.changed_at)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A mesh cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRow {
    /// Its id.
    pub name: ClusterName,
    /// The trust domain that it is in.
    pub trust_domain: TrustDomain,
    /// The rest of it, as JSON that the store does not read.
    pub definition: String,
    /// Grows with each update; 1 on insertion, whatever is given here.
    pub version: i64,
}

/// Where an authority is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorityState {
    /// It has a key and a request.
    Requested,
    /// It has a certificate.
    Imported,
    /// It and its first CRL are in everyone's bundles.
    Published,
    /// It signs certificates; one in each cluster.
    Active,
    /// It signs CRLs and OCSP responses alone, until its last leaf has expired.
    Retiring,
    /// It signs nothing any more.
    Retired,
    /// Its certificate was revoked.
    Revoked,
}

impl AuthorityState {
    const ALL: [Self; 7] = [
        Self::Requested,
        Self::Imported,
        Self::Published,
        Self::Active,
        Self::Retiring,
        Self::Retired,
        Self::Revoked,
    ];

    /// Its name in the database and in interfaces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Imported => "imported",
            Self::Published => "published",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for AuthorityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A CA with one key.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorityRow {
    /// Its id; never changes.
    pub id: AuthorityId,
    /// Its cluster; never changes.
    pub cluster: ClusterName,
    /// Its number in its cluster, from 1; never changes.
    pub generation: u32,
    /// Where it is on its way.
    pub state: AuthorityState,
    /// Its subject, for people; never changes.
    pub subject: String,
    /// DER of its SubjectPublicKeyInfo, unique in the store; never changes.
    pub spki: Vec<u8>,
    /// Its key under the installation's key-encryption key, unless a token holds it.
    pub sealed_key: Option<Vec<u8>>,
    /// Where a token holds its key.
    pub key_uri: Option<KeyUri>,
    /// What the token said of the key when the authority was requested.
    pub key_origin: Option<KeyOrigin>,
    /// DER of its certificate request.
    pub request: Vec<u8>,
    /// DER of its certificate, of each authority above it, and last of the root; empty before import.
    pub chain: Vec<Vec<u8>>,
    /// The last second of its certificate.
    pub not_after: Option<Timestamp>,
    /// When it shall become active; once it has, when it did.
    pub activate_at: Option<Timestamp>,
    /// When its key was made.
    pub created_at: Timestamp,
    /// When and why its certificate was revoked; [`super::Store::revoke_authority`] alone sets it.
    pub revoked: Option<(Timestamp, u8)>,
    /// How its CRLs are cut. Its shards never change: they are written in its leaves.
    pub crl_shape: CrlShape,
    /// Since when it and its first CRL are in everyone's bundles.
    pub published_at: Option<Timestamp>,
    /// Where its shards and deltas are found: `public.url` as it was when the authority was requested. It is written in its
    /// leaves, and never changes.
    pub public_url: Option<String>,
    /// Grows with each update; 1 on insertion, whatever is given here.
    pub version: i64,
}

/// What an authority publishes beside its complete CRL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrlShape {
    /// In how many shards; 0 for none, 256 at most.
    pub shards: u16,
    /// Whether a delta goes with it.
    pub delta: bool,
}

impl AuthorityRow {
    /// Where its key is and where it came from, for people.
    #[must_use]
    pub fn key_place(&self) -> String {
        match (&self.key_uri, &self.key_origin) {
            (Some(uri), Some(origin)) => format!("{uri}: {origin}"),
            (Some(uri), None) => uri.to_string(),
            (None, _) => "in the store, sealed".to_owned(),
        }
    }
}

impl fmt::Debug for AuthorityRow {
    /// Without the sealed key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityRow")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The roots that a trust domain believes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRow {
    /// Whose roots.
    pub trust_domain: TrustDomain,
    /// Grows with each change; 0 for a trust domain that never had a root.
    pub sequence: u64,
    /// DER of each, oldest in the bundle first.
    pub roots: Vec<Vec<u8>>,
}

/// An authority's latest CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlRow {
    /// Its number (RFC 5280 §5.2.3).
    pub number: u64,
    /// The CRL.
    pub der: Vec<u8>,
    /// When it was signed.
    pub this_update: Timestamp,
    /// When the next one is promised.
    pub next_update: Timestamp,
    /// The index of the last revocation of the authority's log that it takes into account; `None` before the first.
    pub covers: Option<u64>,
    /// Shards and delta that belong to it, by name.
    pub parts: Vec<(String, Vec<u8>)>,
}

/// An offline root's CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootCrlRow {
    /// SHA-256 of its SubjectPublicKeyInfo: a root that is cross-signed, or certified again, has one CRL.
    pub root: Digest,
    /// Its number.
    pub number: u64,
    /// The CRL.
    pub der: Vec<u8>,
    /// When it was signed.
    pub this_update: Timestamp,
    /// When the next one is promised.
    pub next_update: Timestamp,
    /// When it was brought here.
    pub imported_at: Timestamp,
}

/// A single-use permission to get a first certificate. The store has the token's hash alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentRow {
    /// Its id, which is no secret.
    pub id: String,
    /// SHA-256 of the token.
    pub hash: Digest,
    /// The cluster that it is for.
    pub cluster: ClusterName,
    /// The ids that may be asked for.
    pub pattern: SpiffePattern,
    /// The profile of what is issued.
    pub profile: ProfileName,
    /// The first second at which it is of no use.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it was first used.
    pub consumed_at: Option<Timestamp>,
    /// SHA-256 of the SubjectPublicKeyInfo that it was used with.
    pub key_digest: Option<Digest>,
    /// When it was withdrawn.
    pub revoked_at: Option<Timestamp>,
    /// What it was used for.
    pub certificate: Option<(AuthorityId, Serial)>,
}

/// What is recorded of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Who signed it.
    pub authority: AuthorityId,
    /// Whose cluster.
    pub cluster: ClusterName,
    /// Its serial number, one of ours: it carries the day of expiry.
    pub serial: Serial,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// The first second of its validity.
    pub not_before: Timestamp,
    /// The last second of its validity.
    pub not_after: Timestamp,
    /// Its names: `URI:…`, `DNS:…`, `IP:…`.
    pub names: Vec<String>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key_digest: Digest,
    /// SHA-256 of the request.
    pub request_digest: Digest,
    /// SHA-256 of the certificate.
    pub certificate_digest: Digest,
    /// The certificate.
    pub der: Vec<u8>,
    /// How the caller proved who it is.
    pub caller_kind: String,
    /// Who asked.
    pub caller: String,
    /// What else is known of the caller, as JSON: node, pod UID, token id, remote address.
    pub caller_detail: Option<String>,
    /// The profile.
    pub profile: ProfileName,
    /// The names that were asked for.
    pub asked_names: Vec<String>,
    /// The lifetime that was asked for, in seconds.
    pub asked_ttl: Option<i64>,
    /// The lifetime that was granted, in seconds.
    pub granted_ttl: i64,
    /// The rule that granted it.
    pub rule: String,
    /// The bundle that went with it.
    pub bundle_sequence: u64,
    /// The call that asked.
    pub request_id: String,
    /// The hash of its leaf in the issuance log.
    pub leaf_hash: Digest,
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// What was recorded.
    pub record: NewRecord,
    /// Its place in its authority's log, from 0, without gaps.
    pub log_index: u64,
    /// When it was revoked and why (the number of a CRLReason, RFC 5280 §5.3.1).
    pub revoked: Option<(Timestamp, u8)>,
}

impl StoredRecord {
    /// How it stands at `at`.
    #[must_use]
    pub fn state(&self, at: Timestamp) -> RecordState {
        const CERTIFICATE_HOLD: u8 = 6;
        match self.revoked {
            Some((_, CERTIFICATE_HOLD)) => RecordState::Held,
            Some(_) => RecordState::Revoked,
            None if self.record.not_after < at => RecordState::Expired,
            None => RecordState::Valid,
        }
    }

    /// Where the next page of a search that ended here begins.
    #[must_use]
    pub fn cursor(&self) -> RecordCursor {
        RecordCursor {
            issued_at: self.record.issued_at,
            serial: self.record.serial,
        }
    }
}

/// The last record of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordCursor {
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Its serial number. 128 random bits: that two authorities share one in the same second does not happen.
    pub serial: Serial,
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordState {
    /// It has not ended, and is neither revoked nor on hold.
    Valid,
    /// It has ended, and was neither revoked nor on hold.
    Expired,
    /// It was revoked, whether it has ended or not. A revoked authority's certificates count by themselves alone.
    Revoked,
    /// It is on hold.
    Held,
}

impl RecordState {
    const ALL: [Self; 4] = [Self::Valid, Self::Expired, Self::Revoked, Self::Held];

    /// Its name in interfaces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Held => "held",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A page of records, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPage {
    /// What was found: at most as many as the filter's limit. There may be fewer, or none, and more to come: a page ends
    /// where enough was looked at.
    pub records: Vec<StoredRecord>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<RecordCursor>,
}

/// What to search for: every condition has to hold. A search always has a window of expiry: it is what keeps it to a few
/// partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFilter {
    /// With this serial number.
    pub serial: Option<Serial>,
    /// In this cluster alone.
    pub cluster: Option<ClusterName>,
    /// In one of these clusters.
    pub among: Option<BTreeSet<ClusterName>>,
    /// With exactly these names: `URI:…`, `DNS:…`, `IP:…`. Every one of them.
    pub names: Vec<String>,
    /// Asked for by exactly this caller.
    pub caller: Option<String>,
    /// By this authority alone.
    pub authority: Option<AuthorityId>,
    /// With the key whose SubjectPublicKeyInfo has this SHA-256.
    pub key: Option<Digest>,
    /// Of this profile.
    pub profile: Option<ProfileName>,
    /// That stand so at [`Self::at`].
    pub state: Option<RecordState>,
    /// The time that the state is asked for.
    pub at: Timestamp,
    /// Issued at this time or later.
    pub issued_from: Option<Timestamp>,
    /// Issued before this time.
    pub issued_to: Option<Timestamp>,
    /// Whose last second is this one or a later one.
    pub expires_from: Timestamp,
    /// Whose last second is this one or an earlier one.
    pub expires_to: Timestamp,
    /// How many at most; more than [`RecordFilter::LIMIT_MAX`] counts as that, and none as one.
    pub limit: u32,
    /// Only what comes after this one.
    pub after: Option<RecordCursor>,
}

const DAY_SECONDS: i64 = 86_400;
const LAST_EXPIRY: Timestamp = Timestamp::from_unix(i64::MAX);

fn start_of_day(at: Timestamp) -> Timestamp {
    Timestamp::from_unix(i64::from(at.day()) * DAY_SECONDS)
}

impl RecordFilter {
    /// The most that one page has.
    pub const LIMIT_MAX: u32 = 500;

    /// Everything that is valid at `now`, expired on the day before, or expires within 40 days; 100 a page.
    #[must_use]
    pub fn recent(now: Timestamp) -> Self {
        Self {
            expires_from: start_of_day(now.minus(Ttl::days(1))),
            expires_to: now.plus(Ttl::days(40)),
            ..Self::ever(now)
        }
    }

    /// Everything that is valid at `now`, or expires on that day, however long it lives.
    #[must_use]
    pub fn live(now: Timestamp) -> Self {
        Self {
            expires_from: start_of_day(now),
            ..Self::ever(now)
        }
    }

    /// Everything that is on record; 100 a page.
    #[must_use]
    pub fn ever(now: Timestamp) -> Self {
        Self {
            serial: None,
            cluster: None,
            among: None,
            names: Vec::new(),
            caller: None,
            authority: None,
            key: None,
            profile: None,
            state: None,
            at: now,
            issued_from: None,
            issued_to: None,
            expires_from: Timestamp::EPOCH,
            expires_to: LAST_EXPIRY,
            limit: 100,
            after: None,
        }
    }
}

/// A serial number that is of no use any more, or on hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which.
    pub serial: Serial,
    /// Since when.
    pub revoked_at: Timestamp,
    /// Why: the number of a CRLReason (RFC 5280 §5.3.1); 6 is a hold.
    pub reason: u8,
    /// The last second of the certificate.
    pub not_after: Timestamp,
}

/// A change of a certificate's status, to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// Who issued it.
    pub authority: AuthorityId,
    /// Which.
    pub serial: Serial,
    /// When it is changed.
    pub at: Timestamp,
    /// Why: the number of a CRLReason; 6 puts it on hold.
    pub reason: u8,
    /// Who changes it.
    pub actor: String,
    /// The hash of the change's leaf in the issuance log.
    pub leaf_hash: Digest,
}

/// The revocation of an authority's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRevocation {
    /// When.
    pub at: Timestamp,
    /// Why: the number of a CRLReason.
    pub reason: u8,
    /// The last second of the authority's certificate.
    pub not_after: Timestamp,
    /// Who revokes it.
    pub actor: String,
    /// The hash of the entry's leaf in the issuance log.
    pub leaf_hash: Digest,
}

/// What became of a [`StatusChange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusOutcome {
    /// It is done, durably, at this index of the authority's log.
    Done(u64),
    /// It was not on hold, so that there is nothing to lift.
    NotHeld,
    /// The authority has issued no such certificate.
    NotOnRecord,
    /// It is revoked, or on hold, already; nothing changed.
    Standing(Revocation),
}

/// What happened to a certificate, or to its authority, after it was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusEvent {
    /// Revoked or put on hold (reason 6).
    Revoked(Revocation),
    /// Its hold was lifted.
    Lifted(Serial),
    /// The authority was revoked, and with it every certificate of its.
    AuthorityRevoked {
        /// When.
        at: Timestamp,
        /// Why: the number of a CRLReason.
        reason: u8,
    },
}

/// How far an authority's status has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPosition {
    /// Whose.
    pub authority: AuthorityId,
    /// The index of its log's last status event; `None` before the first.
    pub last: Option<u64>,
    /// How long its log is.
    pub log_size: u64,
    /// The number of its latest CRL.
    pub crl_number: Option<u64>,
}
