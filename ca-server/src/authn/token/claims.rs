//! What a service account's token says, and whether it says it to us, now.

use pki::time::{Timestamp, Ttl};
use serde::Deserialize;

use super::error::{TokenError, TokenPart, clip, clip_list};
use super::json::{Object, OneOrMany};
use super::{LEEWAY_SECONDS, check_window};

/// The claims of a service account's token, each of its type. The subject was taken apart and agrees with the
/// `kubernetes.io` claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountClaims {
    issuer: String,
    audiences: Vec<String>,
    expires_at: Timestamp,
    not_before: Option<Timestamp>,
    issued_at: Timestamp,
    token_id: Option<String>,
    subject: Subject,
    uid: Option<String>,
    pod: Option<BoundPod>,
    node: Option<BoundNode>,
}

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BoundPod {
    /// Its name.
    pub name: String,
    /// Its UID: a pod that was made anew under the same name has another.
    pub uid: String,
}

/// The node that a token's pod runs on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BoundNode {
    /// Its name.
    pub name: String,
    /// Its UID; none when the API server had no such node when it made the token.
    pub uid: Option<String>,
}

/// A Kubernetes service account, proven, with what its token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace: a DNS label.
    pub namespace: String,
    /// Its name: a DNS subdomain.
    pub name: String,
    /// Its UID; none when the token has no `kubernetes.io` claims.
    pub uid: Option<String>,
    /// The pod that the token is bound to.
    pub pod: Option<BoundPod>,
    /// The node that the pod runs on (Kubernetes 1.30 and later say so).
    pub node: Option<BoundNode>,
    /// The token's `jti`, for the record.
    pub token_id: Option<String>,
    /// When the token ends.
    pub expires_at: Timestamp,
}

/// What a cluster accepts.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'e> {
    /// The one issuer.
    pub issuer: &'e str,
    /// The token must be for one of these.
    pub audiences: &'e [String],
    /// The longest way from `iat` to `exp`; the leeway is added.
    pub max_lifetime: Ttl,
    /// Whether only tokens that are bound to a pod are accepted.
    pub require_pod: bool,
}

/// Whether the claims are for us, and now. The clocks may be 10 s apart.
///
/// # Errors
/// With the first thing that is not as `expected`.
pub fn check(
    claims: &ServiceAccountClaims,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<ServiceAccount, TokenError> {
    if claims.issuer != expected.issuer {
        return Err(TokenError::Issuer {
            got: clip(&claims.issuer),
            expected: vec![expected.issuer.to_owned()],
        });
    }
    // One audience: whoever else a token is for could show it here.
    let ours = |audience: &String| expected.audiences.contains(audience);
    if !matches!(claims.audiences.as_slice(), [one] if ours(one)) {
        return Err(TokenError::Audience {
            got: clip_list(&claims.audiences),
            expected: expected.audiences.to_vec(),
        });
    }
    check_window(claims.not_before(), claims.expires_at, now)?;
    let seconds = claims.expires_at.seconds_since(claims.issued_at);
    if seconds <= 0 || seconds > expected.max_lifetime.seconds() + LEEWAY_SECONDS {
        return Err(TokenError::Lifetime {
            seconds,
            longest: expected.max_lifetime,
        });
    }
    if expected.require_pod && claims.pod.is_none() {
        return Err(TokenError::NoPod);
    }
    Ok(claims.service_account())
}

impl ServiceAccountClaims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        let Object(raw): Object<RawClaims> = serde_json::from_slice(payload)
            .map_err(|e| TokenError::json(TokenPart::Payload, &e))?;
        let subject = Subject::parse(&raw.sub)?;
        let bound = raw.kubernetes.map(|Object(k)| k);
        if let Some(bound) = &bound {
            subject.agrees_with(&bound.namespace, &bound.serviceaccount.0.name, &raw.sub)?;
        }
        let (uid, pod, node) = match bound {
            Some(bound) => bound.into_parts()?,
            None => (None, None, None),
        };
        Ok(Self {
            issuer: raw.iss,
            audiences: raw.aud.0,
            expires_at: seconds("exp", raw.exp)?,
            not_before: raw.nbf.map(|nbf| seconds("nbf", nbf)).transpose()?,
            issued_at: seconds("iat", raw.iat)?,
            token_id: raw
                .jti
                .map(|jti| plain("jti", jti, MAX_ID_BYTES))
                .transpose()?,
            subject,
            uid,
            pod,
            node,
        })
    }

    /// The issuer that it names.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audiences that it is for.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The later of `nbf` and `iat`: a token is not used before it was made.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
            .map_or(self.issued_at, |nbf| nbf.max(self.issued_at))
    }

    pub(super) fn service_account(&self) -> ServiceAccount {
        ServiceAccount {
            namespace: self.subject.namespace.clone(),
            name: self.subject.name.clone(),
            uid: self.uid.clone(),
            pod: self.pod.clone(),
            node: self.node.clone(),
            token_id: self.token_id.clone(),
            expires_at: self.expires_at,
        }
    }
}

/// A service account's name as Kubernetes writes it for users: `system:serviceaccount:<namespace>:<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) namespace: String,
    pub(super) name: String,
}

const SUBJECT_PREFIX: &str = "system:serviceaccount:";
/// The longest id (`jti`, UID) that is kept, in bytes; Kubernetes' own have 36.
const MAX_ID_BYTES: usize = 128;
/// The longest object name, in bytes (RFC 1123 as Kubernetes reads it).
const MAX_NAME_BYTES: usize = 253;
/// The longest namespace, in bytes.
const MAX_LABEL_BYTES: usize = 63;

impl Subject {
    pub(super) fn parse(text: &str) -> Result<Self, TokenError> {
        let refuse = |why| TokenError::Subject {
            got: clip(text),
            why,
        };
        let (namespace, name) = text
            .strip_prefix(SUBJECT_PREFIX)
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(|| refuse("expected system:serviceaccount:<namespace>:<name>"))?;
        if namespace.len() > MAX_LABEL_BYTES || !is_label(namespace) {
            return Err(refuse("the namespace is not a DNS label in lower case"));
        }
        if name.len() > MAX_NAME_BYTES || !name.split('.').all(is_label) {
            return Err(refuse("the name is not a DNS subdomain in lower case"));
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    fn agrees_with(&self, namespace: &str, name: &str, sub: &str) -> Result<(), TokenError> {
        if self.namespace == namespace && self.name == name {
            return Ok(());
        }
        Err(TokenError::Subject {
            got: clip(sub),
            why: "its kubernetes.io claims name another account",
        })
    }
}

fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty()
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Text of printable ASCII without spaces, 1 to `longest` bytes: what goes into records and logs as it is.
pub(super) fn plain(
    claim: &'static str,
    text: String,
    longest: usize,
) -> Result<String, TokenError> {
    if (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text);
    }
    Err(TokenError::Claim {
        claim,
        got: clip(&text),
        why: "expected a short text of printable ASCII without spaces",
    })
}

pub(super) fn pod(name: String, uid: String) -> Result<BoundPod, TokenError> {
    Ok(BoundPod {
        name: plain("pod name", name, MAX_NAME_BYTES)?,
        uid: plain("pod uid", uid, MAX_ID_BYTES)?,
    })
}

pub(super) fn node(name: String, uid: Option<String>) -> Result<BoundNode, TokenError> {
    Ok(BoundNode {
        name: plain("node name", name, MAX_NAME_BYTES)?,
        uid: uid
            .filter(|uid| !uid.is_empty())
            .map(|uid| plain("node uid", uid, MAX_ID_BYTES))
            .transpose()?,
    })
}

pub(super) fn account_uid(uid: String) -> Result<String, TokenError> {
    plain("service account uid", uid, MAX_ID_BYTES)
}

#[cfg(feature = "token-review")]
pub(super) fn token_id(id: String) -> Result<String, TokenError> {
    plain("credential id", id, MAX_ID_BYTES)
}

/// Whole seconds since 1970. RFC 7519 allows fractions; no API server writes them.
fn seconds(claim: &'static str, value: u64) -> Result<Timestamp, TokenError> {
    i64::try_from(value)
        .map(Timestamp::from_unix)
        .ok()
        .filter(|time| u64::try_from(time.unix()) == Ok(value))
        .ok_or_else(|| TokenError::Claim {
            claim,
            got: value.to_string(),
            why: "expected seconds since 1970, before the year 10000",
        })
}

#[derive(Deserialize)]
struct RawClaims {
    iss: String,
    sub: String,
    aud: OneOrMany,
    exp: u64,
    nbf: Option<u64>,
    iat: u64,
    jti: Option<String>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Object<RawBound>>,
}

#[derive(Deserialize)]
struct RawBound {
    namespace: String,
    serviceaccount: Object<RawReference>,
    pod: Option<Object<RawReference>>,
    node: Option<Object<RawReference>>,
}

#[derive(Deserialize)]
struct RawReference {
    name: String,
    #[serde(default)]
    uid: String,
}

type BoundParts = (Option<String>, Option<BoundPod>, Option<BoundNode>);

impl RawBound {
    fn into_parts(self) -> Result<BoundParts, TokenError> {
        let Object(account) = self.serviceaccount;
        let bound_pod = self.pod.map(|Object(p)| pod(p.name, p.uid)).transpose()?;
        let bound_node = self
            .node
            .map(|Object(n)| node(n.name, Some(n.uid)))
            .transpose()?;
        Ok((Some(account_uid(account.uid)?), bound_pod, bound_node))
    }
}
