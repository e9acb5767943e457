//! What pieces of the domain look like in JSON, for the API's description. They are written by serde from the domain's own types;
//! these stand for them where the description needs a shape.

use utoipa::ToSchema;

/// A cluster's definition, as its TOML file has it.
#[derive(ToSchema)]
#[schema(as = ClusterDefinition)]
#[expect(dead_code, reason = "describes, and is never made")]
pub(super) struct DefinitionSchema {
    /// Its id, Istio's ClusterID.
    name: String,
    /// The trust domain of its workloads.
    trust_domain: String,
    /// What its authorities sign: `workloads`, or `fleet` for other clusters' authorities.
    #[schema(required = false, default = "workloads")]
    role: String,
    /// The lifetime of a workload that asks for none, as in `24h`.
    #[schema(required = false, default = "24h")]
    default_ttl: String,
    /// The longest lifetime of a workload.
    #[schema(required = false, default = "90d")]
    max_ttl: String,
    /// Refuse Istio's callers a lifetime above the longest instead of shortening it.
    #[schema(required = false, default = false)]
    strict: bool,
    /// Who issues its service-account tokens.
    #[schema(required = false)]
    token_issuer: Vec<TokenIssuerSchema>,
    /// The API server that reviews tokens.
    token_review: Option<serde_json::Value>,
    /// Who may have names beyond its own identity.
    #[schema(required = false)]
    rule: Vec<RuleSchema>,
}

/// Who issues a cluster's service-account tokens, keys pinned.
#[derive(ToSchema)]
#[schema(as = TokenIssuer)]
#[expect(dead_code, reason = "describes, and is never made")]
pub(super) struct TokenIssuerSchema {
    /// The `iss` of its tokens, byte for byte.
    issuer: String,
    /// The token must be for one of these.
    #[schema(required = false)]
    audiences: Vec<String>,
    /// The key set, as the API server's `/openid/v1/jwks` answers it.
    jwks: serde_json::Value,
    /// The longest that a token may have been made to live.
    #[schema(required = false, default = "24h")]
    max_token_lifetime: String,
    /// Whether only tokens that are bound to a pod are accepted.
    #[schema(required = false, default = false)]
    require_pod: bool,
}

/// A rule that gives names beyond a caller's own identity.
#[derive(ToSchema)]
#[schema(as = Rule)]
#[expect(dead_code, reason = "describes, and is never made")]
pub(super) struct RuleSchema {
    /// What the rule is called in records and refusals.
    name: String,
    /// The profile that it opens: `server` or `client`.
    profile: String,
    /// Whom it is for: a SPIFFE id, or a pattern with `*`.
    callers: String,
    /// Host names that may be asked for.
    #[schema(required = false)]
    dns: Vec<String>,
    /// Addresses that may be asked for.
    #[schema(required = false)]
    ip: Vec<String>,
    /// The longest lifetime.
    max_ttl: Option<String>,
}
