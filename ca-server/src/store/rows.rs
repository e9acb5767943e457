//! Rows as the databases give them, and the way from there to the model. Both engines share it.

use hsm::pkcs11::KeyOrigin;
use hsm::wrapping::WrappingKind;
use pki::audit::Mark;
use pki::crypto::Digest;
use pki::name::AuthorityId;
use pki::serial::Serial;
use pki::time::Timestamp;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::StoreError;
use super::administrators::{BindingRow, ProposalRow, ProposalState};
use super::model::{
    AuditHead, AuditRow, AuthorityRow, AuthorityState, BundleRow, ClusterRow, CrlRow, CrlShape,
    EnrolmentRow, Installation, NewRecord, RecordCursor, Revocation, RootCrlRow, StatusEvent,
    StatusPosition, StoredRecord,
};
use crate::app::roles::{Role, Scope};

/// A row's fields by their columns' names, in either engine: what `#[derive(FromRow)]` makes, without building both drivers a
/// second time for a macro to run in.
macro_rules! row {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($(#[$field_doc:meta])* $field_vis:vis $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        $vis struct $name { $($(#[$field_doc])* $field_vis $field: $type,)* }

        impl<'r, R: Row> FromRow<'r, R> for $name
        where
            &'static str: ColumnIndex<R>,
            $($type: Decode<'r, R::Database> + Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: row.try_get(stringify!($field))?,)* })
            }
        }
    };
}

row! {
    pub(super) struct RawInstallation {
        wrapping: String,
        salt: Vec<u8>,
        sealed_key: Vec<u8>,
        changed_at: i64,
        version: i64,
    }
}

impl TryFrom<RawInstallation> for Installation {
    type Error = StoreError;

    fn try_from(raw: RawInstallation) -> Result<Self, StoreError> {
        const TABLE: &str = "installation";
        Ok(Self {
            wrapping: WrappingKind::parse(&raw.wrapping)
                .ok_or(StoreError::corrupt(TABLE, "wrapping"))?,
            salt: raw
                .salt
                .try_into()
                .map_err(|_| StoreError::corrupt(TABLE, "salt"))?,
            sealed_key: raw.sealed_key,
            changed_at: Timestamp::from_unix(raw.changed_at),
            version: raw.version,
        })
    }
}

row! {
    pub(super) struct RawCluster {
        name: String,
        trust_domain: String,
        definition: String,
        version: i64,
    }
}

impl TryFrom<RawCluster> for ClusterRow {
    type Error = StoreError;

    fn try_from(raw: RawCluster) -> Result<Self, StoreError> {
        Ok(Self {
            name: parse("cluster", "name", &raw.name)?,
            trust_domain: parse("cluster", "trust_domain", &raw.trust_domain)?,
            definition: raw.definition,
            version: raw.version,
        })
    }
}

row! {
    pub(super) struct RawAuthority {
        id: String,
        cluster: String,
        generation: i64,
        state: String,
        subject: String,
        spki: Vec<u8>,
        sealed_key: Option<Vec<u8>>,
        key_uri: Option<String>,
        key_origin: Option<String>,
        request: Vec<u8>,
        chain: Vec<u8>,
        not_after: Option<i64>,
        activate_at: Option<i64>,
        created_at: i64,
        revoked_at: Option<i64>,
        revoked_reason: Option<i64>,
        crl_shards: i64,
        crl_delta: bool,
        published_at: Option<i64>,
        public_url: Option<String>,
        version: i64,
    }
}

impl TryFrom<RawAuthority> for AuthorityRow {
    type Error = StoreError;

    fn try_from(raw: RawAuthority) -> Result<Self, StoreError> {
        const TABLE: &str = "authority";
        Ok(Self {
            id: parse(TABLE, "id", &raw.id)?,
            cluster: parse(TABLE, "cluster", &raw.cluster)?,
            generation: number(TABLE, "generation", raw.generation)?,
            state: AuthorityState::parse(&raw.state).ok_or(StoreError::corrupt(TABLE, "state"))?,
            subject: raw.subject,
            spki: raw.spki,
            sealed_key: raw.sealed_key,
            key_uri: raw
                .key_uri
                .map(|uri| parse(TABLE, "key_uri", &uri))
                .transpose()?,
            key_origin: raw
                .key_origin
                .map(|words| read_origin(&words).ok_or(StoreError::corrupt(TABLE, "key_origin")))
                .transpose()?,
            request: raw.request,
            chain: split_chain(&raw.chain).ok_or(StoreError::corrupt(TABLE, "chain"))?,
            not_after: raw.not_after.map(Timestamp::from_unix),
            activate_at: raw.activate_at.map(Timestamp::from_unix),
            created_at: Timestamp::from_unix(raw.created_at),
            revoked: match (raw.revoked_at, raw.revoked_reason) {
                (Some(at), Some(reason)) => Some((
                    Timestamp::from_unix(at),
                    number(TABLE, "revoked_reason", reason)?,
                )),
                _ => None,
            },
            crl_shape: CrlShape {
                shards: number(TABLE, "crl_shards", raw.crl_shards)?,
                delta: raw.crl_delta,
            },
            published_at: raw.published_at.map(Timestamp::from_unix),
            public_url: raw.public_url,
            version: raw.version,
        })
    }
}

/// What a token says of a key, each with its word.
fn origin_words(origin: KeyOrigin) -> [(bool, &'static str); 5] {
    [
        (origin.local, "local"),
        (origin.sensitive, "sensitive"),
        (origin.always_sensitive, "always-sensitive"),
        (origin.extractable, "extractable"),
        (origin.never_extractable, "never-extractable"),
    ]
}

/// The words that hold, parted by spaces.
pub(super) fn write_origin(origin: KeyOrigin) -> String {
    let words = origin_words(origin).into_iter();
    let held: Vec<_> = words
        .filter_map(|(holds, word)| holds.then_some(word))
        .collect();
    held.join(" ")
}

fn read_origin(words: &str) -> Option<KeyOrigin> {
    let mut origin = KeyOrigin {
        local: false,
        sensitive: false,
        always_sensitive: false,
        extractable: false,
        never_extractable: false,
    };
    for word in words.split_whitespace() {
        match word {
            "local" => origin.local = true,
            "sensitive" => origin.sensitive = true,
            "always-sensitive" => origin.always_sensitive = true,
            "extractable" => origin.extractable = true,
            "never-extractable" => origin.never_extractable = true,
            _ => return None,
        }
    }
    Some(origin)
}

row! {
    /// A bundle joined with one of its roots, or with none.
    pub(super) struct RawBundleRoot {
        trust_domain: String,
        sequence: i64,
        der: Option<Vec<u8>>,
    }
}

/// Gathers rows that are ordered by trust domain.
pub(super) fn bundles(rows: Vec<RawBundleRoot>) -> Result<Vec<BundleRow>, StoreError> {
    let mut bundles: Vec<BundleRow> = Vec::new();
    for row in rows {
        match bundles.last_mut() {
            Some(last) if last.trust_domain.as_str() == row.trust_domain => {
                last.roots.extend(row.der);
            }
            _ => bundles.push(BundleRow {
                trust_domain: parse("bundle", "trust_domain", &row.trust_domain)?,
                sequence: number("bundle", "sequence", row.sequence)?,
                roots: row.der.into_iter().collect(),
            }),
        }
    }
    Ok(bundles)
}

row! {
    pub(super) struct RawCrl {
        number: i64,
        der: Vec<u8>,
        this_update: i64,
        next_update: i64,
        covers: i64,
    }
}

impl RawCrl {
    pub(super) fn with(self, parts: Vec<(String, Vec<u8>)>) -> Result<CrlRow, StoreError> {
        Ok(CrlRow {
            number: number("crl", "number", self.number)?,
            der: self.der,
            this_update: Timestamp::from_unix(self.this_update),
            next_update: Timestamp::from_unix(self.next_update),
            covers: position(self.covers),
            parts,
        })
    }
}

/// A log index, -1 for none.
pub(super) fn position(index: i64) -> Option<u64> {
    u64::try_from(index).ok()
}

/// The way back from [`position`].
pub(super) fn from_position(index: Option<u64>) -> i64 {
    index.map_or(-1, signed)
}

row! {
    pub(super) struct RawRootCrl {
        root: Vec<u8>,
        number: i64,
        der: Vec<u8>,
        this_update: i64,
        next_update: i64,
        imported_at: i64,
    }
}

impl TryFrom<RawRootCrl> for RootCrlRow {
    type Error = StoreError;

    fn try_from(raw: RawRootCrl) -> Result<Self, StoreError> {
        Ok(Self {
            root: digest("root_crl", "root", &raw.root)?,
            number: number("root_crl", "number", raw.number)?,
            der: raw.der,
            this_update: Timestamp::from_unix(raw.this_update),
            next_update: Timestamp::from_unix(raw.next_update),
            imported_at: Timestamp::from_unix(raw.imported_at),
        })
    }
}

row! {
    pub(super) struct RawEnrolment {
        id: String,
        hash: Vec<u8>,
        cluster: String,
        pattern: String,
        profile: String,
        expires_at: i64,
        created_at: i64,
        created_by: String,
        consumed_at: Option<i64>,
        key_digest: Option<Vec<u8>>,
        revoked_at: Option<i64>,
        authority: Option<String>,
        serial: Option<Vec<u8>>,
    }
}

impl TryFrom<RawEnrolment> for EnrolmentRow {
    type Error = StoreError;

    fn try_from(raw: RawEnrolment) -> Result<Self, StoreError> {
        const TABLE: &str = "enrolment";
        Ok(Self {
            id: raw.id,
            hash: digest(TABLE, "hash", &raw.hash)?,
            cluster: parse(TABLE, "cluster", &raw.cluster)?,
            pattern: parse(TABLE, "pattern", &raw.pattern)?,
            profile: parse(TABLE, "profile", &raw.profile)?,
            expires_at: Timestamp::from_unix(raw.expires_at),
            created_at: Timestamp::from_unix(raw.created_at),
            created_by: raw.created_by,
            consumed_at: raw.consumed_at.map(Timestamp::from_unix),
            key_digest: raw
                .key_digest
                .map(|bytes| digest(TABLE, "key_digest", &bytes))
                .transpose()?,
            revoked_at: raw.revoked_at.map(Timestamp::from_unix),
            certificate: match (raw.authority, raw.serial) {
                (Some(authority), Some(bytes)) => Some((
                    parse(TABLE, "authority", &authority)?,
                    serial(TABLE, &bytes)?,
                )),
                _ => None,
            },
        })
    }
}

row! {
    pub(super) struct RawRecord {
        authority: String,
        serial: Vec<u8>,
        cluster: String,
        log_index: i64,
        leaf_hash: Vec<u8>,
        issued_at: i64,
        not_before: i64,
        not_after: i64,
        names: String,
        key_digest: Vec<u8>,
        request_digest: Vec<u8>,
        certificate_digest: Vec<u8>,
        der: Vec<u8>,
        caller_kind: String,
        caller: String,
        caller_detail: Option<String>,
        profile: String,
        asked_names: String,
        asked_ttl: Option<i64>,
        granted_ttl: i64,
        rule: String,
        bundle_sequence: i64,
        request_id: String,
        revoked_at: Option<i64>,
        reason: Option<i64>,
    }
}

impl TryFrom<RawRecord> for StoredRecord {
    type Error = StoreError;

    fn try_from(raw: RawRecord) -> Result<Self, StoreError> {
        const TABLE: &str = "certificate";
        let revoked = match (raw.revoked_at, raw.reason) {
            (Some(at), Some(reason)) => Some((
                Timestamp::from_unix(at),
                number("revocation", "reason", reason)?,
            )),
            _ => None,
        };
        let record = NewRecord {
            authority: parse(TABLE, "authority", &raw.authority)?,
            cluster: parse(TABLE, "cluster", &raw.cluster)?,
            serial: serial(TABLE, &raw.serial)?,
            issued_at: Timestamp::from_unix(raw.issued_at),
            not_before: Timestamp::from_unix(raw.not_before),
            not_after: Timestamp::from_unix(raw.not_after),
            names: split_list(TABLE, "names", &raw.names)?,
            key_digest: digest(TABLE, "key_digest", &raw.key_digest)?,
            request_digest: digest(TABLE, "request_digest", &raw.request_digest)?,
            certificate_digest: digest(TABLE, "certificate_digest", &raw.certificate_digest)?,
            der: raw.der,
            caller_kind: raw.caller_kind,
            caller: raw.caller,
            caller_detail: raw.caller_detail,
            profile: parse(TABLE, "profile", &raw.profile)?,
            asked_names: split_list(TABLE, "asked_names", &raw.asked_names)?,
            asked_ttl: raw.asked_ttl,
            granted_ttl: raw.granted_ttl,
            rule: raw.rule,
            bundle_sequence: number(TABLE, "bundle_sequence", raw.bundle_sequence)?,
            request_id: raw.request_id,
            leaf_hash: digest(TABLE, "leaf_hash", &raw.leaf_hash)?,
        };
        Ok(Self {
            record,
            log_index: number(TABLE, "log_index", raw.log_index)?,
            revoked,
        })
    }
}

row! {
    /// Where a record lies.
    pub(super) struct RawKey {
        authority: String,
        serial: Vec<u8>,
        issued_at: i64,
    }
}

impl RawKey {
    pub(super) fn place(self) -> Result<(AuthorityId, RecordCursor), StoreError> {
        let cursor = RecordCursor {
            issued_at: Timestamp::from_unix(self.issued_at),
            serial: serial("certificate_name", &self.serial)?,
        };
        Ok((
            parse("certificate_name", "authority", &self.authority)?,
            cursor,
        ))
    }
}

row! {
    pub(super) struct RawRevocation {
        serial: Vec<u8>,
        revoked_at: i64,
        reason: i64,
        not_after: i64,
    }
}

impl TryFrom<RawRevocation> for Revocation {
    type Error = StoreError;

    fn try_from(raw: RawRevocation) -> Result<Self, StoreError> {
        Ok(Self {
            serial: serial("revocation", &raw.serial)?,
            revoked_at: Timestamp::from_unix(raw.revoked_at),
            reason: number("revocation", "reason", raw.reason)?,
            not_after: Timestamp::from_unix(raw.not_after),
        })
    }
}

row! {
    /// A row of the revocation log.
    pub(super) struct RawStatusEvent {
        log_index: i64,
        kind: String,
        serial: Option<Vec<u8>>,
        at: i64,
        reason: i64,
        not_after: i64,
    }
}

impl TryFrom<RawStatusEvent> for (u64, StatusEvent) {
    type Error = StoreError;

    fn try_from(raw: RawStatusEvent) -> Result<Self, StoreError> {
        const TABLE: &str = "revocation_log";
        let at = Timestamp::from_unix(raw.at);
        let reason = number(TABLE, "reason", raw.reason)?;
        let event = match (raw.kind.as_str(), raw.serial) {
            ("revoked" | "held", Some(bytes)) => StatusEvent::Revoked(Revocation {
                serial: serial(TABLE, &bytes)?,
                revoked_at: at,
                reason,
                not_after: Timestamp::from_unix(raw.not_after),
            }),
            ("lifted", Some(bytes)) => StatusEvent::Lifted(serial(TABLE, &bytes)?),
            ("authority-revoked", None) => StatusEvent::AuthorityRevoked { at, reason },
            _ => return Err(StoreError::corrupt(TABLE, "kind")),
        };
        Ok((number(TABLE, "log_index", raw.log_index)?, event))
    }
}

/// How a status event is called in the revocation log.
pub(super) fn kind(reason: u8) -> &'static str {
    const CERTIFICATE_HOLD: u8 = 6;
    if reason == CERTIFICATE_HOLD {
        "held"
    } else {
        "revoked"
    }
}

row! {
    pub(super) struct RawStatusPosition {
        authority: String,
        last_revocation: i64,
        next_index: i64,
        number: Option<i64>,
    }
}

impl TryFrom<RawStatusPosition> for StatusPosition {
    type Error = StoreError;

    fn try_from(raw: RawStatusPosition) -> Result<Self, StoreError> {
        Ok(Self {
            authority: parse("issuance_log", "authority", &raw.authority)?,
            last: position(raw.last_revocation),
            log_size: number("issuance_log", "next_index", raw.next_index)?,
            crl_number: raw.number.map(|n| number("crl", "number", n)).transpose()?,
        })
    }
}

row! {
    pub(super) struct RawAudit {
        replica: String,
        position: i64,
        at: i64,
        kind: String,
        actor: String,
        remote: String,
        rule: String,
        request_id: String,
        detail: String,
        previous: Vec<u8>,
        hash: Vec<u8>,
    }
}

impl TryFrom<RawAudit> for AuditRow {
    type Error = StoreError;

    fn try_from(raw: RawAudit) -> Result<Self, StoreError> {
        const TABLE: &str = "audit";
        Ok(Self {
            replica: raw.replica,
            position: number(TABLE, "position", raw.position)?,
            at: Timestamp::from_unix(raw.at),
            kind: raw.kind,
            actor: raw.actor,
            remote: raw.remote,
            rule: raw.rule,
            request_id: raw.request_id,
            detail: raw.detail,
            previous: digest(TABLE, "previous", &raw.previous)?,
            hash: digest(TABLE, "hash", &raw.hash)?,
        })
    }
}

row! {
    pub(super) struct RawAuditHead {
        replica: String,
        position: i64,
        hash: Vec<u8>,
        seal: Vec<u8>,
        at: i64,
    }
}

impl TryFrom<RawAuditHead> for AuditHead {
    type Error = StoreError;

    fn try_from(raw: RawAuditHead) -> Result<Self, StoreError> {
        const TABLE: &str = "audit_head";
        Ok(Self {
            mark: Mark {
                replica: raw.replica,
                position: number(TABLE, "position", raw.position)?,
                hash: digest(TABLE, "hash", &raw.hash)?,
            },
            seal: digest(TABLE, "seal", &raw.seal)?,
            at: Timestamp::from_unix(raw.at),
        })
    }
}

row! {
    pub(super) struct RawMark {
        replica: String,
        position: i64,
        hash: Vec<u8>,
    }
}

impl TryFrom<RawMark> for Mark {
    type Error = StoreError;

    fn try_from(raw: RawMark) -> Result<Self, StoreError> {
        const TABLE: &str = "audit_export";
        Ok(Self {
            replica: raw.replica,
            position: number(TABLE, "position", raw.position)?,
            hash: digest(TABLE, "hash", &raw.hash)?,
        })
    }
}

/// All rows, or the first that does not parse.
pub(super) fn all<R, T: TryFrom<R, Error = StoreError>>(
    rows: Vec<R>,
) -> Result<Vec<T>, StoreError> {
    rows.into_iter().map(T::try_from).collect()
}

pub(super) fn parse<T: std::str::FromStr>(
    table: &'static str,
    column: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::corrupt(table, column))
}

pub(super) fn number<T: TryFrom<i64>>(
    table: &'static str,
    column: &'static str,
    value: i64,
) -> Result<T, StoreError> {
    T::try_from(value).map_err(|_| StoreError::corrupt(table, column))
}

/// A counter as the databases keep it. They hold 63 bits, which no counter of ours reaches.
pub(super) fn signed(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}

fn digest(table: &'static str, column: &'static str, bytes: &[u8]) -> Result<Digest, StoreError> {
    bytes
        .try_into()
        .map_err(|_| StoreError::corrupt(table, column))
}

pub(super) fn serial(table: &'static str, bytes: &[u8]) -> Result<Serial, StoreError> {
    Serial::from_der_content(bytes).map_err(|_| StoreError::corrupt(table, "serial"))
}

/// Serial numbers with whose they are.
pub(super) fn issuers(
    rows: Vec<(Vec<u8>, String)>,
) -> Result<Vec<(Serial, AuthorityId)>, StoreError> {
    let read = |(bytes, authority): (Vec<u8>, String)| {
        let whose = parse("certificate", "authority", &authority)?;
        Ok((serial("certificate", &bytes)?, whose))
    };
    rows.into_iter().map(read).collect()
}

/// A list of text as one JSON array.
pub(super) fn join_list(list: &[String]) -> String {
    serde_json::Value::from(list).to_string()
}

fn split_list(
    table: &'static str,
    column: &'static str,
    text: &str,
) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::corrupt(table, column))
}

/// Certificates, one after the other, each after its length in four big-endian bytes.
pub(super) fn join_chain(chain: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for certificate in chain {
        // No certificate that parsed is near 4 GiB.
        let length = u32::try_from(certificate.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend_from_slice(certificate);
    }
    bytes
}

fn split_chain(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut chain = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (certificate, rest) = rest.split_at_checked(length)?;
        chain.push(certificate.to_vec());
        bytes = rest;
    }
    Some(chain)
}

row! {
    pub(super) struct RawBinding {
        id: String,
        principal: String,
        role: String,
        clusters: Option<String>,
        created_at: i64,
        created_by: String,
        seal: Vec<u8>,
    }
}

impl TryFrom<RawBinding> for BindingRow {
    type Error = StoreError;

    fn try_from(raw: RawBinding) -> Result<Self, StoreError> {
        const TABLE: &str = "role_binding";
        let scope = match raw.clusters {
            None => Scope::All,
            Some(names) => serde_json::from_str(&names)
                .map(Scope::Clusters)
                .map_err(|_| StoreError::corrupt(TABLE, "clusters"))?,
        };
        Ok(Self {
            id: raw.id,
            principal: raw.principal,
            role: Role::parse(&raw.role).ok_or(StoreError::corrupt(TABLE, "role"))?,
            scope,
            created_at: Timestamp::from_unix(raw.created_at),
            created_by: raw.created_by,
            seal: digest(TABLE, "seal", &raw.seal)?,
        })
    }
}

/// Where a role holds, as it is kept.
pub(super) fn write_scope(scope: &Scope) -> Option<String> {
    // A set of names is always written.
    scope
        .clusters()
        .and_then(|names| serde_json::to_string(names).ok())
}

row! {
    pub(super) struct RawProposal {
        id: String,
        act: String,
        kind: String,
        cluster: Option<String>,
        changes: String,
        state: String,
        created_at: i64,
        created_by: String,
        expires_at: i64,
        decided_at: Option<i64>,
        decided_by: Option<String>,
        outcome: Option<String>,
        seal: Vec<u8>,
        version: i64,
    }
}

impl TryFrom<RawProposal> for ProposalRow {
    type Error = StoreError;

    fn try_from(raw: RawProposal) -> Result<Self, StoreError> {
        const TABLE: &str = "proposal";
        Ok(Self {
            id: raw.id,
            act: raw.act,
            kind: raw.kind,
            cluster: raw
                .cluster
                .map(|name| parse(TABLE, "cluster", &name))
                .transpose()?,
            changes: raw.changes,
            state: ProposalState::parse(&raw.state).ok_or(StoreError::corrupt(TABLE, "state"))?,
            created_at: Timestamp::from_unix(raw.created_at),
            created_by: raw.created_by,
            expires_at: Timestamp::from_unix(raw.expires_at),
            decided: raw.decided_at.map(Timestamp::from_unix).zip(raw.decided_by),
            outcome: raw.outcome,
            seal: digest(TABLE, "seal", &raw.seal)?,
            version: raw.version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_round_trip_and_cut_ones_are_corrupt() {
        for chain in [
            vec![],
            vec![vec![1, 2, 3]],
            vec![vec![0; 300], vec![], vec![7]],
        ] {
            assert_eq!(split_chain(&join_chain(&chain)), Some(chain));
        }
        let bytes = join_chain(&[vec![1, 2, 3]]);
        assert_eq!(split_chain(&bytes[..6]), None);
        assert_eq!(split_chain(&bytes[..2]), None);
    }
}
