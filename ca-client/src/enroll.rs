//! The whole way: key, request, answer, files.

use std::time::Duration;

use pki::extension::SubjectNames;
use pki::name::ProfileName;
use pki::time::{Timestamp, Ttl};
use tokio::time::Instant;

use crate::answer::SignedCertificate;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::entropy;
use crate::error::{ClientError, chain};
use crate::files::{FilesError, IdentityDir};
use crate::identity::{KeyKind, NewKey};
use crate::renew::Backoff;
use crate::sign::sign;

/// What is ordered beside the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The profile; `workload` where absent.
    pub profile: Option<ProfileName>,
    /// The lifetime; the profile's default where absent.
    pub ttl: Option<Ttl>,
    /// What kind of key is made.
    pub key: KeyKind,
}

/// How long an enrolment asks again for an answer that does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the first request to the last answer.
    pub bound: Duration,
    /// The pauses between requests.
    pub backoff: Backoff,
}

impl Default for Patience {
    /// 30 s, with pauses from 500 ms to 5 s.
    fn default() -> Self {
        Self {
            bound: Duration::from_secs(30),
            backoff: Backoff {
                first: Duration::from_millis(500),
                longest: Duration::from_secs(5),
            },
        }
    }
}

/// Who asks for what, and where it will lie. No names is a request for whatever the server says the caller is.
#[derive(Clone, Copy, Debug)]
pub struct Enrolment<'a> {
    /// Who signs.
    pub endpoint: &'a Endpoint,
    /// The proof.
    pub credentials: &'a Credentials,
    /// What is asked for.
    pub names: &'a SubjectNames,
    /// The rest of it.
    pub order: &'a Order,
    /// Where the identity will lie, and where the key of an enrolment token lies until then.
    pub directory: &'a IdentityDir,
}

/// A key and its certificate, checked, and not yet in the directory.
#[derive(Debug)]
pub struct Answered {
    key: NewKey,
    is_pending: bool,
    signed: SignedCertificate,
}

impl Enrolment<'_> {
    /// Asks once, as it stands at `now`.
    ///
    /// # Errors
    /// As [`ClientError`] says. Nothing of the identity is written.
    pub async fn ask(&self, now: Timestamp) -> Result<Answered, ClientError> {
        let key = self.key()?;
        let signed = self.sign(&key, now).await?;
        Ok(self.answered(key, signed))
    }

    /// Asks, and asks again with the same key where an answer was lost or the server said not now. A server that cannot be
    /// reached is asked again only once it may have had the request: until then nothing is lost by saying so at once.
    ///
    /// # Errors
    /// As [`ClientError`] says; [`ClientError::Unanswered`] where an enrolment token is on its way.
    pub async fn ask_patiently(
        &self,
        patience: &Patience,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<Answered, ClientError> {
        let key = self.key()?;
        let until = Instant::now() + patience.bound;
        let (mut failures, mut sent) = (0, false);
        let last = loop {
            let asked = tokio::time::timeout_at(until, self.sign(&key, clock())).await;
            let error = match asked {
                Ok(Ok(signed)) => return Ok(self.answered(key, signed)),
                Ok(Err(error)) => error,
                Err(_) => ClientError::Lost {
                    address: self.endpoint.address().to_owned(),
                    reason: "none came in time".to_owned(),
                },
            };
            sent |= error.was_sent();
            if !error.is_temporary() || !sent {
                return Err(error);
            }
            failures += 1;
            let pause = patience.backoff.delay(failures, entropy::jitter());
            if Instant::now() + pause >= until {
                break error;
            }
            tracing::warn!(
                error = chain(&error),
                pause_s = pause.as_secs_f64(),
                "asking again"
            );
            tokio::time::sleep(pause).await;
        };
        // Any other proof is as good for another key later.
        Err(match self.credentials {
            Credentials::Enrolment(_) => ClientError::Unanswered {
                last: Box::new(last),
            },
            Credentials::Certificate { .. } | Credentials::Token { .. } => last,
        })
    }

    /// The key to ask with: on disk already, where the proof is good for one key alone.
    fn key(&self) -> Result<NewKey, ClientError> {
        // First, so that no certificate is issued for a directory that cannot take it.
        self.directory.prepare()?;
        match self.credentials {
            Credentials::Enrolment(token) => {
                self.directory
                    .pending_key(token, self.order.key, self.names)
            }
            Credentials::Certificate { .. } | Credentials::Token { .. } => {
                Ok(NewKey::generate(self.order.key, self.names)?)
            }
        }
    }

    fn answered(&self, key: NewKey, signed: SignedCertificate) -> Answered {
        Answered {
            key,
            is_pending: matches!(self.credentials, Credentials::Enrolment(_)),
            signed,
        }
    }

    async fn sign(&self, key: &NewKey, now: Timestamp) -> Result<SignedCertificate, ClientError> {
        let Order { profile, ttl, .. } = self.order;
        sign(
            self.endpoint,
            self.credentials,
            key.csr(),
            profile.as_ref(),
            *ttl,
            now,
        )
        .await
    }
}

impl Answered {
    /// The certificate.
    #[must_use]
    pub fn signed(&self) -> &SignedCertificate {
        &self.signed
    }

    /// Replaces the identity in `directory`.
    ///
    /// # Errors
    /// When a file cannot be written; the old identity then stands, and a pending key stays for another attempt.
    pub fn write(
        self,
        directory: &IdentityDir,
        now: Timestamp,
    ) -> Result<SignedCertificate, FilesError> {
        directory.write(self.key.key_pem(), &self.signed, now)?;
        // A kill before this leaves a copy of the key that is in place, in the same directory, until the next enrolment.
        if self.is_pending
            && let Err(error) = directory.forget_pending_keys()
        {
            tracing::warn!(error = chain(&error), "a key that is not needed stays");
        }
        Ok(self.signed)
    }
}

/// Makes a new key, gets its certificate and replaces the identity in `directory`: once, without patience.
///
/// # Errors
/// As [`ClientError`] says. Until the answer is checked nothing of the identity is written, and a failed write leaves the old
/// one.
pub async fn enroll(
    endpoint: &Endpoint,
    credentials: &Credentials,
    names: &SubjectNames,
    order: &Order,
    directory: &IdentityDir,
    now: Timestamp,
) -> Result<SignedCertificate, ClientError> {
    let enrolment = Enrolment {
        endpoint,
        credentials,
        names,
        order,
        directory,
    };
    let answered = enrolment.ask(now).await?;
    Ok(answered.write(directory, now)?)
}
