//! Asking the cluster's API server whether it made a token, and whether what the token is bound to is still there
//! (`authentication.k8s.io/v1` TokenReview).
//!
//! Costs a round trip and needs the API server; in return a deleted pod or account is refused at once, which pinned keys
//! cannot know. Our credential needs the verb `create` on `tokenreviews` (ClusterRole `system:auth-delegator`).
//!
//! The feature `token-review` builds it in; without it a reviewer is never made, and [`ReviewConfigError::LeftOut`] says so.

#[cfg(feature = "token-review")]
mod api_server;
#[cfg(not(feature = "token-review"))]
mod left_out;
#[cfg(feature = "token-review")]
mod patience;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::TokenError;

#[cfg(feature = "token-review")]
pub use api_server::TokenReviewer;
#[cfg(not(feature = "token-review"))]
pub use left_out::TokenReviewer;

/// Which API server reviews a cluster's tokens, and for which audiences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenReviewConfig {
    /// Where it is, and how we show who we are.
    pub server: ReviewServer,
    /// The token must be for one of these; `istio-ca` by default.
    #[serde(default = "default_audiences")]
    pub audiences: Vec<String>,
}

fn default_audiences() -> Vec<String> {
    vec!["istio-ca".to_owned()]
}

/// The way to an API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ReviewServer {
    /// A kubeconfig file, read once. Its current context must check the server's certificate and name a token or a client
    /// certificate: it may not run programs.
    Kubeconfig(PathBuf),
    /// What a pod has under `/var/run/secrets/kubernetes.io/serviceaccount`. Both files are read again as they change.
    ApiServer {
        /// `https://host:port`.
        url: String,
        /// The CA certificates of its serving certificate, in PEM.
        ca_file: PathBuf,
        /// Our own token.
        token_file: PathBuf,
    },
}

/// Why a review gave no account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The token is not accepted.
    #[error(transparent)]
    Refused(#[from] TokenError),
    /// Nobody could say: the API server is away, slow, or does not let us ask. Worth trying again.
    #[error("the cluster's API server could not be asked: {0}")]
    Unavailable(String),
}

/// Why a reviewer was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewConfigError {
    /// No audience at all.
    #[error("a token review needs at least one audience")]
    NoAudience,
    /// No TLS, or TLS that checks nothing.
    #[error(
        "the API server is asked over https with its CA certificates given, and its certificate is checked"
    )]
    Insecure,
    /// `exec` or `auth-provider`.
    #[error(
        "the kubeconfig names a program to run (exec or auth-provider): use a token or a client certificate"
    )]
    RunsPrograms,
    /// Not an address.
    #[error("{0:?} is not an address like https://10.96.0.1:443")]
    Url(String),
    /// A file does not read.
    #[error("{}: {why}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The kubeconfig does not read.
    #[error("kubeconfig {}: {why}", path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// This program cannot ask anybody.
    #[cfg(not(feature = "token-review"))]
    #[error(
        "this ca-server was built without TokenReview: build it with its default features, or pin keys (token_issuer)"
    )]
    LeftOut,
    /// The client could not be made of these.
    #[error("the client of the API server: {0}")]
    Client(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_a_reviewer_is_read_from_json() {
        let config: TokenReviewConfig =
            serde_json::from_str(r#"{"server":{"kubeconfig":"/etc/signet/kubeconfig"}}"#).unwrap();
        assert_eq!(config.audiences, ["istio-ca"]);
        let config =
            r#"{"server":{"api_server":{"url":"u","ca_file":"c","token_file":"t"}},"x":1}"#;
        assert!(serde_json::from_str::<TokenReviewConfig>(config).is_err());
    }
}
