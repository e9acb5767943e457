//! Making an authority's key, or taking one that is there: in the store, or in a token.

use hsm::pkcs11::KeyOrigin;
use hsm::{Signer, SoftwareSigner};
use pki::key::{KeyAlgorithm, PublicKey};
use pki::name::{AuthorityId, KeyUri};

use super::signing::{self, Key};
use super::{Context, Error, tokens};

/// Where an authority's key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKey {
    /// It is made here, and rests in the store.
    InStore(KeyAlgorithm),
    /// It is made in the token of this label, labelled as its authority.
    InToken(String, KeyAlgorithm),
    /// It is in a token already.
    Existing(KeyUri),
}

/// A key that was made or found, and what the store keeps of it.
pub(super) struct KeyOfRequest {
    pub(super) key: Key,
    pub(super) public_key: PublicKey,
    pub(super) sealed: Option<Vec<u8>>,
    pub(super) in_token: Option<(KeyUri, KeyOrigin)>,
}

impl NewKey {
    /// Makes or finds the key of the authority `id`.
    ///
    /// # Errors
    /// When its token is away or has such a key, or it has to be confined to a token and is not.
    pub(super) async fn make(
        &self,
        context: &Context,
        id: &AuthorityId,
    ) -> Result<KeyOfRequest, Error> {
        let signer = match self {
            Self::InStore(algorithm) => {
                if context.tokens.require_confined() {
                    return Err(signing::not_confined("the key would be in the store"));
                }
                let (signer, pkcs8) =
                    SoftwareSigner::generate(*algorithm).map_err(Error::internal)?;
                let sealed = context
                    .key_encryption_key
                    .seal(id, signer.public_key(), &pkcs8)
                    .map_err(Error::internal)?;
                return Ok(KeyOfRequest {
                    public_key: signer.public_key().clone(),
                    key: Key::in_memory(signer),
                    sealed: Some(sealed),
                    in_token: None,
                });
            }
            Self::InToken(label, algorithm) => {
                let token = context.tokens.labelled(label)?;
                token.generate(id.as_str(), *algorithm).await?
            }
            Self::Existing(uri) => context.tokens.of(uri)?.find(uri).await?,
        };
        let (uri, origin) = (signer.uri(), signer.origin());
        if context.tokens.require_confined() {
            tokens::check_confined(uri, origin)?;
        }
        let public_key = signer.public_key().clone();
        let key = context.tokens.key(id, uri, public_key.clone());
        let key = Key::Token(key.ok_or_else(|| Error::internal("the key's token is not named"))?);
        key.make_ready().await?;
        Ok(KeyOfRequest {
            key,
            public_key,
            sealed: None,
            in_token: Some((uri.clone(), origin)),
        })
    }
}
