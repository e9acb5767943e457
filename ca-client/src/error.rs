//! What can go wrong between a wish and a certificate on disk, and what to do about it.

use tonic::Code;

use crate::answer::AnswerError;
use crate::credentials::CredentialsError;
use crate::endpoint::EndpointError;
use crate::files::FilesError;
use crate::identity::IdentityError;

/// Why there is no new certificate. Nothing was written unless it is [`ClientError::Files`], and then the old files
/// stand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's answer is not what was asked for.
    #[error("the server's answer was not taken")]
    Answer(#[from] AnswerError),
    /// The proof of who we are is not usable.
    #[error("the credentials are not usable")]
    Credentials(#[from] CredentialsError),
    /// The server's address or roots are not usable.
    #[error("the server's address or roots are not usable")]
    Endpoint(#[from] EndpointError),
    /// Reading or writing the identity's files.
    #[error("the identity's files")]
    Files(#[from] FilesError),
    /// Making the key or the request.
    #[error("the key or the request was not made")]
    Identity(#[from] IdentityError),
    /// The server's own certificate does not verify.
    #[error("{address} is not a server that the given roots vouch for: {reason}")]
    NotTrusted {
        /// Its address.
        address: String,
        /// What the TLS library says.
        reason: String,
    },
    /// The server did not take our certificate in the handshake.
    #[error("{address} did not take our certificate: {reason}")]
    NotTaken {
        /// Its address.
        address: String,
        /// The alert that it sent.
        reason: String,
    },
    /// The server said no, and will again.
    #[error("the server refused ({code:?}): {message}")]
    Refused {
        /// Its status.
        code: Code,
        /// Its words, without control characters.
        message: String,
    },
    /// The server said not now.
    #[error("the server cannot answer now ({code:?}): {message}")]
    Temporary {
        /// Its status.
        code: Code,
        /// Its words, without control characters.
        message: String,
    },
    /// No connection, or it broke.
    #[error("no connection to {address}: {reason}")]
    Unreachable {
        /// Its address.
        address: String,
        /// What the transport says.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same request may succeed later without anybody doing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary { .. } | Self::Unreachable { .. })
    }

    /// What a person does next.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Answer(AnswerError::NotValidNow { .. }) => {
                "compare this machine's clock with the server's"
            }
            Self::Answer(_) => {
                "nothing was written; show this to whoever runs the CA: it answered with a certificate that is not ours to use"
            }
            Self::Credentials(_) | Self::Endpoint(_) => return None,
            Self::Files(FilesError::NotEnrolled { .. }) => {
                "run `ca enroll` with this directory first"
            }
            Self::Files(_) => "the files that were there before are untouched",
            Self::Identity(_) => {
                "give names of the form spiffe://<trust domain>/<path> or host names"
            }
            Self::NotTrusted { .. } => {
                "check --server, --server-name and that --roots holds the root of the server's own certificate"
            }
            Self::NotTaken { .. } => {
                "the certificate may be expired or revoked, or its authority gone: enrol again with a token"
            }
            Self::Refused { code, .. } => refused(*code),
            Self::Temporary { .. } | Self::Unreachable { .. } => {
                "try again later; `ca renew --watch` does so by itself"
            }
        })
    }

    pub(crate) fn from_status(address: &str, status: &tonic::Status) -> Self {
        // A status with a source was made on this side: the connection failed, the server said nothing.
        if let Some(source) = std::error::Error::source(status) {
            return Self::from_transport(address, source);
        }
        let code = status.code();
        let message: String = status
            .message()
            .chars()
            .filter(|c| !c.is_control())
            .take(1_000)
            .collect();
        match code {
            Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Cancelled
            | Code::Unknown => Self::Temporary { code, message },
            _ => Self::Refused { code, message },
        }
    }

    pub(crate) fn from_transport(address: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let address = address.to_owned();
        if let Some(reason @ rustls::Error::InvalidCertificate(_)) = tls_error(error) {
            return Self::NotTrusted {
                address,
                reason: reason.to_string(),
            };
        }
        let reason = deepest(error);
        if is_about_our_certificate(&reason) {
            Self::NotTaken { address, reason }
        } else {
            Self::Unreachable { address, reason }
        }
    }
}

/// Whether these are rustls' words for an alert by which a server refuses a client's certificate (RFC 8446 §6.2). In
/// TLS 1.3 it comes after the handshake, through the HTTP/2 library, which keeps an error's words and drops the error.
fn is_about_our_certificate(words: &str) -> bool {
    const ALERTS: [&str; 8] = [
        "AccessDenied",
        "BadCertificate",
        "CertificateExpired",
        "CertificateRequired",
        "CertificateRevoked",
        "CertificateUnknown",
        "UnknownCA",
        "UnsupportedCertificate",
    ];
    words
        .strip_prefix("received fatal alert: ")
        .is_some_and(|alert| ALERTS.iter().any(|known| alert.starts_with(known)))
}

fn refused(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => {
            "check the token (audience, age, cluster), or enrol again if the certificate has expired or was revoked"
        }
        Code::PermissionDenied => {
            "ask for names, a profile and a lifetime that the CA's policy gives this caller"
        }
        Code::InvalidArgument => "correct the request: the server says what is wrong with it",
        Code::Unimplemented => {
            "check --server: what answers there is not Signet's issuance listener"
        }
        _ => "show this to whoever runs the CA",
    }
}

/// The TLS library's error among the causes of `error`. An `io::Error` hides its content from `source`, so it is
/// asked for it.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        line.push_str(": ");
        line.push_str(&source.to_string());
        next = source.source();
    }
    line
}

fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, CertificateError};
    use std::io;

    #[test]
    fn tls_failures_are_told_apart_however_they_are_wrapped() {
        let from =
            |error: &(dyn std::error::Error + 'static)| ClientError::from_transport("a", error);
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(matches!(from(&unknown), ClientError::NotTrusted { .. }));
        let wrapped = io::Error::other(io::Error::other(unknown));
        assert!(matches!(from(&wrapped), ClientError::NotTrusted { .. }));

        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let words = io::Error::other(alert.to_string());
        assert!(matches!(from(&alert), ClientError::NotTaken { .. }));
        assert!(matches!(from(&words), ClientError::NotTaken { .. }));

        let other = rustls::Error::AlertReceived(AlertDescription::InternalError);
        assert!(matches!(from(&other), ClientError::Unreachable { .. }));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(matches!(from(&reset), ClientError::Unreachable { .. }));
    }

    #[test]
    fn a_server_that_says_later_is_temporary_and_its_words_are_tamed() {
        for (code, temporary) in [
            (Code::Unavailable, true),
            (Code::ResourceExhausted, true),
            (Code::PermissionDenied, false),
            (Code::Internal, false),
        ] {
            let error = ClientError::from_status("a", &tonic::Status::new(code, "x\u{1b}[2Jy"));
            assert_eq!(error.is_temporary(), temporary, "{code:?}");
            assert!(error.to_string().ends_with("x[2Jy"), "{error}");
            assert!(error.advice().is_some());
        }
    }
}
