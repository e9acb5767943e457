//! Every metric, in one place. Label values come from closed sets, so that strangers cannot grow them.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuedLabels {
    profile: &'static str,
    proof: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    call: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    kept: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthorityLabels {
    authority: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CrlLabels {
    authority: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SetLabels {
    to: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OcspLabels {
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PublicationLabels {
    authority: String,
    result: &'static str,
}

/// A label of the configuration and an authority's id: of each as many as an operator made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenKeyLabels {
    authority: String,
    token: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CanaryLabels {
    authority: String,
    token: String,
    result: &'static str,
}

/// The counters and gauges of a running server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    issued: Family<IssuedLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    refusals_kept: Family<RefusalLabels, Counter>,
    audit_export_up: Family<SinkLabels, Gauge>,
    audit_export_behind: Family<SinkLabels, Gauge>,
    audit_rejected: Counter,
    duration: Histogram,
    authority_not_after: Family<AuthorityLabels, Gauge>,
    serving_not_after: Gauge,
    clock_trusted: Gauge<i64, std::sync::atomic::AtomicI64>,
    follows_the_store: Gauge,
    crl_number: Family<CrlLabels, Gauge>,
    crl_next_update: Family<CrlLabels, Gauge>,
    crl_entries: Family<CrlLabels, Gauge>,
    crl_bytes: Family<CrlLabels, Gauge>,
    crl_publications: Family<PublicationLabels, Counter>,
    crl_set_complete: Gauge,
    crl_set_changes: Family<SetLabels, Counter>,
    cluster_has_authority: Family<ClusterLabels, Gauge>,
    ocsp_responses: Family<OcspLabels, Counter>,
    canaries: Family<CanaryLabels, Counter>,
    canary_up: Family<TokenKeyLabels, Gauge>,
    canary_last_success: Family<TokenKeyLabels, Gauge>,
    success_compat: Counter<u64, AtomicU64>,
    csr_compat: Counter<u64, AtomicU64>,
    authn_failure_compat: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            issued: Family::default(),
            refused: Family::default(),
            refusals_kept: Family::default(),
            audit_export_up: Family::default(),
            audit_export_behind: Family::default(),
            audit_rejected: Counter::default(),
            duration: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            authority_not_after: Family::default(),
            serving_not_after: Gauge::default(),
            clock_trusted: Gauge::default(),
            follows_the_store: Gauge::default(),
            crl_number: Family::default(),
            crl_next_update: Family::default(),
            crl_entries: Family::default(),
            crl_bytes: Family::default(),
            crl_publications: Family::default(),
            crl_set_complete: Gauge::default(),
            crl_set_changes: Family::default(),
            cluster_has_authority: Family::default(),
            ocsp_responses: Family::default(),
            canaries: Family::default(),
            canary_up: Family::default(),
            canary_last_success: Family::default(),
            success_compat: Counter::default(),
            csr_compat: Counter::default(),
            authn_failure_compat: Counter::default(),
        };
        metrics.register()
    }

    fn register(mut self) -> Self {
        let r = &mut self.registry;
        r.register(
            "signet_certificates_issued",
            "Certificates issued and on record",
            self.issued.clone(),
        );
        r.register(
            "signet_requests_refused",
            "Requests refused, by reason",
            self.refused.clone(),
        );
        r.register(
            "signet_audit_refusals",
            "Refusals by what the audit trail keeps of them: an entry each, or a count with others",
            self.refusals_kept.clone(),
        );
        r.register(
            "signet_audit_export_up",
            "1 while the audit trail's file or collector takes what it is given",
            self.audit_export_up.clone(),
        );
        r.register(
            "signet_audit_export_behind",
            "Entries of the audit trail that its file or collector does not have yet",
            self.audit_export_behind.clone(),
        );
        r.register(
            "signet_audit_rejected",
            "Entries of the audit trail that the collector says it did not take",
            self.audit_rejected.clone(),
        );
        r.register(
            "signet_issue_duration_seconds",
            "Time from request to answer",
            self.duration.clone(),
        );
        r.register(
            "signet_authority_not_after_timestamp_seconds",
            "When an authority's chain ends",
            self.authority_not_after.clone(),
        );
        r.register(
            "signet_serving_not_after_timestamp_seconds",
            "When the serving certificate that is in use ends",
            self.serving_not_after.clone(),
        );
        r.register(
            "signet_clock_trusted",
            "1 while the clock is believed",
            self.clock_trusted.clone(),
        );
        r.register(
            "signet_store_followed",
            "1 while what has changed in the store is taken up",
            self.follows_the_store.clone(),
        );
        r.register(
            "signet_crl_number",
            "The number of the CRL that is served",
            self.crl_number.clone(),
        );
        r.register(
            "signet_crl_next_update_timestamp_seconds",
            "When the CRL that is served is of no use any more, of the CAs above too",
            self.crl_next_update.clone(),
        );
        r.register(
            "signet_crl_entries",
            "Certificates on the CRL that is served",
            self.crl_entries.clone(),
        );
        r.register(
            "signet_crl_bytes",
            "Size of the CRL that is served",
            self.crl_bytes.clone(),
        );
        r.register(
            "signet_crl_publications",
            "Turns at publishing a CRL: published, failed, outrun by another replica, or waited for the next second",
            self.crl_publications.clone(),
        );
        r.register(
            "signet_crl_set_complete",
            "1 while ca-crl.pem has a CRL in force for every CA",
            self.crl_set_complete.clone(),
        );
        r.register(
            "signet_crl_set_changes",
            "How often ca-crl.pem became complete, or stopped being so",
            self.crl_set_changes.clone(),
        );
        r.register(
            "signet_cluster_has_authority",
            "1 while an authority is active in the cluster",
            self.cluster_has_authority.clone(),
        );
        r.register(
            "signet_ocsp_responses",
            "OCSP requests answered",
            self.ocsp_responses.clone(),
        );
        r.register(
            "signet_token_canary_signatures",
            "Signatures that a key in a token was asked for to see that it works",
            self.canaries.clone(),
        );
        r.register(
            "signet_token_canary_up",
            "1 while a key in a token signs its canaries",
            self.canary_up.clone(),
        );
        r.register(
            "signet_token_canary_last_success_timestamp_seconds",
            "When a key in a token last signed its canary; time() less this is the age",
            self.canary_last_success.clone(),
        );
        // istiod's names, so that its dashboards and alerts keep working.
        r.register(
            "citadel_server_success_cert_issuance_count",
            "Certificates issued by Istio's call",
            self.success_compat.clone(),
        );
        r.register(
            "citadel_server_csr_count",
            "Requests by Istio's call",
            self.csr_compat.clone(),
        );
        r.register(
            "citadel_server_authentication_failure_count",
            "Istio's callers that were not known",
            self.authn_failure_compat.clone(),
        );
        self
    }

    pub(crate) fn issued(&self, profile: &'static str, proof: &'static str) {
        self.issued
            .get_or_create(&IssuedLabels { profile, proof })
            .inc();
    }

    pub(crate) fn refused(&self, call: &'static str, reason: &'static str) {
        self.refused
            .get_or_create(&RefusedLabels { call, reason })
            .inc();
    }

    pub(crate) fn refusal_kept(&self, kept: &'static str) {
        self.refusals_kept
            .get_or_create(&RefusalLabels { kept })
            .inc();
    }

    pub(crate) fn audit_exported(&self, sink: &'static str, up: bool, behind: u64) {
        let labels = SinkLabels { sink };
        self.audit_export_up.get_or_create(&labels).set(up.into());
        self.audit_export_behind
            .get_or_create(&labels)
            .set(i64::try_from(behind).unwrap_or(i64::MAX));
    }

    pub(crate) fn audit_rejected(&self, entries: u64) {
        self.audit_rejected.inc_by(entries);
    }

    pub(crate) fn istio_answered(&self, error: Option<crate::app::ErrorKind>) {
        self.csr_compat.inc();
        match error {
            None => {
                self.success_compat.inc();
            }
            Some(crate::app::ErrorKind::Unauthenticated) => {
                self.authn_failure_compat.inc();
            }
            Some(_) => {}
        }
    }

    pub(crate) fn took(&self, seconds: f64) {
        self.duration.observe(seconds);
    }

    /// What is served now, not what stood at the start.
    pub(crate) fn set_authorities<'a>(
        &self,
        authorities: impl Iterator<Item = &'a crate::app::state::Authority>,
    ) {
        self.authority_not_after.clear();
        for authority in authorities {
            let labels = AuthorityLabels {
                authority: authority.id.to_string(),
                state: authority.state.to_string(),
            };
            let end = authority.issuer.not_after().unix();
            self.authority_not_after.get_or_create(&labels).set(end);
        }
    }

    /// Which clusters can issue.
    pub(crate) fn set_clusters<'a>(
        &self,
        clusters: impl Iterator<Item = &'a crate::app::state::Cluster>,
    ) {
        self.cluster_has_authority.clear();
        for cluster in clusters {
            let labels = ClusterLabels {
                cluster: cluster.name.to_string(),
            };
            let gauge = self.cluster_has_authority.get_or_create(&labels);
            gauge.set(cluster.active.is_some().into());
        }
    }

    pub(crate) fn crl_set_changed(&self, to: &'static str) {
        self.crl_set_changes.get_or_create(&SetLabels { to }).inc();
    }

    pub(crate) fn ocsp_answered(&self, answer: &'static str) {
        self.ocsp_responses
            .get_or_create(&OcspLabels { answer })
            .inc();
    }

    pub(crate) fn crl_publication(&self, authority: &pki::name::AuthorityId, result: &'static str) {
        let labels = PublicationLabels {
            authority: authority.to_string(),
            result,
        };
        self.crl_publications.get_or_create(&labels).inc();
    }

    /// A key in a token was tried out, with success at this time or without.
    pub(crate) fn canary(
        &self,
        authority: &pki::name::AuthorityId,
        token: &str,
        success: Option<pki::time::Timestamp>,
    ) {
        let key = TokenKeyLabels {
            authority: authority.to_string(),
            token: token.to_owned(),
        };
        let labels = CanaryLabels {
            authority: key.authority.clone(),
            token: key.token.clone(),
            result: if success.is_some() {
                "success"
            } else {
                "failure"
            },
        };
        self.canaries.get_or_create(&labels).inc();
        self.canary_up
            .get_or_create(&key)
            .set(success.is_some().into());
        // Made at the first try, so that one that never succeeded has an age too.
        let last = self.canary_last_success.get_or_create(&key);
        if let Some(now) = success {
            last.set(now.unix());
        }
    }

    /// A key in a token is not of use any more.
    pub(crate) fn forget_canary(&self, authority: &pki::name::AuthorityId, token: &str) {
        let key = TokenKeyLabels {
            authority: authority.to_string(),
            token: token.to_owned(),
        };
        self.canary_up.remove(&key);
        self.canary_last_success.remove(&key);
    }

    pub(crate) fn set_crls(
        &self,
        served: &crate::app::status::ServedSet,
        above: impl Iterator<Item = (String, i64)>,
    ) {
        let gauges = [
            &self.crl_number,
            &self.crl_next_update,
            &self.crl_entries,
            &self.crl_bytes,
        ];
        gauges.iter().for_each(|gauge| gauge.clear());
        let measure = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (id, crl) in &served.crls {
            let labels = CrlLabels {
                authority: id.to_string(),
            };
            let number = i64::try_from(crl.number).unwrap_or(i64::MAX);
            self.crl_number.get_or_create(&labels).set(number);
            self.crl_next_update
                .get_or_create(&labels)
                .set(crl.next_update.unix());
            self.crl_entries
                .get_or_create(&labels)
                .set(measure(crl.entries));
            self.crl_bytes
                .get_or_create(&labels)
                .set(measure(crl.complete.body.len()));
        }
        for (authority, next_update) in above {
            let labels = CrlLabels { authority };
            self.crl_next_update.get_or_create(&labels).set(next_update);
        }
        self.crl_set_complete.set(served.full.is_ok().into());
    }

    pub(crate) fn set_serving(&self, not_after: pki::time::Timestamp) {
        self.serving_not_after.set(not_after.unix());
    }

    pub(crate) fn set_clock_trusted(&self, trusted: bool) {
        self.clock_trusted.set(trusted.into());
    }

    pub(crate) fn set_follows_the_store(&self, follows: bool) {
        self.follows_the_store.set(follows.into());
    }

    /// The exposition text.
    ///
    /// # Errors
    /// Never in practice: writing to a string.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
