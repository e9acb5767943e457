//! Having things signed: by keys in this process's memory, and by keys in tokens.

use std::sync::Arc;
use std::time::Duration;

use hsm::{SignError, Signer};
use pki::artefact::{Artefact, Prepared};

use super::tokens::TokenKey;
use super::{Context, Error, ErrorKind};
use crate::store::model::AuthorityRow;

/// How long a signature may take, waiting for the token's turn included.
pub(super) const SIGN_DEADLINE: Duration = Duration::from_secs(5);

/// A key that this process may sign with.
#[derive(Clone, Debug)]
pub enum Key {
    /// In this process's memory: it signs here and now (17 µs).
    Memory(Arc<dyn Signer>),
    /// In a token, which may be slow, hang, or be away.
    Token(Arc<TokenKey>),
}

impl Key {
    /// A key that does not block.
    pub fn in_memory(signer: impl Signer + 'static) -> Self {
        Self::Memory(Arc::new(signer))
    }

    /// An authority's key; `None` where the configuration does not name its token.
    ///
    /// # Errors
    /// When the sealed key does not open, or only keys that are confined to a token may sign and this one is not.
    pub fn of(context: &Context, row: &AuthorityRow) -> Result<Option<Self>, Error> {
        let public_key = pki::key::PublicKey::from_spki(&row.spki).map_err(Error::internal)?;
        if let Some(uri) = &row.key_uri {
            return Ok(context
                .tokens
                .key(&row.id, uri, public_key)
                .map(Self::Token));
        }
        if context.tokens.require_confined() {
            return Err(not_confined(&format!(
                "the key of {} is in the store",
                row.id
            )));
        }
        let sealed = row.sealed_key.as_deref().unwrap_or_default();
        let signer = context
            .key_encryption_key
            .open(&row.id, &public_key, sealed)
            .map_err(Error::internal)?;
        Ok(Some(Self::in_memory(signer)))
    }

    /// Whether it signs now, as far as is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Token(key) => key.is_ready(),
        }
    }

    /// Has it ready, where it is in a token that can be reached: for who signs once and has no task that keeps it so.
    ///
    /// # Errors
    /// When the token is away or late, or the key is not there or is another one.
    pub async fn make_ready(&self) -> Result<(), Error> {
        match self {
            Self::Token(key) if !key.is_ready() => key.try_out().await,
            Self::Memory(_) | Self::Token(_) => Ok(()),
        }
    }

    /// Signs and seals. What a token signs after the deadline is thrown away unsealed.
    ///
    /// # Errors
    /// When the signer fails, is late or away, or signed with another key than the issuer's.
    pub async fn seal<T: Artefact + Send + 'static>(
        &self,
        prepared: Prepared<T>,
    ) -> Result<T, Error> {
        match self {
            Self::Memory(signer) => {
                let signature = signer.sign(prepared.to_be_signed()).map_err(failed)?;
                prepared.seal(&signature).map_err(Error::internal)
            }
            Self::Token(key) => key.seal(prepared).await,
        }
    }
}

pub(super) fn failed(error: SignError) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "signer",
        "the signer failed, try again",
    )
    .because(error)
}

pub(super) fn not_confined(what: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        "not-confined",
        format!(
            "{what}, and keys.require_confined wants keys that were made in a token and cannot leave it"
        ),
    )
}
