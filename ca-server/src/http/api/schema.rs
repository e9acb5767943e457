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
    token_review: Option<TokenReviewSchema>,
    /// Who may have names beyond its own identity.
    #[schema(required = false)]
    rule: Vec<RuleSchema>,
}

/// The API server that reviews a cluster's tokens.
#[derive(ToSchema)]
#[schema(as = TokenReview)]
#[expect(dead_code, reason = "describes, and is never made")]
pub(super) struct TokenReviewSchema {
    /// Where it is, and how we show who we are.
    server: ReviewServerSchema,
    /// The token must be for one of these.
    #[schema(required = false)]
    audiences: Vec<String>,
}

/// The way to an API server.
#[derive(ToSchema)]
#[schema(as = ReviewServer, rename_all = "snake_case")]
#[expect(dead_code, reason = "describes, and is never made")]
pub(super) enum ReviewServerSchema {
    /// A kubeconfig file on the server's machine.
    Kubeconfig(String),
    /// The files of a pod.
    ApiServer {
        /// `https://host:port`.
        url: String,
        /// The CA certificates of its serving certificate.
        ca_file: String,
        /// Our own token.
        token_file: String,
    },
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

/// What of a cluster's definition is policy.
#[derive(ToSchema)]
#[schema(as = Policy)]
#[expect(dead_code, reason = "describes, and is never made")]
pub(super) struct PolicySchema {
    /// The lifetime of a workload that asks for none, as in `24h`.
    default_ttl: String,
    /// The longest lifetime of a workload.
    max_ttl: String,
    /// Refuse Istio's callers a lifetime above the longest instead of shortening it.
    strict: bool,
    /// Who may have names beyond its own identity.
    rules: Vec<RuleSchema>,
}

/// A request that is tried.
#[derive(ToSchema)]
#[schema(as = DryRun)]
#[expect(dead_code, reason = "describes, and is never made")]
pub(super) struct DryRunSchema {
    /// Who asks: a SPIFFE id. This or `enrolment_pattern`.
    identity: Option<String>,
    /// The pattern of the enrolment token that the caller holds.
    enrolment_pattern: Option<String>,
    /// The profile asked for.
    profile: String,
    /// A certificate request, PEM. This or `key` with `names`.
    csr: Option<String>,
    /// The names asked for: `URI:…`, `DNS:…`, `IP:…`.
    #[schema(required = false)]
    names: Vec<String>,
    /// The kind of key: `P-256`, `P-384`, `RSA-2048` …
    key: Option<String>,
    /// The lifetime asked for.
    ttl: Option<String>,
    /// Whether a longer one than allowed is refused (`ca.v1`) instead of shortened (Istio's call).
    #[schema(required = false, default = false)]
    exactly: bool,
    /// The policy to try, instead of what is in force.
    policy: Option<PolicySchema>,
}

/// What is to be tried.
#[derive(ToSchema)]
#[schema(as = ReplayRequest)]
#[expect(dead_code, reason = "describes, and is never made")]
pub(super) struct ReplaySchema {
    /// The candidate.
    policy: PolicySchema,
    /// The requests of how many days.
    #[schema(minimum = 1, maximum = 90)]
    days: u32,
    /// How many differences are listed at most.
    #[schema(required = false, default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
}
