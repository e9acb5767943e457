//! Requests that are carried out once, however often they are sent.

use pki::crypto::{self, Digest};
use pki::time::Ttl;

use super::permit::Permit;
use super::{App, Error, ErrorKind};
use crate::store::administrators::Remembering;

/// For how long an answer is given again.
pub const REMEMBERED: Ttl = Ttl::hours(24);
/// What began so long ago and has no answer was cut off: the server died in its middle.
const CUT_OFF: Ttl = Ttl::hours(1);

/// A request with its key.
#[derive(Debug)]
pub struct Request {
    principal: String,
    key: String,
    digest: Digest,
}

impl Request {
    /// What makes it the same request: who asks, by which roles, the key, the target and the body. Whoever has lost a role
    /// since is not given what it was good for.
    #[must_use]
    pub fn new(permit: &Permit, key: &str, target: &str, body: &[u8]) -> Self {
        let mut whole = Vec::with_capacity(target.len() + body.len() + 64);
        let bindings = permit.principal().powers.bindings().iter();
        let mut bindings: Vec<_> = bindings.map(|binding| binding.id.as_str()).collect();
        bindings.sort_unstable();
        whole.extend_from_slice(bindings.join(",").as_bytes());
        whole.push(0);
        whole.extend_from_slice(target.as_bytes());
        whole.push(0);
        whole.extend_from_slice(body);
        Self {
            principal: permit.principal().name.clone(),
            key: key.to_owned(),
            digest: crypto::sha256(&whole),
        }
    }

    fn binding(&self) -> Vec<u8> {
        let mut binding = b"signet answer v1\0".to_vec();
        binding.extend_from_slice(self.principal.as_bytes());
        binding.push(0);
        binding.extend_from_slice(self.key.as_bytes());
        binding.push(0);
        binding.extend_from_slice(&self.digest);
        binding
    }
}

/// Whether a request is to be carried out.
#[derive(Debug)]
pub enum Begun {
    /// It is the first one of its key.
    Fresh,
    /// It was, and this was the answer.
    Answered(Vec<u8>),
}

impl App {
    /// Takes note of a request before it is carried out.
    ///
    /// # Errors
    /// `Conflict` while the same one is under way, `Malformed` when the key was used for another request, or when the store is
    /// away.
    pub async fn begin_once(&self, request: &Request) -> Result<Begun, Error> {
        let context = self.context();
        let now = context.clock.untrusted_now();
        let found = context
            .store
            .remember(
                &request.principal,
                &request.key,
                &request.digest,
                now,
                now.minus(CUT_OFF),
                now.minus(REMEMBERED),
            )
            .await?;
        match found {
            Remembering::Fresh => Ok(Begun::Fresh),
            Remembering::Other => Err(Error::new(
                ErrorKind::Malformed,
                "idempotency-key",
                "this Idempotency-Key was used for another request: expected a new one",
            )),
            Remembering::UnderWay => Err(Error::new(
                ErrorKind::Conflict,
                "under-way",
                "the same request is under way: try again in a moment",
            )),
            Remembering::Answered(sealed) => context
                .key_encryption_key
                .open_bytes(&request.binding(), &sealed)
                .map(Begun::Answered)
                .map_err(Error::internal),
        }
    }

    /// Keeps the answer. Where that fails the request may be carried out once more: it is logged.
    pub async fn answered_once(&self, request: &Request, answer: &[u8]) {
        let context = self.context();
        let sealed = context
            .key_encryption_key
            .seal_bytes(&request.binding(), answer);
        let kept = match sealed {
            Ok(sealed) => context
                .store
                .remember_answer(&request.principal, &request.key, &sealed)
                .await
                .map_err(Error::from),
            Err(error) => Err(Error::internal(error)),
        };
        if let Err(error) = kept {
            tracing::warn!(error = %error.detail(), principal = request.principal, "an answer is not kept for its Idempotency-Key");
        }
    }

    /// Forgets a request that was refused or failed: it changed nothing, and may be sent again.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn forget_once(&self, request: &Request) -> Result<(), Error> {
        let store = &self.context().store;
        Ok(store
            .forget_request(&request.principal, &request.key)
            .await?)
    }
}
