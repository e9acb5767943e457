//! PKCS#11 URIs: what parses is printed as the same, and a PIN is refused without being repeated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pki::name::KeyUri;

const PIN: &str = "q7q7q7q7q7";

fuzz_target!(|text: &str| {
    if let Ok(uri) = KeyUri::parse(text) {
        assert_eq!(KeyUri::parse(&uri.to_string()), Ok(uri));
    }
    for parting in ["?", "&", ";"] {
        let refused = KeyUri::parse(&format!("{text}{parting}pin-value={PIN}"));
        let said = refused.unwrap_err().to_string();
        assert!(!said.contains(PIN) || text.contains(PIN));
    }
});
