//! An issuer's keys: pinned, or fetched and kept for a while.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pki::time::{Timestamp, Ttl};
use tokio::sync::Mutex;

use super::fetch::Source;
use crate::authn::token::{Jwks, JwksError};
use crate::config::OidcKeys;

/// For how long fetched keys are used without a look at whether they still are: a key that was taken out of the set proves
/// nobody for longer.
const FRESH_FOR: Ttl = Ttl::minutes(10);
/// For how long fetched keys are used while the issuer cannot be asked.
const KEPT_FOR: Ttl = Ttl::hours(24);
/// The shortest time from one question to the next, whatever tokens come.
const ASKED_EACH: Ttl = Ttl::minutes(1);

/// Where an issuer's keys come from, and what they are.
#[derive(Debug)]
pub(super) enum Keys {
    Pinned(Arc<Jwks>),
    Fetched(Box<Fetched>),
}

#[derive(Debug)]
pub(super) struct Fetched {
    source: Source,
    /// Held over a question, so that there is one at a time.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<Arc<Jwks>>,
    /// When they were fetched.
    fetched_at: Option<Timestamp>,
    /// When the issuer was last asked.
    asked_at: Option<Timestamp>,
    /// Why there was no answer.
    trouble: Option<String>,
}

/// Whether `then` is at most `ttl` ago. A clock that was set back makes it no younger.
fn is_within(then: Option<Timestamp>, ttl: Ttl, now: Timestamp) -> bool {
    then.is_some_and(|then| (0..ttl.seconds()).contains(&now.seconds_since(then)))
}

impl Keys {
    pub(super) fn new(config: &OidcKeys) -> Result<Self, OidcConfigError> {
        Ok(match config {
            OidcKeys::File(file) => Self::Pinned(Arc::new(read_jwks(file)?)),
            OidcKeys::Url { url, ca_file } => Self::Fetched(Box::new(Fetched {
                source: Source::new(url.clone(), ca_file.as_deref())?,
                state: Mutex::default(),
            })),
        })
    }

    /// The keys that count now.
    ///
    /// # Errors
    /// When there are none, or they are older than a day.
    pub(super) async fn current(&self, now: Timestamp) -> Result<Arc<Jwks>, NoKeys> {
        match self {
            Self::Pinned(keys) => Ok(keys.clone()),
            Self::Fetched(fetched) => {
                let mut state = fetched.state.lock().await;
                if !is_within(state.fetched_at, FRESH_FOR, now) {
                    fetched.ask(&mut state, now).await;
                }
                state.usable(now)
            }
        }
    }

    /// Other keys than `known`, after a question where one is due: a token has a key id that is not among those.
    pub(super) async fn newer_than(&self, known: &Arc<Jwks>, now: Timestamp) -> Option<Arc<Jwks>> {
        let Self::Fetched(fetched) = self else {
            return None;
        };
        let mut state = fetched.state.lock().await;
        // Who waited for another's question has its answer.
        if state
            .keys
            .as_ref()
            .is_some_and(|keys| Arc::ptr_eq(keys, known))
        {
            fetched.ask(&mut state, now).await;
        }
        let keys = state.usable(now).ok()?;
        (!Arc::ptr_eq(&keys, known)).then_some(keys)
    }
}

impl Fetched {
    /// Asks for the keys, unless that was done a moment ago.
    async fn ask(&self, state: &mut State, now: Timestamp) {
        if is_within(state.asked_at, ASKED_EACH, now) {
            return;
        }
        // Before the answer: who gives up waiting has asked all the same.
        state.asked_at = Some(now);
        match self.source.fetch().await {
            Ok(keys) => {
                if state.trouble.take().is_some() {
                    tracing::info!(url = %self.source.url(), "an issuer's keys can be had again");
                }
                state.fetched_at = Some(now);
                // The same keys stay the same, so that nobody takes them for an answer.
                if state.keys.as_deref() != Some(&keys) {
                    let ids: Vec<&str> = keys.key_ids().collect();
                    tracing::info!(url = %self.source.url(), keys = ?ids, "an issuer has these keys now");
                    state.keys = Some(Arc::new(keys));
                }
            }
            Err(error) => {
                let why = crate::app::chain(&error);
                tracing::warn!(url = %self.source.url(), error = %why, "an issuer's keys cannot be fetched");
                state.trouble = Some(why);
            }
        }
    }
}

impl State {
    fn usable(&self, now: Timestamp) -> Result<Arc<Jwks>, NoKeys> {
        let keys = self
            .keys
            .clone()
            .filter(|_| is_within(self.fetched_at, KEPT_FOR, now));
        keys.ok_or_else(|| NoKeys(self.trouble.clone().unwrap_or_default()))
    }
}

/// An issuer's keys cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's keys cannot be had: {0}")]
pub struct NoKeys(String);

/// Why the configuration of an issuer was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum OidcConfigError {
    /// A file does not read.
    #[error("{}: {why}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// No key set.
    #[error("{}: {why}", path.display())]
    Jwks {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: JwksError,
    },
    /// No roots, or TLS cannot be set up with them.
    #[error("no server can be verified: {0}")]
    Roots(String),
}

/// Reads a key set that is pinned.
pub(crate) fn read_jwks(path: &Path) -> Result<Jwks, OidcConfigError> {
    let bytes = std::fs::read(path).map_err(|error| OidcConfigError::File {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    Jwks::parse(&bytes).map_err(|why| OidcConfigError::Jwks {
        path: path.to_owned(),
        why,
    })
}
