//! SPIFFE ids and the patterns of policies: what parses is printed as it was, and an id fits itself alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pki::name::{SpiffeId, SpiffePattern, TrustDomain};

fuzz_target!(|text: &str| {
    let _ = TrustDomain::parse(text);
    if let Ok(pattern) = SpiffePattern::parse(text) {
        assert_eq!(pattern.to_string(), text);
        let _ = pattern.trust_domain();
    }
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.to_string(), text);
        assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        assert!(id.is_in(&id.trust_domain()));
        assert!(SpiffePattern::exactly(&id).matches(&id));
    }
});
