//! A token that is open, and what can be asked of it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::slot::{Slot, TokenInfo};
use pki::key::KeyAlgorithm;
use pki::name::{KeyUri, TokenDescription};
use zeroize::Zeroizing;

use super::error::{CallFault, Fault, TokenError, TokenName};
use super::library::Library;
use super::object::{KeyName, Kind};
use super::origin::KeyOrigin;
use super::pin::Pin;
use super::session::{Access, Credentials, Link, describe, find_token};
use super::signer::TokenSigner;
use super::worker::{Pool, RESTART_PAUSE_MAX};

/// The most sessions that a token is opened with.
pub const MAX_SESSIONS: usize = 64;
/// How long a signature is waited for: less than a caller of `ca-server` waits, so that the reason gets through.
pub const SIGN_WAIT: Duration = Duration::from_secs(4);
/// How long opening a token may take.
pub const OPEN_WAIT: Duration = Duration::from_secs(15);
/// How long making or finding a key may take.
pub const WORK_WAIT: Duration = Duration::from_secs(30);

/// An open token, logged in, with a few threads that each have a session. Dropping it closes the sessions.
pub struct Token {
    pool: Pool,
    /// Names the token, not a key, and not by its slot alone.
    uri: KeyUri,
    description: Description,
    /// Held while a key is made, so that two do not get one label.
    making: Mutex<()>,
}

/// [`TokenDescription`], kept.
struct Description {
    name: TokenName,
    manufacturer: String,
    model: String,
    slot_id: u64,
}

impl Token {
    /// Opens the one token of `module` that fits `uri` (a key in it does not matter), logs in, and starts `sessions`
    /// threads (at least one, at most [`MAX_SESSIONS`], and no more than the token has sessions for).
    ///
    /// The module's path is absolute; the file and the folders above it belong to root or this user, and nobody else
    /// may write there (a sticky folder aside). Two tokens of one module may be open, and one token twice; the login is the
    /// process's, so the second PIN for one token is not asked.
    ///
    /// # Errors
    /// When the module is refused or does not load, none or several tokens fit, the PIN is refused or would be
    /// the last try, or it all takes longer than [`OPEN_WAIT`]. A PIN that was refused is not tried again.
    pub fn open(
        module: &Path,
        uri: &KeyUri,
        pin: Pin,
        sessions: usize,
    ) -> Result<Arc<Self>, TokenError> {
        let until = Instant::now() + OPEN_WAIT;
        let (library, description) = locate(module, uri, until)?;
        // From here on the token is known by what stays the same in another slot.
        let uri = match uri.token_alone() {
            by_slot if by_slot.is_by_slot_alone() => {
                KeyUri::of_token(&description.name.label, &description.name.serial)?
            }
            named => named,
        };
        let credentials = Credentials::new(uri.clone(), pin);
        let sessions = sessions.clamp(1, MAX_SESSIONS);
        Ok(Arc::new(Self {
            pool: Pool::start(library, credentials, sessions, until)?,
            uri,
            description,
            making: Mutex::new(()),
        }))
    }

    /// Makes a key: sensitive, not extractable, under a fresh id, and shows that it works (a canary).
    ///
    /// # Errors
    /// When the label is taken or cannot stand in a URI, or the token does not make such keys. After
    /// [`TokenError::Late`] or [`TokenError::Away`] the key may be there all the same.
    pub fn generate(
        self: &Arc<Self>,
        label: &str,
        algorithm: KeyAlgorithm,
    ) -> Result<TokenSigner, TokenError> {
        let wanted = self.uri.with_key(Some(label), None)?;
        let made = {
            let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            self.pool.call(WORK_WAIT, Access::Write, move |link| {
                link.generate(&wanted, algorithm)
            })?
        };
        self.find(&made)
    }

    /// Finds a private key by its label, its id or both.
    ///
    /// # Errors
    /// When `uri` names another token or no key, none or several keys fit, its public half is not in the token or not
    /// on P-256 or P-384, or it wants its PIN for each signature.
    pub fn find(self: &Arc<Self>, uri: &KeyUri) -> Result<TokenSigner, TokenError> {
        let wanted = self.own(uri)?;
        let found = self.call(WORK_WAIT, move |link| link.find(&wanted))?;
        Ok(TokenSigner::new(Arc::clone(self), found))
    }

    /// Makes a secret of 32 octets that never leaves the token, for [`Token::hmac`]. Its URI comes back.
    ///
    /// # Errors
    /// When the label is taken or cannot stand in a URI, or the token does not make such secrets.
    pub fn generate_secret(&self, label: &str) -> Result<KeyUri, TokenError> {
        let wanted = self.uri.with_key(Some(label), None)?;
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.pool.call(WORK_WAIT, Access::Write, move |link| {
            link.generate_secret(&wanted)
        })
    }

    /// Finds a secret by its label, its id or both: its exact URI, and where it came from.
    ///
    /// # Errors
    /// When `uri` names another token or no key, or none or several secrets fit.
    pub fn find_secret(&self, uri: &KeyUri) -> Result<(KeyUri, KeyOrigin), TokenError> {
        let wanted = self.own(uri)?;
        self.call(WORK_WAIT, move |link| link.find_secret(&wanted))
    }

    /// A key derived from a secret in the token: HMAC-SHA256 of `context` under it (RFC 5869's expansion, one block).
    ///
    /// HMAC under a uniform secret of 32 octets is a pseudo-random function, so keys of different contexts have nothing to
    /// do with each other, and a key that gets out gives away neither the secret nor the others. It is as safe
    /// as the token's PIN: whoever is logged in can have any context's key, as whoever is logged in can have anything
    /// signed. Hence a secret for this alone, one context for each use, and a refusal of secrets that can leave the token.
    ///
    /// # Errors
    /// As [`Token::find_secret`], and when the secret can leave the token or the token has no CKM_SHA256_HMAC.
    pub fn hmac(&self, uri: &KeyUri, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, TokenError> {
        let (uri, origin) = self.find_secret(uri)?;
        if !origin.cannot_leave() {
            return Err(TokenError::Extractable(Box::new(uri)));
        }
        let name = KeyName {
            kind: Kind::Secret,
            uri,
        };
        let context = context.to_vec();
        let bytes = self.call(WORK_WAIT, move |link| {
            let secret = link.handle(&name)?;
            let mac = link
                .session
                .sign(&Mechanism::Sha256Hmac, secret, &context)?;
            Ok(Zeroizing::new(mac))
        })?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(TokenError::Refused(CallFault(Error::InvalidValue)));
        }
        key.copy_from_slice(&bytes);
        Ok(key)
    }

    /// How many sessions it has, which is how many signatures it makes at a time.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.pool.sessions()
    }

    /// The token's label and serial number.
    #[must_use]
    pub fn name(&self) -> &TokenName {
        &self.description.name
    }

    /// The token's URI, without a key and without the module.
    #[must_use]
    pub fn uri(&self) -> &KeyUri {
        &self.uri
    }

    pub(super) fn call<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl Fn(&mut Link) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, TokenError> {
        self.pool.call(deadline, Access::Read, work)
    }

    /// The key that `uri` names, which is in this token, under this token's own name.
    fn own(&self, uri: &KeyUri) -> Result<KeyUri, TokenError> {
        if uri.is_of(&self.description.borrow()) {
            Ok(self.uri.with_key(uri.object(), uri.id())?)
        } else {
            Err(TokenError::OtherToken {
                uri: Box::new(uri.clone()),
                token: self.description.name.clone(),
            })
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.description.name)
    }
}

impl Description {
    fn of(slot: Slot, info: &TokenInfo) -> Self {
        let token = describe(slot, info);
        Self {
            name: TokenName {
                label: token.label.to_owned(),
                serial: token.serial.to_owned(),
            },
            manufacturer: token.manufacturer.to_owned(),
            model: token.model.to_owned(),
            slot_id: token.slot_id,
        }
    }

    fn borrow(&self) -> TokenDescription<'_> {
        TokenDescription {
            label: &self.name.label,
            manufacturer: &self.manufacturer,
            model: &self.model,
            serial: &self.name.serial,
            slot_id: self.slot_id,
        }
    }
}

/// Loads the module and finds the token in it, on a thread of its own, because either may hang.
fn locate(
    module: &Path,
    uri: &KeyUri,
    until: Instant,
) -> Result<(Arc<Library>, Description), TokenError> {
    let (module, uri) = (module.to_path_buf(), uri.clone());
    let (answer, wait) = mpsc::sync_channel(1);
    let locate = move || {
        let library = Library::load(&module)?;
        let description = look(&library, &uri, until)?;
        Ok((library, description))
    };
    thread::Builder::new()
        .name("pkcs11-open".to_owned())
        .spawn(move || answer.send(locate()))
        .map_err(|_| TokenError::NoResources)?;
    let left = until.saturating_duration_since(Instant::now());
    wait.recv_timeout(left)
        .unwrap_or(Err(TokenError::Late { waited: OPEN_WAIT }))
}

fn look(library: &Library, uri: &KeyUri, until: Instant) -> Result<Description, TokenError> {
    let mut is_fresh = false;
    loop {
        let late = TokenError::Late { waited: OPEN_WAIT };
        let inside = library.enter(until).ok_or(late)?;
        let generation = inside.generation();
        let found =
            find_token(inside.pkcs11(), uri).map(|(slot, info)| Description::of(slot, &info));
        drop(inside);
        match found {
            // A module that was loaded long ago may not have noticed a token that came since. Whoever tries again and
            // again to open a token that is not there shall not end the sessions of the others each time.
            Err(Fault::Trouble(_))
                if !is_fresh && !library.was_restarted_within(RESTART_PAUSE_MAX) =>
            {
                library.restart(generation, until)?;
            }
            result => return result.map_err(Fault::into_error),
        }
        is_fresh = true;
    }
}
