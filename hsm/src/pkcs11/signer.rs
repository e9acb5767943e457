//! A key in a token, as a signer.

use std::sync::Arc;

use cryptoki::mechanism::Mechanism;
use pki::artefact::{Signature, ToBeSigned};
use pki::crypto;
use pki::key::{PublicKey, SignatureAlgorithm};
use pki::name::KeyUri;

use super::error::TokenError;
use super::object::{Found, KeyName, Kind};
use super::origin::KeyOrigin;
use super::token::{SIGN_WAIT, Token};
use crate::signer::{SignError, Signer};

/// A private key in a token. It keeps its token open.
pub struct TokenSigner {
    token: Arc<Token>,
    name: KeyName,
    public_key: PublicKey,
    origin: KeyOrigin,
}

impl TokenSigner {
    pub(super) fn new(token: Arc<Token>, found: Found) -> Self {
        Self {
            token,
            name: KeyName {
                kind: Kind::Private,
                uri: found.uri,
            },
            public_key: found.public_key,
            origin: found.origin,
        }
    }

    /// The key's name: its token as it was named when it was opened, and the key's own label and id.
    #[must_use]
    pub fn uri(&self) -> &KeyUri {
        &self.name.uri
    }

    /// Where the key came from, as the token said when it was found.
    #[must_use]
    pub fn origin(&self) -> KeyOrigin {
        self.origin
    }

    /// The token that it is in.
    #[must_use]
    pub fn token(&self) -> &Arc<Token> {
        &self.token
    }
}

impl Signer for TokenSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn may_block(&self) -> bool {
        true
    }

    /// Waits no longer than [`SIGN_WAIT`].
    fn sign(&self, to_be_signed: &ToBeSigned) -> Result<Signature, SignError> {
        let algorithm = to_be_signed.algorithm();
        if algorithm != self.public_key.algorithm().signs_with() {
            return Err(SignError::Algorithm);
        }
        // Hashed here: not every token has the mechanisms that hash, and what goes in stays short.
        let digest = match algorithm {
            SignatureAlgorithm::EcdsaSha256 => crypto::sha256(to_be_signed.bytes()).to_vec(),
            SignatureAlgorithm::EcdsaSha384 => crypto::sha384(to_be_signed.bytes()),
            _ => return Err(SignError::Algorithm),
        };
        let name = self.name.clone();
        let halves = self.token.call(SIGN_WAIT, move |link| {
            let key = link.handle(&name)?;
            Ok(link.session.sign(&Mechanism::Ecdsa, key, &digest)?)
        })?;
        Signature::from_ecdsa_halves(&halves)
            .ok_or_else(|| SignError::Token("what it gave is no ECDSA signature".to_owned()))
    }
}

impl From<TokenError> for SignError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Late { .. } => Self::Late,
            error => Self::Token(error.chain()),
        }
    }
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenSigner({} {:?})", self.name.uri, self.public_key)
    }
}
