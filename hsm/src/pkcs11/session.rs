//! One session with a token: finding the token, opening, logging in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use pki::name::{KeyUri, TokenDescription};

use super::error::{Fault, PinFault, TokenError, TokenName};
use super::library::Inside;
use super::object::KeyName;
use super::pin::Pin;

/// How to get into one token.
pub(super) struct Credentials {
    uri: KeyUri,
    pin: Pin,
    /// The PIN's fault at the last login: there is no login any more. Held during each login, so that a wrong PIN is
    /// given once and not once a thread.
    refused: Mutex<Option<PinFault>>,
}

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// A session that is logged in. It belongs to one thread and one generation of the module, and is closed by
/// [`Link::close`] alone: closing a handle of an older generation would close somebody else's session.
pub(super) struct Link {
    pub(super) session: Session,
    pkcs11: Pkcs11,
    slot: Slot,
    generation: u64,
    access: Access,
    /// Handles of keys that were found before.
    pub(super) keys: HashMap<KeyName, ObjectHandle>,
}

impl Credentials {
    pub(super) fn new(uri: KeyUri, pin: Pin) -> Self {
        Self {
            uri,
            pin,
            refused: Mutex::new(None),
        }
    }

    /// Opens a session and logs in.
    pub(super) fn open(&self, inside: &Inside<'_>, access: Access) -> Result<Link, Fault> {
        let pkcs11 = inside.pkcs11();
        let (slot, info) = find_token(pkcs11, &self.uri)?;
        let session = match access {
            Access::Read => pkcs11.open_ro_session_no_drop(slot)?,
            Access::Write => pkcs11.open_rw_session_no_drop(slot)?,
        };
        let link = Link {
            session,
            pkcs11: pkcs11.clone(),
            slot,
            generation: inside.generation(),
            access,
            keys: HashMap::new(),
        };
        match self.log_in(&link.session, &info) {
            Ok(()) => Ok(link),
            Err(fault) => {
                link.close(inside);
                Err(fault)
            }
        }
    }

    fn log_in(&self, session: &Session, info: &TokenInfo) -> Result<(), Fault> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = *refused {
            return Err(TokenError::Pin(fault).into());
        }
        // The login is the process's: another session's is this one's too.
        if !info.login_required() || is_logged_in(session)? {
            return Ok(());
        }
        let fault = if info.user_pin_locked() {
            PinFault::Locked
        } else if info.user_pin_final_try() {
            PinFault::LastTry
        } else {
            match session.login_with_raw(UserType::User, self.pin.raw()) {
                Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => return Ok(()),
                Err(error) => PinFault::of(&error).ok_or(error)?,
            }
        };
        *refused = Some(fault);
        Err(TokenError::Pin(fault).into())
    }
}

impl Link {
    /// Whether it is of this generation of the module and may do this much.
    pub(super) fn serves(&self, inside: &Inside<'_>, access: Access) -> bool {
        self.generation == inside.generation()
            && (self.access == access || self.access == Access::Write)
    }

    /// Says something to the token, which logs out whoever is silent, and notices when it is gone.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let info = self.pkcs11.get_token_info(self.slot)?;
        if info.login_required() && !is_logged_in(&self.session)? {
            return Err(Error::Pkcs11(RvError::UserNotLoggedIn, Function::GetSessionInfo).into());
        }
        Ok(())
    }

    /// Closes the session, where it still is one.
    pub(super) fn close(self, inside: &Inside<'_>) {
        if self.generation == inside.generation() {
            // What cannot be closed is gone.
            let _ = self.session.close();
        }
    }
}

/// The one token that fits.
pub(super) fn find_token(pkcs11: &Pkcs11, uri: &KeyUri) -> Result<(Slot, TokenInfo), Fault> {
    let slots = pkcs11.get_slots_with_token()?;
    let tokens: Vec<(Slot, TokenInfo)> = slots
        .into_iter()
        // A slot whose token is just being pulled out says an error, and is no reason to miss the others.
        .filter_map(|slot| Some((slot, pkcs11.get_token_info(slot).ok()?)))
        .filter(|(_, info)| info.token_initialized())
        .collect();
    let mut fitting = tokens
        .iter()
        .filter(|(slot, info)| uri.is_of(&describe(*slot, info)));
    match (fitting.next(), fitting.count()) {
        (Some(token), 0) => Ok(token.clone()),
        (Some(_), _) => Err(Fault::Final(TokenError::SeveralTokens {
            uri: Box::new(uri.clone()),
            present: tokens.iter().map(name).collect(),
        })),
        // Trouble: it may be there again when the module looks again.
        (None, _) => Err(Fault::Trouble(TokenError::NoToken {
            uri: Box::new(uri.clone()),
            present: tokens.iter().map(name).collect(),
        })),
    }
}

/// What the token says of itself.
pub(super) fn describe(slot: Slot, info: &TokenInfo) -> TokenDescription<'_> {
    TokenDescription {
        label: info.label(),
        manufacturer: info.manufacturer_id(),
        model: info.model(),
        serial: info.serial_number(),
        slot_id: slot.id(),
    }
}

fn name((_, info): &(Slot, TokenInfo)) -> TokenName {
    TokenName {
        label: info.label().to_owned(),
        serial: info.serial_number().to_owned(),
    }
}

fn is_logged_in(session: &Session) -> Result<bool, Error> {
    let state = session.get_session_info()?.session_state();
    Ok(matches!(state, SessionState::RoUser | SessionState::RwUser))
}
