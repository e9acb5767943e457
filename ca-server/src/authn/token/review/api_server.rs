//! The reviewer that asks, through the client of the Kubernetes project kube-rs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use kube::api::PostParams;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use tokio::sync::Semaphore;

use super::patience::Patience;
use super::{ReviewConfigError, ReviewError, ReviewServer, TokenReviewConfig};
use crate::authn::token::claims::{self, ServiceAccount, Subject};
use crate::authn::token::error::{TokenError, clip, clip_list};
use crate::authn::token::verify::UnverifiedToken;

/// How long a review may take in all, waiting for a turn included.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many reviews are under way at once: strangers' tokens must not become a flood at the API server.
const CONCURRENT: usize = 32;
/// The group that every service account is in.
const GROUP: &str = "system:serviceaccounts";

/// Asks one cluster's API server about tokens.
pub struct TokenReviewer {
    reviews: kube::Api<TokenReview>,
    audiences: Vec<String>,
    turns: Semaphore,
    patience: Patience,
    server: http::Uri,
}

impl TokenReviewer {
    /// Reads the files and prepares the client; connects to nothing yet. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the files do not read or say something that is not allowed.
    pub async fn new(config: TokenReviewConfig) -> Result<Self, ReviewConfigError> {
        if config.audiences.is_empty() {
            return Err(ReviewConfigError::NoAudience);
        }
        let mut client = match config.server {
            ReviewServer::Kubeconfig(path) => from_kubeconfig(path).await?,
            ReviewServer::ApiServer {
                url,
                ca_file,
                token_file,
            } => from_files(&url, ca_file, &token_file)?,
        };
        if client.cluster_url.scheme_str() != Some("https") || client.accept_invalid_certs {
            return Err(ReviewConfigError::Insecure);
        }
        client.connect_timeout = Some(DEADLINE);
        client.write_timeout = Some(DEADLINE);
        // Our caller retries; retrying here as well would multiply the load on a server that is in trouble.
        client.default_retry = false;
        let server = client.cluster_url.clone();
        let client = kube::Client::try_from(client)
            .map_err(|e| ReviewConfigError::Client(clip(&e.to_string())))?;
        Ok(Self {
            reviews: kube::Api::all(client),
            audiences: config.audiences,
            turns: Semaphore::new(CONCURRENT),
            patience: Patience::new(),
            server,
        })
    }

    /// Where the API server is.
    #[must_use]
    pub fn server(&self) -> &http::Uri {
        &self.server
    }

    /// Has a token reviewed for who came from `remote`, within 5 s. What has not the shape of a token, or was refused a
    /// moment ago, is refused without asking.
    ///
    /// # Errors
    /// [`ReviewError::Refused`] when the token is not accepted; [`ReviewError::Unavailable`] when nobody could say.
    pub async fn review(&self, token: &str, remote: IpAddr) -> Result<ServiceAccount, ReviewError> {
        let unverified = UnverifiedToken::parse(token)?;
        if self.patience.was_refused(token) {
            return Err(TokenError::Refused("it was refused a moment ago".to_owned()).into());
        }
        let question = async {
            self.patience.turn_of(remote).await;
            self.ask(token).await
        };
        let status = tokio::time::timeout(DEADLINE, question)
            .await
            .map_err(|_| {
                ReviewError::Unavailable(format!("no answer in {} s", DEADLINE.as_secs()))
            })??;
        let user =
            accept(status, &self.audiences).inspect_err(|_| self.patience.note_refusal(token))?;
        let claims = unverified.vouched_for().claims()?;
        Ok(describe(user, claims.service_account())?)
    }

    async fn ask(&self, token: &str) -> Result<TokenReviewStatus, ReviewError> {
        let unavailable = |what: String| ReviewError::Unavailable(clip(&what));
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|e| unavailable(e.to_string()))?;
        let question = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(self.audiences.clone()),
            },
            ..TokenReview::default()
        };
        let answer = self
            .reviews
            .create(&PostParams::default(), &question)
            .await
            .map_err(|e| unavailable(describe_failure(&e)))?;
        answer
            .status
            .ok_or_else(|| unavailable("the answer has no status".to_owned()))
    }
}

impl std::fmt::Debug for TokenReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReviewer")
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

/// An error with the causes that its own text leaves out.
fn describe_failure(error: &kube::Error) -> String {
    let mut text = match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.message),
        other => other.to_string(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

async fn from_kubeconfig(path: PathBuf) -> Result<kube::Config, ReviewConfigError> {
    let unreadable = |e: kube::config::KubeconfigError| ReviewConfigError::Kubeconfig {
        path: path.clone(),
        why: clip(&e.to_string()),
    };
    let file = Kubeconfig::read_from(&path).map_err(unreadable)?;
    let names_a_proxy = file
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref())
        .any(|cluster| cluster.proxy_url.is_some());
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(unreadable)?;
    if !names_a_proxy {
        // Otherwise it is `HTTPS_PROXY`: an API server is not reached through what a shell happens to export.
        config.proxy_url = None;
    }
    if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
        return Err(ReviewConfigError::RunsPrograms);
    }
    if config.root_cert.is_none() {
        return Err(ReviewConfigError::Insecure);
    }
    Ok(config)
}

fn from_files(
    url: &str,
    ca_file: PathBuf,
    token_file: &Path,
) -> Result<kube::Config, ReviewConfigError> {
    let url: http::Uri = url.parse().map_err(|_| ReviewConfigError::Url(clip(url)))?;
    let unreadable = |path: &Path, why: String| ReviewConfigError::File {
        path: path.to_owned(),
        why,
    };
    let pem = std::fs::read(&ca_file).map_err(|e| unreadable(&ca_file, e.to_string()))?;
    let roots =
        pki::pem::read_certificates(&pem).map_err(|e| unreadable(&ca_file, e.to_string()))?;
    let token = token_file
        .to_str()
        .ok_or_else(|| unreadable(token_file, "its path is not UTF-8".to_owned()))?
        .to_owned();
    let mut config = kube::Config::new(url);
    config.root_cert = Some(roots);
    config.root_cert_file = Some(ca_file);
    config.auth_info = AuthInfo {
        token_file: Some(token),
        ..AuthInfo::default()
    };
    Ok(config)
}

/// Whether the answer says yes, for one of our audiences. An API server that knows nothing of audiences leaves them out
/// of its answer, and then it has not checked them: that is a no.
fn accept(status: TokenReviewStatus, expected: &[String]) -> Result<UserInfo, TokenError> {
    let error = status.error.unwrap_or_default();
    if status.authenticated != Some(true) || !error.is_empty() {
        let why = if error.is_empty() {
            "it is not authenticated"
        } else {
            &error
        };
        return Err(TokenError::Refused(clip(why)));
    }
    let audiences = status.audiences.unwrap_or_default();
    if !audiences.iter().any(|a| expected.contains(a)) {
        return Err(TokenError::Audience {
            got: clip_list(&audiences),
            expected: expected.to_vec(),
        });
    }
    status
        .user
        .ok_or_else(|| TokenError::Refused("the answer names no user".to_owned()))
}

/// The account that the API server names. What it says of pod, node and token counts; the token's own claims, which it
/// has vouched for, give the expiry and whatever an old API server leaves out.
fn describe(user: UserInfo, claimed: ServiceAccount) -> Result<ServiceAccount, TokenError> {
    let username = user.username.unwrap_or_default();
    let subject = Subject::parse(&username)?;
    let refuse = |why| TokenError::Subject {
        got: clip(&username),
        why,
    };
    if !user.groups.unwrap_or_default().iter().any(|g| g == GROUP) {
        return Err(refuse("it is not in the group system:serviceaccounts"));
    }
    if subject.namespace != claimed.namespace || subject.name != claimed.name {
        return Err(refuse("the token itself names another account"));
    }
    let mut extra = Extra(user.extra.unwrap_or_default());
    let pod = match (extra.take("pod-name"), extra.take("pod-uid")) {
        (Some(name), Some(uid)) => Some(claims::pod(name, uid)?),
        _ => claimed.pod,
    };
    let node = match extra.take("node-name") {
        Some(name) => Some(claims::node(name, extra.take("node-uid"))?),
        None => claimed.node,
    };
    let token_id = match extra.take("credential-id") {
        Some(id) => Some(claims::token_id(
            id.strip_prefix("JTI=").unwrap_or(&id).to_owned(),
        )?),
        None => claimed.token_id,
    };
    Ok(ServiceAccount {
        namespace: subject.namespace,
        name: subject.name,
        uid: user
            .uid
            .filter(|uid| !uid.is_empty())
            .map(claims::account_uid)
            .transpose()?
            .or(claimed.uid),
        pod,
        node,
        token_id,
        expires_at: claimed.expires_at,
    })
}

/// What the API server adds to a user, under `authentication.kubernetes.io/`.
struct Extra(BTreeMap<String, Vec<String>>);

impl Extra {
    fn take(&mut self, name: &str) -> Option<String> {
        let values = self
            .0
            .remove(&format!("authentication.kubernetes.io/{name}"))?;
        values.into_iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::token::TokenReason;
    use crate::authn::token::testing::{Forge, claims};
    use serde_json::json;

    fn answer(change: &serde_json::Value) -> TokenReviewStatus {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["istio-ca"],
            "user": {
                "username": "system:serviceaccount:shop:web",
                "uid": "u-1",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:shop"],
                "extra": {
                    "authentication.kubernetes.io/credential-id": ["JTI=j-1"],
                    "authentication.kubernetes.io/node-name": ["edge-1"],
                    "authentication.kubernetes.io/pod-name": ["web-1"],
                    "authentication.kubernetes.io/pod-uid": ["p-1"],
                },
            },
        });
        for (pointer, value) in change.as_object().unwrap() {
            match status.pointer_mut(pointer) {
                Some(place) => *place = value.clone(),
                None => status[&pointer[1..]] = value.clone(),
            }
        }
        serde_json::from_value(status).unwrap()
    }

    fn judge(status: TokenReviewStatus) -> Result<ServiceAccount, TokenError> {
        let forge = Forge::new();
        let token = forge.with_claims(&claims());
        let claimed = UnverifiedToken::parse(&token)?.vouched_for().claims()?;
        let user = accept(status, &["istio-ca".to_owned()])?;
        describe(user, claimed.service_account())
    }

    #[test]
    fn a_yes_names_the_account_and_what_it_is_bound_to() {
        let account = judge(answer(&json!({}))).unwrap();
        assert_eq!(account.uid.as_deref(), Some("u-1"));
        assert_eq!(account.pod.unwrap().uid, "p-1");
        assert_eq!(account.node.unwrap().name, "edge-1");
        assert_eq!(account.token_id.as_deref(), Some("j-1"));
        let bare = answer(&json!({"/user/extra": {}}));
        assert_eq!(judge(bare).unwrap().pod.unwrap().name, "web-7f9c");
    }

    #[test]
    fn all_that_is_not_a_whole_yes_is_a_no() {
        use TokenReason::{Audience, Malformed, Refused, Subject};
        for (change, reason) in [
            (json!({"/authenticated": false}), Refused),
            (json!({"/authenticated": null}), Refused),
            (json!({"/error": "token audiences [] is invalid"}), Refused),
            (json!({"/user": null}), Refused),
            (json!({"/audiences": []}), Audience),
            (json!({"/audiences": null}), Audience),
            (json!({"/audiences": ["vault"]}), Audience),
            (json!({"/user/username": "admin"}), Subject),
            (
                json!({"/user/username": "system:serviceaccount:shop:web:x"}),
                Subject,
            ),
            (
                json!({"/user/username": "system:serviceaccount:shop:other"}),
                Subject,
            ),
            (
                json!({"/user/groups": ["system:serviceaccounts:shop"]}),
                Subject,
            ),
            (json!({"/user/groups": null}), Subject),
            (
                json!({"/user/extra/authentication.kubernetes.io~1pod-uid": ["a b"]}),
                Malformed,
            ),
        ] {
            let outcome = judge(answer(&change));
            assert_eq!(
                outcome.as_ref().err().map(TokenError::reason),
                Some(reason),
                "{change}: {outcome:?}"
            );
        }
    }

    fn kubeconfig(folder: &tempfile::TempDir, cluster: &str, user: &str) -> TokenReviewConfig {
        let path = folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        TokenReviewConfig {
            server: ReviewServer::Kubeconfig(path),
            audiences: vec!["istio-ca".to_owned()],
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_may_not_run_programs_or_trust_anybody() {
        let folder = tempfile::tempdir().unwrap();
        let ca = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, ca.cert.pem()).unwrap();
        let checked = |server: &str| {
            format!(
                "server: \"{server}\", certificate-authority: {}",
                ca_file.display()
            )
        };
        let https = checked("https://127.0.0.1:1");
        let token = "token: t";
        let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/false}";
        for (cluster, user, expected) in [
            (https.as_str(), exec, ReviewConfigError::RunsPrograms),
            (
                "server: \"https://127.0.0.1:1\"",
                token,
                ReviewConfigError::Insecure,
            ),
            (
                "server: \"https://127.0.0.1:1\", insecure-skip-tls-verify: true",
                token,
                ReviewConfigError::Insecure,
            ),
            (
                checked("http://127.0.0.1:1").as_str(),
                token,
                ReviewConfigError::Insecure,
            ),
        ] {
            let made = TokenReviewer::new(kubeconfig(&folder, cluster, user)).await;
            assert_eq!(made.err(), Some(expected), "{cluster} {user}");
        }
        assert!(
            TokenReviewer::new(kubeconfig(&folder, &https, token))
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn an_api_server_that_is_away_is_worth_another_try_and_garbage_is_not_sent_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let ca = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap();
        let (ca_file, token_file) = (folder.path().join("ca.pem"), folder.path().join("token"));
        std::fs::write(&ca_file, ca.cert.pem()).unwrap();
        std::fs::write(&token_file, "t").unwrap();
        // Bound and not listening: nobody else can take the port, and connections are refused.
        let port = tokio::net::TcpSocket::new_v4().unwrap();
        port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let reviewer = TokenReviewer::new(TokenReviewConfig {
            server: ReviewServer::ApiServer {
                url: format!("https://{}", port.local_addr().unwrap()),
                ca_file,
                token_file,
            },
            audiences: vec!["istio-ca".to_owned()],
        })
        .await
        .unwrap();
        let token = Forge::new().with_claims(&claims());
        let here = IpAddr::from([127, 0, 0, 1]);
        let away = reviewer.review(&token, here).await.unwrap_err();
        assert!(matches!(away, ReviewError::Unavailable(_)), "{away:?}");
        assert_eq!(
            reviewer.review("garbage", here).await,
            Err(ReviewError::Refused(TokenError::Parts))
        );
    }
}
