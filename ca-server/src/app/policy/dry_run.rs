//! What policy would decide for one request, rule by rule.

use pki::csr::{CsrError, MAX_NAMES, VerifiedCsr};
use pki::extension::AltName;
use pki::key::KeyAlgorithm;
use pki::name::{ClusterName, ProfileName, SpiffeId, SpiffePattern};
use pki::policy::{AskedTtl, Identity, Step, explain};
use pki::time::Ttl;
use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::{PolicyDocument, Verdict, policies, profile};
use crate::app::{Context, Error, ErrorKind};

/// A request that is tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DryRun {
    /// Who asks. This or `enrolment_pattern`.
    #[serde(default)]
    pub identity: Option<SpiffeId>,
    /// The pattern of the enrolment token that the caller holds.
    #[serde(default)]
    pub enrolment_pattern: Option<SpiffePattern>,
    /// The profile asked for.
    pub profile: ProfileName,
    /// A certificate request, PEM. This or `key` with `names`.
    #[serde(default)]
    pub csr: Option<String>,
    /// The names asked for: `URI:…`, `DNS:…`, `IP:…`.
    #[serde(default)]
    pub names: Vec<String>,
    /// The kind of key: `P-256`, `P-384`, `RSA-2048` …
    #[serde(default)]
    pub key: Option<String>,
    /// The lifetime asked for.
    #[serde(default)]
    pub ttl: Option<Ttl>,
    /// Whether a longer one than allowed is refused (`ca.v1`) instead of shortened (Istio's call).
    #[serde(default)]
    pub exactly: bool,
    /// The policy to try, instead of what is in force.
    #[serde(default)]
    pub policy: Option<PolicyDocument>,
}

/// What would be decided, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Granted what, or refused why.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Each check and each rule, in the order in which it is looked at.
    pub steps: Vec<Step>,
}

/// Decides as issuing would, and issues nothing. Quotas, the caller's proof and the authority's end are no part of it.
///
/// # Errors
/// When there is no such cluster or profile, the request does not hold together or proves no possession of its key, or the
/// store is away.
pub async fn dry_run(
    context: &Context,
    cluster: &ClusterName,
    wish: &DryRun,
) -> Result<Explained, Error> {
    let policies = policies(context, cluster, wish.policy.as_ref()).await?;
    let identity = match (&wish.identity, &wish.enrolment_pattern) {
        (Some(id), None) => Identity::Exactly(id.clone()),
        (None, Some(pattern)) => Identity::OneOf(pattern.clone()),
        _ => return Err(malformed("one of identity and enrolment_pattern is needed")),
    };
    let ttl = match wish.ttl {
        None => AskedTtl::Default,
        Some(ttl) if wish.exactly => AskedTtl::Exactly(ttl),
        Some(ttl) => AskedTtl::AtMost(ttl),
    };
    let facts = facts(wish)?;
    let profile = profile(&wish.profile)?;
    let told = explain(&policies.tried, &identity, profile, facts.asked(), ttl);
    Ok(Explained {
        verdict: (&told.decision).into(),
        steps: told.steps,
    })
}

fn malformed(text: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, "dry-run", text)
}

fn facts(wish: &DryRun) -> Result<Facts, Error> {
    match (&wish.csr, &wish.key) {
        (Some(pem), None) if wish.names.is_empty() => {
            let der =
                pki::pem::read_request(pem.as_bytes()).map_err(|e| Error::malformed("csr", e))?;
            let csr = VerifiedCsr::parse(&der).map_err(|e| Error::malformed("csr", e))?;
            Ok(Facts::from(&csr))
        }
        (None, Some(key)) => {
            if wish.names.len() > MAX_NAMES {
                let error = CsrError::TooManyNames(wish.names.len());
                return Err(Error::malformed("dry-run", error));
            }
            let names = wish.names.iter().map(|name| name.parse());
            let names: Result<Vec<AltName>, _> = names.collect();
            let key: Result<KeyAlgorithm, _> = key.parse();
            Ok(Facts {
                alt_names: names.map_err(|e| Error::malformed("dry-run", e))?,
                common_names: Vec::new(),
                purposes: Vec::new(),
                asks_for_authority: false,
                key: key.map_err(|e| Error::malformed("dry-run", e))?,
            })
        }
        _ => Err(malformed("one of csr, and key with names, is needed")),
    }
}
