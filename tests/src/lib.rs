//! What the scenarios share: our programs as processes, databases, the foreign verifiers, and artefacts made by hand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's harness fails by panicking, where it failed"
)]

pub mod admin;
pub mod attacks;
pub mod disturbance;
pub mod envoy;
pub mod fleet;
pub mod hierarchy;
pub mod http;
pub mod inside;
pub mod istio;
pub mod judge;
pub mod lint;
pub mod load;
pub mod memory;
pub mod openssl;
pub mod parts;
pub mod postgres;
pub mod process;
pub mod requests;
pub mod softhsm;
pub mod status;
pub mod tlv;
pub mod tokens;

use pki::time::Timestamp;

/// The time.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "tests run in the present")]
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = since_epoch.expect("the clock is past 1970").as_secs();
    Timestamp::from_unix(i64::try_from(seconds).expect("the clock is before the year 292 billion"))
}

/// Chooses the TLS library's cryptography, once a process.
pub fn install_crypto_provider() {
    // A second call finds the first one's choice, which is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
