//! The tokens that the configuration names, and the keys in them.
//!
//! A token may be away when the server starts, or later, for hours. Nothing waits for it: its keys are not ready until
//! [`TokenKey::try_out`] has had one sign a canary, and what is asked of a key that is not ready is refused at once with
//! an error that callers retry. A call that hangs in the token's module takes one of a few places, so that
//! such calls do not use up the runtime's threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use hsm::Signer;
use hsm::pkcs11::{KeyOrigin, Pin, PinFault, PinFileError, Token, TokenError, TokenSigner};
use pki::artefact::{Artefact, Prepared};
use pki::key::{KeyAlgorithm, PublicKey};
use pki::name::{AuthorityId, KeyUri};
use tokio::sync::{Mutex, Notify, Semaphore};
use zeroize::Zeroizing;

use super::signing::{SIGN_DEADLINE, failed, not_confined};
use super::{Error, ErrorKind};
use crate::config::TokenSettings;

/// Calls under way for each session: one that is in the token, and one that takes its place.
const CALLS_PER_SESSION: usize = 2;

/// The tokens that the configuration names.
#[derive(Debug)]
pub struct Tokens {
    tokens: Vec<Arc<NamedToken>>,
    require_confined: bool,
}

impl Tokens {
    /// Opens nothing yet. With `require_confined` keys sign only when their token says that they were made in it and
    /// cannot leave it.
    #[must_use]
    pub fn new(settings: &[TokenSettings], require_confined: bool) -> Self {
        let tokens = settings.iter().cloned().map(NamedToken::new);
        Self {
            tokens: tokens.map(Arc::new).collect(),
            require_confined,
        }
    }

    /// Whether keys have to be confined to a token.
    #[must_use]
    pub fn require_confined(&self) -> bool {
        self.require_confined
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<NamedToken>> {
        self.tokens.iter()
    }

    /// The token of this label.
    ///
    /// # Errors
    /// When the configuration names none such.
    pub fn labelled(&self, label: &str) -> Result<&Arc<NamedToken>, Error> {
        let found = self.tokens.iter().find(|token| token.label() == label);
        found.ok_or_else(|| {
            let text = format!("the configuration has no [[token]] labelled {label:?}");
            Error::new(ErrorKind::NotFound, "token", text)
        })
    }

    /// The token that a key's URI names.
    ///
    /// # Errors
    /// When the configuration names none such.
    pub fn of(&self, uri: &KeyUri) -> Result<&Arc<NamedToken>, Error> {
        self.labelled(uri.token().unwrap_or_default())
    }

    /// An authority's key; `None` where the configuration does not name its token.
    pub(super) fn key(
        &self,
        authority: &AuthorityId,
        uri: &KeyUri,
        public_key: PublicKey,
    ) -> Option<Arc<TokenKey>> {
        Some(Arc::new(TokenKey {
            authority: authority.clone(),
            public_key,
            uri: uri.clone(),
            token: self.of(uri).ok()?.clone(),
            require_confined: self.require_confined,
            signer: OnceLock::new(),
            ready: AtomicBool::new(false),
        }))
    }
}

/// A token that the configuration names. It is opened once, when it can be, and comes back by itself after that.
pub struct NamedToken {
    settings: TokenSettings,
    open: OnceLock<Arc<Token>>,
    /// Held by whoever opens it. A PIN that was refused is not given again: it could lock the token for good.
    opening: Mutex<Option<PinFault>>,
    calls: Arc<Semaphore>,
    wanted: Notify,
}

impl NamedToken {
    fn new(settings: TokenSettings) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(settings.sessions * CALLS_PER_SESSION)),
            settings,
            open: OnceLock::new(),
            opening: Mutex::new(None),
            wanted: Notify::new(),
        }
    }

    /// Its label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.settings.label
    }

    /// What the configuration says of it.
    #[must_use]
    pub fn settings(&self) -> &TokenSettings {
        &self.settings
    }

    /// Wakes when a key of it has failed, so that it is tried out at once.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The token, opened if it was not.
    ///
    /// # Errors
    /// When it is away, its module is refused, or its PIN is, now or before.
    pub async fn open(&self) -> Result<Arc<Token>, Error> {
        if let Some(token) = self.open.get() {
            return Ok(token.clone());
        }
        let mut refused = self.opening.lock().await;
        if let Some(token) = self.open.get() {
            return Ok(token.clone());
        }
        if let Some(fault) = *refused {
            return Err(self.away(&TokenError::Pin(fault)));
        }
        let settings = self.settings.clone();
        let opened = tokio::task::spawn_blocking(move || open(settings));
        let token = match opened.await.map_err(Error::internal)? {
            Ok(token) => token,
            Err(OpenError::PinFile(error)) => {
                let file = self.settings.pin_file.display();
                let text = format!("token {}: {file}", self.label());
                return Err(Error::new(ErrorKind::Unavailable, "token", text).because(error));
            }
            Err(OpenError::Token(error)) => {
                if let TokenError::Pin(fault) = &error {
                    *refused = Some(*fault);
                }
                return Err(self.away(&error));
            }
        };
        Ok(self.open.get_or_init(|| token).clone())
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When the token is away, has a key of this label already, or does not make such keys.
    pub async fn generate(
        &self,
        label: &str,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<TokenSigner>, Error> {
        let wanted = label.to_owned();
        let made = self.call(move |token| token.generate(&wanted, algorithm));
        made.await.map(Arc::new)
    }

    /// Finds a key.
    ///
    /// # Errors
    /// When the token is away, or none or several fit.
    pub async fn find(&self, uri: &KeyUri) -> Result<Arc<TokenSigner>, Error> {
        let uri = uri.clone();
        self.call(move |token| token.find(&uri)).await.map(Arc::new)
    }

    /// HMAC of `message` under a secret in the token; with `make`, one that is not there yet is made.
    ///
    /// # Errors
    /// When the token is away, the secret is not there or can leave it.
    pub async fn hmac(
        &self,
        uri: &KeyUri,
        message: Vec<u8>,
        make: bool,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let uri = uri.clone();
        self.call(move |token| {
            let missing = matches!(token.find_secret(&uri), Err(TokenError::NoKey { .. }));
            if let (true, true, Some(label)) = (make, missing, uri.object()) {
                token.generate_secret(label)?;
            }
            let mac = token.hmac(&uri, &message)?;
            Ok(Zeroizing::new(mac.to_vec()))
        })
        .await
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Token>) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, Error> {
        let token = self.open().await?;
        let call = self.calls.clone().acquire_owned();
        let call = call.await.map_err(Error::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let _call = call;
            work(&token)
        });
        let done = done.await.map_err(Error::internal)?;
        done.map_err(|error| self.away(&error))
    }

    fn away(&self, error: &TokenError) -> Error {
        let text = format!("token {}: {}", self.label(), error.chain());
        match error {
            TokenError::LabelTaken { .. }
            | TokenError::NoKey { .. }
            | TokenError::SeveralKeys { .. }
            | TokenError::Extractable(_)
            | TokenError::Algorithm(_) => Error::new(ErrorKind::Conflict, "token", text),
            _ => Error::new(ErrorKind::Unavailable, "token", text),
        }
    }
}

enum OpenError {
    PinFile(PinFileError),
    Token(TokenError),
}

fn open(settings: TokenSettings) -> Result<Arc<Token>, OpenError> {
    let TokenSettings {
        uri,
        module,
        pin_file,
        sessions,
        ..
    } = settings;
    let (pin, mode) = Pin::from_file(&pin_file).map_err(OpenError::PinFile)?;
    if mode & 0o007 != 0 {
        tracing::warn!(
            file = %pin_file.display(),
            mode = format!("{mode:o}"),
            "every user of this machine may read the PIN: chmod 600"
        );
    }
    Token::open(&module, &uri, pin, sessions).map_err(OpenError::Token)
}

impl std::fmt::Debug for NamedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NamedToken({})", self.label())
    }
}

/// An authority's key in a token, to be found there once the token is open.
#[derive(Debug)]
pub struct TokenKey {
    authority: AuthorityId,
    public_key: PublicKey,
    uri: KeyUri,
    token: Arc<NamedToken>,
    require_confined: bool,
    signer: OnceLock<Arc<TokenSigner>>,
    ready: AtomicBool,
}

impl TokenKey {
    /// Whose it is.
    #[must_use]
    pub fn authority(&self) -> &AuthorityId {
        &self.authority
    }

    /// The token that holds it.
    #[must_use]
    pub fn token(&self) -> &Arc<NamedToken> {
        &self.token
    }

    /// Whether its latest signature, canaries counted in, was a success.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Finds it, if it was not found yet, and has it sign a canary. It is ready if that succeeds.
    ///
    /// # Errors
    /// When the token is away or late, the key is not there or is another one, or has to be confined to the token and is
    /// not.
    pub async fn try_out(&self) -> Result<(), Error> {
        let result = async {
            let signer = self.found().await?;
            let canary = self.token.call(move |_| Ok(hsm::canary(&*signer)));
            canary.await?.map_err(|error| {
                let text = format!("token {}", self.token.label());
                Error::new(ErrorKind::Unavailable, "token", text).because(error)
            })
        }
        .await;
        self.ready.store(result.is_ok(), Ordering::Release);
        result
    }

    async fn found(&self) -> Result<Arc<TokenSigner>, Error> {
        if let Some(signer) = self.signer.get() {
            return Ok(signer.clone());
        }
        let signer = self.token.find(&self.uri).await?;
        if signer.public_key() != &self.public_key {
            let text = format!(
                "{} is not the key that {} was requested with",
                self.uri, self.authority
            );
            return Err(Error::new(ErrorKind::Conflict, "key", text));
        }
        if self.require_confined {
            check_confined(&self.uri, signer.origin())?;
        }
        Ok(self.signer.get_or_init(|| signer).clone())
    }

    /// Signs and seals within [`SIGN_DEADLINE`].
    pub(super) async fn seal<T: Artefact + Send + 'static>(
        &self,
        prepared: Prepared<T>,
    ) -> Result<T, Error> {
        let (true, Some(signer)) = (self.is_ready(), self.signer.get().cloned()) else {
            let text = format!(
                "the token that holds the key of {} is away, try again",
                self.authority
            );
            return Err(Error::new(ErrorKind::Unavailable, "token", text));
        };
        let work = async {
            let call = self.token.calls.clone().acquire_owned();
            let call = call.await.map_err(Error::internal)?;
            let signed = tokio::task::spawn_blocking(move || {
                let _call = call;
                let signature = signer.sign(prepared.to_be_signed())?;
                Ok(prepared.seal(&signature).map_err(Error::internal))
            });
            signed.await.map_err(Error::internal)?.map_err(|error| {
                // Until it is seen to work again, who asks is told so at once.
                self.ready.store(false, Ordering::Release);
                self.token.wanted.notify_one();
                failed(error)
            })?
        };
        tokio::time::timeout(SIGN_DEADLINE, work)
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Unavailable,
                    "signer",
                    "the signer is late, try again",
                ))
            })
    }
}

/// Refuses a key that may be or have been elsewhere.
///
/// # Errors
/// When its token does not say that it was made there, cannot leave and never could.
pub fn check_confined(uri: &KeyUri, origin: KeyOrigin) -> Result<(), Error> {
    if origin.is_confined() {
        return Ok(());
    }
    Err(not_confined(&format!("the key {uri} was {origin}")))
}
