//! Tokens, as any workload sends them: nothing is verified by a key that did not sign it, and no input makes the
//! parser of tokens or of key sets panic.
#![no_main]

use std::sync::LazyLock;

use ca_server::authn::token::{Jwks, UnverifiedToken};
use libfuzzer_sys::fuzz_target;

/// The public key of RFC 7517 appendix A.1. Its private half is in A.2, and no mutation finds a signature with it.
const KEY_SET: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","alg":"ES256","use":"sig",
"x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

static KEYS: LazyLock<Jwks> = LazyLock::new(|| Jwks::parse(KEY_SET.as_bytes()).expect("a key set"));

fuzz_target!(|data: &[u8]| {
    let _ = Jwks::parse(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(token) = UnverifiedToken::parse(text) {
        let _ = token.claimed_issuer();
        assert!(token.verify_with(&KEYS).is_err(), "verified without the key");
    }
});
