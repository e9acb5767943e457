//! What can go wrong between a wish and a certificate on disk, and what to do about it.

use std::fmt;
use std::io::{self, ErrorKind};

use pki::certificate::Certificate;
use pki::describe;
use pki::extension::AltName;
use rustls::{AlertDescription, CertificateError};
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
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// It took no request.
    #[error("{address} closed the connection before it took a request")]
    Closed {
        /// Its address.
        address: String,
    },
    /// The server's address or roots are not usable.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Reading or writing the identity's files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Making the key or the request.
    #[error("the key or the request was not made")]
    Identity(#[from] IdentityError),
    /// The connection broke, or time was up, after the request was sent: nobody here knows what became of it.
    #[error("the answer of {address} was lost: {reason}")]
    Lost {
        /// Its address.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The server's own certificate does not verify.
    #[error("{address} is not a server that {roots} vouch for: {reason}")]
    NotTrusted {
        /// Its address.
        address: String,
        /// Whose word was asked for.
        roots: String,
        /// What is wrong with its certificate.
        reason: Box<Distrust>,
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
    /// An enrolment token was sent, as often as there was time for, and no answer came.
    #[error("no certificate yet")]
    Unanswered {
        /// The last attempt's error.
        #[source]
        last: Box<Self>,
    },
    /// No connection.
    #[error("no connection to {address}: {reason}")]
    Unreachable {
        /// Its address.
        address: String,
        /// What the transport says.
        reason: String,
    },
    /// What answers there is something else.
    #[error("{address} is no issuance listener: {reason}")]
    WrongServer {
        /// Its address.
        address: String,
        /// What gives it away.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same request may succeed later without anybody doing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Closed { .. }
                | Self::Lost { .. }
                | Self::Temporary { .. }
                | Self::Unanswered { .. }
                | Self::Unreachable { .. }
        )
    }

    /// Whether it is about who asks: not known, or not allowed to.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                matches!(code, Code::Unauthenticated | Code::PermissionDenied)
            }
            Self::NotTaken { .. } => true,
            _ => false,
        }
    }

    /// Whether the server may have had the request, and done what it asks for.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        matches!(
            self,
            Self::Lost { .. } | Self::Temporary { .. } | Self::Unanswered { .. }
        )
    }

    /// What a person does next.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Answer(AnswerError::NotValidNow { .. }) => {
                "compare this machine's clock with the server's"
            }
            Self::Answer(AnswerError::OtherBundle { .. }) => "check --trust-domain",
            Self::Answer(_) => {
                "nothing was written; show this to whoever runs the CA: it answered with a certificate that is not ours to use"
            }
            Self::Credentials(_) | Self::Endpoint(_) => return None,
            Self::Files(FilesError::NotEnrolled { .. }) => {
                "run `ca enroll` with this directory first"
            }
            Self::Files(
                FilesError::Name(_) | FilesError::Open { .. } | FilesError::PendingKey { .. },
            ) => return None,
            Self::Files(_) => {
                "the old files are untouched; run the same command again once this is repaired, within ten minutes where an enrolment token was sent"
            }
            Self::Identity(_) => {
                "give names of the form spiffe://<trust domain>/<path> or host names"
            }
            Self::NotTrusted { .. } => {
                "check --server, --server-name and that --roots holds the root of the server's own certificate"
            }
            Self::NotTaken { .. } => "enrol again with a token",
            Self::Refused { code, .. } => refused(*code),
            Self::Unanswered { .. } => {
                "run the same command again within ten minutes: the key is kept in the directory, and with it the token is still good"
            }
            Self::Closed { .. } | Self::Unreachable { .. } => {
                "nothing was sent; check --server, or try again when the server is back"
            }
            Self::Lost { .. } | Self::Temporary { .. } => "try again later",
            Self::WrongServer { .. } => {
                "check the port of --server: certificates come from the `issue` listener (8443 unless configured otherwise), which speaks gRPC over TLS"
            }
        })
    }

    pub(crate) fn from_status(address: &str, status: &tonic::Status) -> Self {
        // A status with a source was made on this side: the connection failed, the server said nothing.
        if let Some(source) = std::error::Error::source(status) {
            return Self::from_broken_call(address, source);
        }
        let code = status.code();
        let message: String = status
            .message()
            .chars()
            .filter(|c| !c.is_control())
            .take(1_000)
            .collect();
        if let Some(status) = http_status(&message)
            && code != Code::Unavailable
        {
            return Self::WrongServer {
                address: address.to_owned(),
                reason: format!("it answers as a web server does (HTTP {status})"),
            };
        }
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

    /// For a connection that did not come about.
    pub(crate) fn from_connecting(
        address: &str,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        if let Some(known) = Self::from_tls(address, error) {
            return known;
        }
        let words = deepest(error);
        if words.starts_with("HTTP/2 was not negotiated") {
            return Self::WrongServer {
                address: address.to_owned(),
                reason: "it speaks TLS, but not HTTP/2".to_owned(),
            };
        }
        match io_error(error) {
            Some(io) if !is_end(io) => Self::Unreachable {
                address: address.to_owned(),
                reason: plain(io),
            },
            _ => Self::Closed {
                address: address.to_owned(),
            },
        }
    }

    /// For a connection that broke after the call was sent.
    pub(crate) fn from_broken_call(
        address: &str,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        if let Some(known) = Self::from_tls(address, error) {
            return known;
        }
        let reason = if causes(error).any(|cause| cause.is::<tonic::TimeoutExpired>()) {
            "none came in time".to_owned()
        } else {
            match io_error(error) {
                Some(io) if !is_end(io) => plain(io),
                _ => "the connection was closed".to_owned(),
            }
        };
        Self::Lost {
            address: address.to_owned(),
            reason,
        }
    }

    fn from_tls(address: &str, error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        use rustls::Error as Tls;
        let address = address.to_owned();
        if let Some(reason) = alert_about_our_certificate(&deepest(error)) {
            return Some(Self::NotTaken {
                address,
                reason: reason.to_owned(),
            });
        }
        let reason = match tls_error(error)? {
            Tls::InvalidCertificate(error) => {
                return Some(Self::NotTrusted {
                    address,
                    roots: "the given roots".to_owned(),
                    reason: Box::new(Distrust::new(error.clone())),
                });
            }
            Tls::InvalidMessage(_) | Tls::PeerSentOversizedRecord => "it does not speak TLS",
            Tls::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity
                | AlertDescription::ProtocolVersion
                | AlertDescription::NoApplicationProtocol
                | AlertDescription::UnrecognisedName,
            )
            | Tls::NoApplicationProtocol
            | Tls::PeerIncompatible(_)
            | Tls::PeerMisbehaved(_) => "it speaks another TLS than we do",
            _ => return None,
        };
        Some(Self::WrongServer {
            address,
            reason: reason.to_owned(),
        })
    }
}

/// What an alert says by which a server refuses a client's certificate (RFC 8446 §6.2), given rustls' words for it. In TLS
/// 1.3 it comes after the handshake, through the HTTP/2 library, which keeps an error's words and drops the error.
fn alert_about_our_certificate(words: &str) -> Option<&'static str> {
    const ALERTS: [(&str, &str); 8] = [
        ("AccessDenied", "access is denied"),
        ("BadCertificate", "it does not read or verify"),
        ("CertificateExpired", "it has expired"),
        ("CertificateRequired", "one is needed, and none came"),
        ("CertificateRevoked", "it was revoked"),
        ("CertificateUnknown", "no reason was given"),
        ("UnknownCA", "its issuer is not known there"),
        ("UnsupportedCertificate", "it is not one for this use"),
    ];
    let alert = words.strip_prefix("received fatal alert: ")?;
    let (_, meaning) = ALERTS.iter().find(|(known, _)| alert.starts_with(known))?;
    Some(meaning)
}

/// The HTTP status behind an answer that is no gRPC: the gRPC library has made a status of its own of it.
fn http_status(message: &str) -> Option<&str> {
    const MARKS: [&str; 2] = [
        "while receiving response with status: ",
        "grpc-status header missing, mapped from HTTP status code ",
    ];
    MARKS
        .iter()
        .find_map(|mark| message.split_once(mark))
        .map(|(_, status)| status)
}

/// What is wrong with a server's certificate.
#[derive(Clone, Debug)]
pub struct Distrust {
    error: CertificateError,
    chain: Vec<Certificate>,
    roots: Vec<Certificate>,
    name: String,
}

impl Distrust {
    fn new(error: CertificateError) -> Self {
        Self {
            error,
            chain: Vec::new(),
            roots: Vec::new(),
            name: String::new(),
        }
    }

    /// The same with what came from the server, what was to vouch for it, and under which name.
    pub(crate) fn with_chain(self, chain: Vec<Certificate>, roots: &[Vec<u8>], name: &str) -> Self {
        let read = |der: &Vec<u8>| Certificate::parse(der).ok();
        Self {
            chain,
            roots: roots.iter().filter_map(read).collect(),
            name: name.to_owned(),
            ..self
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use CertificateError as E;
        match (&self.error, self.chain.as_slice()) {
            (E::NotValidForName | E::NotValidForNameContext { .. }, [leaf, ..]) => {
                let names: Vec<String> = leaf.alt_names().iter().map(AltName::to_string).collect();
                write!(
                    f,
                    "its certificate is for {}, not for {}",
                    names.join(", "),
                    self.name
                )
            }
            (E::BadSignature | E::UnknownIssuer, [leaf, above @ ..]) => {
                let issuer = describe::name(leaf.issuer());
                write!(f, "its certificate was issued by {issuer}")?;
                let top = above.last().unwrap_or(leaf).issuer();
                if !above.is_empty() {
                    write!(f, ", and the chain ends at {}", describe::name(top))?;
                }
                let roots: Vec<String> = self
                    .roots
                    .iter()
                    .map(|root| describe::name(root.subject()))
                    .collect();
                write!(f, "; the roots are {}", roots.join("; "))?;
                if self.roots.iter().any(|root| root.subject() == top) {
                    // A root of the same name that was made anew.
                    f.write_str(", which has another key")?;
                }
                Ok(())
            }
            (E::Expired | E::ExpiredContext { .. }, [leaf, ..]) => write!(
                f,
                "its certificate or one above it has expired by this machine's clock (its own ends {})",
                leaf.not_after()
            ),
            (E::NotValidYet | E::NotValidYetContext { .. }, [leaf, ..]) => write!(
                f,
                "its certificate or one above it is not valid yet by this machine's clock (its own begins {})",
                leaf.not_before()
            ),
            (E::NotValidForName | E::NotValidForNameContext { .. }, []) => {
                f.write_str("its certificate is for another name")
            }
            (E::Expired | E::ExpiredContext { .. }, []) => {
                f.write_str("its certificate has expired by this machine's clock")
            }
            (E::NotValidYet | E::NotValidYetContext { .. }, []) => {
                f.write_str("its certificate is not valid yet by this machine's clock")
            }
            (E::BadSignature | E::UnknownIssuer, []) => {
                f.write_str("its certificate is not by any of them")
            }
            (E::Revoked, _) => f.write_str("its certificate is revoked"),
            (E::InvalidPurpose | E::InvalidPurposeContext { .. }, _) => {
                f.write_str("its certificate is not good for TLS servers")
            }
            (E::BadEncoding, _) => f.write_str("its certificate does not read"),
            _ => f.write_str("its certificate does not verify"),
        }
    }
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
        Code::NotFound => "check the name that was asked for, and --server",
        Code::Unimplemented => {
            "check --server: what answers there is not Signet's issuance listener"
        }
        _ => "show this to whoever runs the CA",
    }
}

/// The TLS library's error among the causes of `error`.
pub(crate) fn tls_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The system's error among the causes of `error`, the one that is nearest to it.
fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .last()
}

/// The error, its cause, and so on. An `io::Error` hides its content from `source`, so it is asked for it.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
}

/// Whether the other side has hung up.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
    )
}

/// What the system says, without what only its programmers read.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => {
            let words = error.to_string();
            let words = words.split(" (os error ").next().unwrap_or_default();
            words
                .split(": https://")
                .next()
                .unwrap_or_default()
                .to_owned()
        }
    }
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

    #[test]
    fn tls_failures_are_told_apart_however_they_are_wrapped() {
        let from =
            |error: &(dyn std::error::Error + 'static)| ClientError::from_connecting("a", error);
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(matches!(from(&unknown), ClientError::NotTrusted { .. }));
        let wrapped = io::Error::other(io::Error::other(unknown));
        assert!(matches!(from(&wrapped), ClientError::NotTrusted { .. }));

        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let words = io::Error::other(alert.to_string());
        assert!(matches!(from(&alert), ClientError::NotTaken { .. }));
        assert!(matches!(from(&words), ClientError::NotTaken { .. }));

        let other = rustls::Error::AlertReceived(AlertDescription::InternalError);
        assert!(from(&other).is_temporary());
        let reset = io::Error::from(ErrorKind::ConnectionReset);
        assert!(matches!(from(&reset), ClientError::Closed { .. }));
        let nobody = io::Error::from(ErrorKind::ConnectionRefused);
        assert!(matches!(from(&nobody), ClientError::Unreachable { .. }));
    }

    #[test]
    fn what_is_no_issuance_listener_is_no_reason_to_try_again() {
        let plain = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let error = ClientError::from_connecting("a", &io::Error::other(plain));
        assert!(matches!(error, ClientError::WrongServer { .. }), "{error}");
        assert!(!error.is_temporary() && error.advice().unwrap().contains("port"));

        let html = "grpc-status header missing, mapped from HTTP status code 404";
        let status = tonic::Status::new(Code::Unimplemented, html);
        let error = ClientError::from_status("a", &status);
        assert!(matches!(error, ClientError::WrongServer { .. }), "{error}");
        // A proxy whose server is away.
        let busy = "grpc-status header missing, mapped from HTTP status code 503";
        let status = tonic::Status::new(Code::Unavailable, busy);
        assert!(ClientError::from_status("a", &status).is_temporary());
    }

    #[test]
    fn a_call_that_broke_is_lost_and_its_words_are_for_people() {
        let unclean = "peer closed connection without sending TLS close_notify: https://docs.rs/x";
        for (error, words) in [
            (
                io::Error::new(ErrorKind::UnexpectedEof, unclean),
                "the connection was closed",
            ),
            (
                io::Error::new(ErrorKind::InvalidData, "odd: https://docs.rs/x"),
                "odd",
            ),
            (
                io::Error::from_raw_os_error(rustix::io::Errno::HOSTUNREACH.raw_os_error()),
                "No route to host",
            ),
        ] {
            let mut status = tonic::Status::new(Code::Unknown, "transport error");
            status.set_source(std::sync::Arc::new(error));
            let error = ClientError::from_status("a", &status);
            assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
            assert!(error.to_string().ends_with(words), "{error}");
        }
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
