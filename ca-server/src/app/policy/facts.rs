//! A request's facts, kept or given: everything that policy looks at, and nothing else.

use pki::certificate::Certificate;
use pki::csr::VerifiedCsr;
use pki::extension::{AltName, Purpose};
use pki::key::{KeyAlgorithm, PublicKey};
use pki::policy::{Asked, AskedTtl};
use pki::time::Ttl;

use crate::store::model::NewRecord;

/// What a request asks for, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) alt_names: Vec<AltName>,
    pub(super) common_names: Vec<String>,
    pub(super) purposes: Vec<Purpose>,
    pub(super) asks_for_authority: bool,
    pub(super) key: KeyAlgorithm,
}

impl Facts {
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            alt_names: &self.alt_names,
            common_names: &self.common_names,
            purposes: &self.purposes,
            asks_for_authority: self.asks_for_authority,
            key: self.key,
        }
    }

    /// What was asked for a certificate that was given: neither a foreign purpose nor a common name that mattered. `None`
    /// for a record that does not hold together.
    pub(super) fn of_record(record: &NewRecord) -> Option<Self> {
        let names = record.asked_names.iter().map(|name| name.parse());
        let certificate = Certificate::parse(&record.der).ok()?;
        Some(Self {
            alt_names: names.collect::<Result<_, _>>().ok()?,
            common_names: Vec::new(),
            purposes: Vec::new(),
            asks_for_authority: false,
            key: PublicKey::from_spki(certificate.spki()).ok()?.algorithm(),
        })
    }
}

impl From<&VerifiedCsr> for Facts {
    fn from(csr: &VerifiedCsr) -> Self {
        let asked = Asked::from(csr);
        Self {
            alt_names: asked.alt_names.to_vec(),
            common_names: asked.common_names.to_vec(),
            purposes: asked.purposes.to_vec(),
            asks_for_authority: asked.asks_for_authority,
            key: asked.key,
        }
    }
}

/// A lifetime that was asked for, as records keep it. Those of earlier builds do not tell whether it was meant exactly: what
/// was shortened was not.
pub(super) fn asked_ttl(record: &NewRecord) -> Option<AskedTtl> {
    let Some(seconds) = record.asked_ttl else {
        return Some(AskedTtl::Default);
    };
    let ttl = Ttl::from_seconds(seconds).ok()?;
    let detail = record.caller_detail.as_deref().unwrap_or_default();
    let detail: serde_json::Value = serde_json::from_str(detail).unwrap_or_default();
    let at_most = match detail.get(TTL_KEY).and_then(serde_json::Value::as_str) {
        Some(word) => word == AT_MOST,
        None => record.granted_ttl < seconds,
    };
    Some(if at_most {
        AskedTtl::AtMost(ttl)
    } else {
        AskedTtl::Exactly(ttl)
    })
}

/// Where a record's `caller_detail` tells how the lifetime was meant.
pub(in crate::app) const TTL_KEY: &str = "ttl";
const AT_MOST: &str = "at-most";

/// How a lifetime was meant, for a record; `None` where none was asked for.
pub(in crate::app) const fn how_meant(ttl: AskedTtl) -> Option<&'static str> {
    match ttl {
        AskedTtl::Default => None,
        AskedTtl::Exactly(_) => Some("exactly"),
        AskedTtl::AtMost(_) => Some(AT_MOST),
    }
}

#[cfg(test)]
mod tests {
    use pki::crypto::sha256;
    use pki::name::{AuthorityId, ClusterName, ProfileName};
    use pki::serial::Serial;
    use pki::time::Timestamp;

    use super::*;

    fn record(asked_ttl: Option<i64>, granted_ttl: i64, detail: Option<&str>) -> NewRecord {
        let now = Timestamp::from_unix(1_800_000_000);
        NewRecord {
            authority: AuthorityId::parse("central-1").unwrap(),
            cluster: ClusterName::parse("central").unwrap(),
            serial: Serial::issue(now, [7; 16]),
            issued_at: now,
            not_before: now,
            not_after: now,
            names: Vec::new(),
            key_digest: sha256(b""),
            request_digest: sha256(b""),
            certificate_digest: sha256(b""),
            der: Vec::new(),
            caller_kind: "service-account".to_owned(),
            caller: "sa:a/b".to_owned(),
            caller_detail: detail.map(str::to_owned),
            profile: ProfileName::parse("workload").unwrap(),
            asked_names: Vec::new(),
            asked_ttl,
            granted_ttl,
            rule: String::new(),
            bundle_sequence: 1,
            request_id: String::new(),
            leaf_hash: sha256(b""),
        }
    }

    #[test]
    fn how_a_lifetime_was_meant_is_read_from_records_of_any_build() {
        use AskedTtl::{AtMost, Default, Exactly};
        let hour = Ttl::hours(1);
        for (asked, granted, detail, expected) in [
            (None, 3600, None, Default),
            (None, 3600, Some(r#"{"remote":"x"}"#), Default),
            (
                Some(3600),
                3600,
                Some(r#"{"ttl":"exactly"}"#),
                Exactly(hour),
            ),
            (Some(3600), 3600, Some(r#"{"ttl":"at-most"}"#), AtMost(hour)),
            (Some(3600), 60, Some(r#"{"remote":"x"}"#), AtMost(hour)),
            (Some(3600), 3600, Some(r#"{"remote":"x"}"#), Exactly(hour)),
            (Some(3600), 3600, None, Exactly(hour)),
            (Some(3600), 60, Some("no JSON"), AtMost(hour)),
        ] {
            let record = record(asked, granted, detail);
            assert_eq!(asked_ttl(&record), Some(expected), "{detail:?}");
        }
        assert_eq!(asked_ttl(&record(Some(-1), 1, None)), None);
    }
}
