//! Keys in a real token: SoftHSM2, with OpenSC's pkcs11-tool and OpenSSL as the other side.
#![cfg(feature = "pkcs11")]
#![expect(
    clippy::unwrap_used,
    reason = "what the harness cannot do ends the test"
)]

mod harness;
mod hostile;
mod keys;
mod pins;
mod recovery;
mod tokens;
