//! What can be wrong with a token, in words that say what to do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cryptoki::error::{Error, RvError};
use pki::key::{KeyAlgorithm, KeyError};
use pki::name::{KeyUri, KeyUriError};

/// Why a token, or a key in it, was not of use. No PIN and no key is ever in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// A kind of key that is not made or used in tokens.
    #[error("{0} keys are not used in tokens: P-256 and P-384 are")]
    Algorithm(KeyAlgorithm),
    /// A key that wants its PIN for every signature.
    #[error(
        "the key {0} asks for its PIN at each signature (CKA_ALWAYS_AUTHENTICATE), which is not done here"
    )]
    AlwaysAuthenticates(Box<KeyUri>),
    /// The token was there and does not answer.
    #[error(
        "the token does not answer: it was taken away, reset or logged out, and is tried again"
    )]
    Away(#[source] CallFault),
    /// More work waits than the token does before anybody's deadline.
    #[error("{waiting} calls wait for the token already: try again later")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// A secret that can leave the token.
    #[error(
        "the secret {0} can leave its token: it has to be sensitive and not extractable, make another"
    )]
    Extractable(Box<KeyUri>),
    /// The token is being closed.
    #[error("the token was closed")]
    Closed,
    /// A key with this label is there already.
    #[error("the token has a key {label:?} already: choose another label, or find that key")]
    LabelTaken {
        /// The label.
        label: String,
    },
    /// No answer in time.
    #[error("the token did not answer within {} s", waited.as_secs_f32())]
    Late {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The module was not loaded.
    #[error("the PKCS#11 module is not loaded")]
    Module(#[from] ModuleFault),
    /// No key fits.
    #[error("no {what} in the token fits {uri}: list what is there with pkcs11-tool -O --login")]
    NoKey {
        /// What was looked for: a private key, a secret key.
        what: &'static str,
        /// The URI.
        uri: Box<KeyUri>,
    },
    /// The key's public half is not in the token.
    #[error(
        "the token does not show the public half of {0}: store it beside the key, under the same id"
    )]
    NoPublicKey(Box<KeyUri>),
    /// The system gives no randomness, or no thread.
    #[error("the system gives no randomness or no thread")]
    NoResources,
    /// No token fits.
    #[error("no token fits {uri}; {}", there_is(present))]
    NoToken {
        /// The URI.
        uri: Box<KeyUri>,
        /// What is there.
        present: Vec<TokenName>,
    },
    /// A URI of a key in another token.
    #[error("{uri} is not in this token, {token}")]
    OtherToken {
        /// The URI.
        uri: Box<KeyUri>,
        /// The token.
        token: TokenName,
    },
    /// The login failed.
    #[error("the login to the token failed")]
    Pin(#[from] PinFault),
    /// The public half is not a key that we use.
    #[error("the public half of {uri} is not acceptable")]
    PublicKey {
        /// The key.
        uri: Box<KeyUri>,
        /// Why.
        #[source]
        error: KeyError,
    },
    /// A call was refused for another reason than the token's state.
    #[error("the token refused a call")]
    Refused(#[source] CallFault),
    /// More than one key fits.
    #[error("{found} keys in the token fit {uri}: name one by its label and its id")]
    SeveralKeys {
        /// The URI.
        uri: Box<KeyUri>,
        /// How many.
        found: usize,
    },
    /// More than one token fits.
    #[error(
        "several tokens fit {uri}: name one by its serial number; {}",
        there_is(present)
    )]
    SeveralTokens {
        /// The URI.
        uri: Box<KeyUri>,
        /// What is there.
        present: Vec<TokenName>,
    },
    /// A name that cannot stand in a URI.
    #[error("the key's name cannot stand in a PKCS#11 URI")]
    Uri(#[from] KeyUriError),
}

impl TokenError {
    /// Its words and those of its causes, for where an error is told as text.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut words = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            words.push_str(": ");
            words.push_str(&error.to_string());
            cause = error.source();
        }
        words
    }
}

/// A token as a person tells it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenName {
    /// Its label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (serial {})", self.label, self.serial)
    }
}

fn there_is(present: &[TokenName]) -> String {
    if present.is_empty() {
        return "the module shows no token at all".to_owned();
    }
    let names: Vec<String> = present.iter().map(TokenName::to_string).collect();
    format!("there is {}", names.join(", "))
}

/// Why a login failed. None of these is tried again: it could lock the token for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinFault {
    /// The PIN has to be changed first.
    #[error("the token's PIN has expired: change it with pkcs11-tool --change-pin")]
    Expired,
    /// One more wrong PIN locks the token.
    #[error(
        "the token would lock after one more wrong PIN, so the last try is left to you: log in by hand (pkcs11-tool --login -O), then start again"
    )]
    LastTry,
    /// The token takes no PIN any more.
    #[error(
        "the token has locked its PIN: its security officer unlocks it with pkcs11-tool --init-pin"
    )]
    Locked,
    /// The token has no PIN yet.
    #[error(
        "the token has no user PIN yet: its security officer sets one with pkcs11-tool --init-pin"
    )]
    NotSet,
    /// The token refused it.
    #[error(
        "the token refused the PIN, which is not tried again until the program starts anew: check the PIN's file"
    )]
    Wrong,
}

impl PinFault {
    /// What a failed login means, where it is the PIN's fault.
    pub(super) fn of(error: &Error) -> Option<Self> {
        let Error::Pkcs11(value, _) = error else {
            return None;
        };
        match value {
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => Some(Self::Wrong),
            RvError::PinLocked => Some(Self::Locked),
            RvError::PinExpired => Some(Self::Expired),
            RvError::UserPinNotInitialized => Some(Self::NotSet),
            _ => None,
        }
    }
}

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleFault {
    /// It does not begin to work.
    #[error("{path} does not start as a PKCS#11 module")]
    Broken {
        /// The module.
        path: PathBuf,
        /// Why.
        #[source]
        error: CallFault,
    },
    /// Not to be had.
    #[error("{path} cannot be read")]
    Io {
        /// The module.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// A directory, or something else.
    #[error("{path} is not a plain file")]
    NotAFile {
        /// The module.
        path: PathBuf,
    },
    /// Somebody else owns it, or what it lies in.
    #[error(
        "{path} belongs to user {owner}: what runs with this program's rights has to be root's or its own user's"
    )]
    Owner {
        /// The module, or a directory above it.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
    },
    /// A path that depends on the working directory.
    #[error("{path} is not an absolute path")]
    Relative {
        /// The module.
        path: PathBuf,
    },
    /// Others may change it, or what it lies in.
    #[error(
        "{path} may be written by others (mode {mode:04o}): whoever can change it runs code with this program's rights; chmod go-w it"
    )]
    Writable {
        /// The module, or a directory above it.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// What a module answered to a call, in the standard's words.
#[derive(Debug)]
pub struct CallFault(pub(super) Error);

impl fmt::Display for CallFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // The crate's own words are paragraphs of the standard.
            Error::Pkcs11(value, function) => write!(f, "C_{function:?} answered {value:?}"),
            Error::LibraryLoading(error) => error.fmt(f),
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for CallFault {}

/// A failed piece of work: whether another session may do better.
#[derive(Debug)]
pub(super) enum Fault {
    /// The same would happen again.
    Final(TokenError),
    /// The session or the token is gone.
    Trouble(TokenError),
}

impl Fault {
    pub(super) fn into_error(self) -> TokenError {
        match self {
            Self::Final(error) | Self::Trouble(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if is_trouble(&error) {
            Self::Trouble(TokenError::Away(CallFault(error)))
        } else {
            Self::Final(TokenError::Refused(CallFault(error)))
        }
    }
}

impl From<TokenError> for Fault {
    fn from(error: TokenError) -> Self {
        Self::Final(error)
    }
}

/// Whether it says that the session, the login, an object's handle, the token or the module is gone, all of which
/// another session may have again.
fn is_trouble(error: &Error) -> bool {
    use RvError as E;
    let Error::Pkcs11(value, _) = error else {
        return false;
    };
    matches!(
        value,
        E::CryptokiNotInitialized
            | E::DeviceError
            | E::DeviceMemory
            | E::DeviceRemoved
            | E::FunctionFailed
            | E::GeneralError
            | E::HostMemory
            | E::KeyHandleInvalid
            | E::ObjectHandleInvalid
            | E::OperationActive
            | E::OperationNotInitialized
            | E::SessionClosed
            | E::SessionHandleInvalid
            | E::SlotIdInvalid
            | E::TokenNotPresent
            | E::TokenNotRecognized
            | E::UserNotLoggedIn
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::context::Function;

    #[test]
    fn a_pins_fault_is_never_trouble_that_is_tried_again() {
        for (value, fault) in [
            (RvError::PinIncorrect, PinFault::Wrong),
            (RvError::PinLenRange, PinFault::Wrong),
            (RvError::PinLocked, PinFault::Locked),
            (RvError::PinExpired, PinFault::Expired),
            (RvError::UserPinNotInitialized, PinFault::NotSet),
        ] {
            let error = Error::Pkcs11(value, Function::Login);
            assert_eq!(PinFault::of(&error), Some(fault));
            assert!(!is_trouble(&error));
        }
        let gone = Error::Pkcs11(RvError::DeviceRemoved, Function::Sign);
        assert_eq!(PinFault::of(&gone), None);
        assert!(matches!(Fault::from(gone), Fault::Trouble(_)));
        let refused = Error::Pkcs11(RvError::MechanismInvalid, Function::SignInit);
        assert!(matches!(Fault::from(refused), Fault::Final(_)));
    }

    #[test]
    fn a_calls_answer_is_told_in_the_standards_words() {
        let error = Fault::from(Error::Pkcs11(RvError::DeviceRemoved, Function::SignInit));
        assert_eq!(
            error.into_error().chain(),
            "the token does not answer: it was taken away, reset or logged out, and is tried again: C_SignInit answered DeviceRemoved"
        );
    }

    #[test]
    fn a_missing_token_is_told_with_what_there_is() {
        let uri = KeyUri::parse("pkcs11:token=ca").unwrap();
        let named = |label: &str| TokenName {
            label: label.to_owned(),
            serial: "12".to_owned(),
        };
        let error = TokenError::NoToken {
            uri: Box::new(uri.clone()),
            present: vec![named("a"), named("b\n")],
        };
        assert_eq!(
            error.to_string(),
            r#"no token fits pkcs11:token=ca; there is "a" (serial 12), "b\n" (serial 12)"#
        );
        let none = TokenError::NoToken {
            uri: Box::new(uri),
            present: Vec::new(),
        };
        assert!(none.to_string().ends_with("no token at all"));
    }
}
