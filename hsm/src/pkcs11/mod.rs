//! Keys in PKCS#11 tokens: a token opened by its URI, and signers for the keys in it.
//!
//! A login belongs to a process and a session to a thread, so a [`Token`] logs in once and has a few threads, each with a
//! session of its own, that take work from one bounded queue. Whoever calls waits with a deadline; a module that
//! hangs holds up its thread and nobody else. A thread whose session or token is gone opens another session, and has
//! the module started anew where that does not help, as long as the caller still waits.
//!
//! A PIN is given to the token once: a token that refuses it may lock itself for good after a few tries, so a refused PIN
//! is remembered and not tried again until the token is opened anew.
//!
//! One module, once loaded, stays in the process. Its code runs with all of the process's rights, so where it lies is
//! checked ([`ModuleFault`]).

mod error;
mod library;
mod object;
mod origin;
mod pin;
mod queue;
mod session;
mod signer;
mod token;
mod worker;

pub use error::{CallFault, ModuleFault, PinFault, TokenError, TokenName};
pub use origin::KeyOrigin;
pub use pin::{Pin, PinFileError};
pub use signer::TokenSigner;
pub use token::{MAX_SESSIONS, OPEN_WAIT, SIGN_WAIT, Token, WORK_WAIT};
