//! Why a call of the API did not do what it was for, and what to do next.

use std::path::PathBuf;

use super::problem::Problem;
use crate::credentials::CredentialsError;
use crate::entropy::NoRandomness;
use crate::error::ClientError;

/// What kind of failure it is, as far as a program has to act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFailure {
    /// The state has changed, or does not allow it.
    Conflict,
    /// Anything else.
    Failed,
    /// There is no such thing.
    NotFound,
    /// Who asks is not known, or may not.
    Refused,
    /// Later it may work.
    Unavailable,
}

/// Why a call of the API failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The answer is not one of the API's.
    #[error("the answer of {address} was not understood: {reason}")]
    Answer {
        /// The server.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token's file is of no use.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificate or the key is of no use.
    #[error("cannot use {path:?} as our {what}: {reason}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// `certificate` or `key`.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// No name for a request could be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The server answered, and said no.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The connection did not come about, or broke.
    #[error(transparent)]
    Transport(Box<ClientError>),
    /// What answers there is not the API.
    #[error("{address} is not the `admin` listener of a CA: {reason}")]
    WrongServer {
        /// The server.
        address: String,
        /// What gives it away.
        reason: String,
    },
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::WrongServer { address, reason } => Self::WrongServer { address, reason },
            other => Self::Transport(Box::new(other)),
        }
    }
}

impl ApiError {
    /// The kind.
    #[must_use]
    pub fn failure(&self) -> ApiFailure {
        match self {
            Self::Problem(problem) => match problem.status {
                401 | 403 => ApiFailure::Refused,
                404 | 410 => ApiFailure::NotFound,
                409 | 412 | 428 => ApiFailure::Conflict,
                408 | 429 | 500..=599 => ApiFailure::Unavailable,
                _ => ApiFailure::Failed,
            },
            Self::Transport(error) => match **error {
                ClientError::NotTaken { .. } => ApiFailure::Refused,
                ClientError::NotTrusted { .. } => ApiFailure::Failed,
                _ => ApiFailure::Unavailable,
            },
            _ => ApiFailure::Failed,
        }
    }

    /// What a person does next.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Answer { .. } => {
                "check that --url is the `admin` listener of a CA of this program's age".to_owned()
            }
            Self::Credentials(_) => {
                "check --token-file, or the context's (`ca context show`)".to_owned()
            }
            Self::Identity { .. } => {
                "check --cert and --key, or the context's (`ca context show`): PEM, the chain leaf first, the key as PKCS#8"
                    .to_owned()
            }
            Self::NoRandomness(_) => "try again".to_owned(),
            Self::Problem(problem) => for_problem(problem),
            Self::Transport(error) => for_transport(error),
            Self::WrongServer { .. } => {
                "check the port of --url: the API is on the `admin` listener (8444 unless configured otherwise)".to_owned()
            }
        }
    }
}

fn for_problem(problem: &Problem) -> String {
    let expected = problem.expected.as_deref();
    match problem.status {
        401 => unknown(problem.reason.as_deref()),
        403 => refused(problem),
        404 | 410 => "check the name: `list` in place of the verb says what there is".to_owned(),
        409 => match expected {
            Some(expected) => format!("it takes {expected}: look at it with `show`, and decide anew"),
            None => "look at it with `show`, and decide anew".to_owned(),
        },
        412 | 428 => "somebody else has changed it meanwhile: look at it again with `show`, and repeat".to_owned(),
        413 => "send less at once".to_owned(),
        400 | 422 => match expected {
            Some(expected) => format!("correct it: expected {expected}"),
            None => "correct what was sent; --help shows an example".to_owned(),
        },
        405 | 406 | 415 | 501 => {
            "this server is of another age than this program: compare `ca --version` with `ca status`".to_owned()
        }
        429 | 503 => match problem.retry_after {
            Some(seconds) => format!("try again in {seconds} s"),
            None => "try again later".to_owned(),
        },
        500..=599 => match &problem.request_id {
            Some(id) => format!("try again; the server's log has it under {id}"),
            None => "try again; the server's log says more".to_owned(),
        },
        _ => "the server's log says more".to_owned(),
    }
}

/// Who asks was not believed.
fn unknown(reason: Option<&str>) -> String {
    match reason {
        Some("no-credential") => {
            "say who you are: --cert and --key, or --token-file; `ca context add` remembers them"
        }
        Some("revoked" | "authority-revoked") => {
            "a certificate that was revoked proves nothing any more: begin anew with `ca admin request`"
        }
        Some("expired") => {
            "what has ended proves nothing any more: begin anew with `ca admin request`, and renew the next one in time with `ca admin renew`; \
             with a token, get a fresh one"
        }
        Some("audience" | "issuer" | "signature" | "lifetime" | "subject" | "malformed-token" | "not-yet-valid") => {
            "get a token from an issuer that the server's configuration names, for its audience"
        }
        _ => {
            "look at the certificate with `ca inspect CERT`; `ca admin request` begins anew; with a token, get a fresh one"
        }
    }
    .to_owned()
}

/// Who asks is known, and may not.
fn refused(problem: &Problem) -> String {
    if let Some(expected) = &problem.expected {
        return format!(
            "it takes {expected}; `ca whoami` says what you have, and a security officer gives more: `ca role bind`"
        );
    }
    match problem.reason.as_deref() {
        Some("second-person") => "it takes another person than the one who proposed it",
        Some("token") => "use a certificate: --cert and --key",
        Some("not-an-administrator") => {
            "use an administrator's certificate: `ca admin request` makes the request for one"
        }
        _ => "`ca whoami` says what you may; a security officer gives more: `ca role bind`",
    }
    .to_owned()
}

fn for_transport(error: &ClientError) -> String {
    match error {
        ClientError::NotTrusted { .. } => {
            "check --url, and that --root holds the root of the server's own certificate (or the context's: `ca context show`)"
                .to_owned()
        }
        ClientError::NotTaken { .. } => {
            "give an administrator's certificate that is still good: --cert and --key; `ca inspect CERT` says when it ends, `ca admin \
             request` begins anew"
                .to_owned()
        }
        ClientError::Lost { .. } => {
            "nobody here knows whether it was done: look with `show` or `list` before you repeat it".to_owned()
        }
        ClientError::Closed { .. } => {
            "nothing was done; the server may want a certificate (--cert and --key) or be starting: check --url, or try again".to_owned()
        }
        _ => "nothing was done; check --url, or try again when the server is back".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16) -> ApiError {
        ApiError::Problem(Box::new(Problem {
            status,
            ..Problem::default()
        }))
    }

    #[test]
    fn every_status_has_a_kind_and_an_advice() {
        use ApiFailure as F;
        for (status, failure) in [
            (400, F::Failed),
            (401, F::Refused),
            (403, F::Refused),
            (404, F::NotFound),
            (409, F::Conflict),
            (412, F::Conflict),
            (422, F::Failed),
            (428, F::Conflict),
            (429, F::Unavailable),
            (500, F::Unavailable),
            (503, F::Unavailable),
        ] {
            assert_eq!(problem(status).failure(), failure, "{status}");
            assert!(!problem(status).advice().is_empty());
        }
        let unreachable = ClientError::Unreachable {
            address: "a".to_owned(),
            reason: "b".to_owned(),
        };
        assert_eq!(ApiError::from(unreachable).failure(), F::Unavailable);
    }

    #[test]
    fn a_refusal_for_want_of_a_role_names_the_role() {
        let error = ApiError::Problem(Box::new(Problem {
            status: 403,
            expected: Some("operator in cluster a".to_owned()),
            ..Problem::default()
        }));
        assert!(error.advice().contains("operator in cluster a"));
    }
}
