//! OCSP requests, as anyone on the network sends them: by POST, and by GET in a path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pki::ocsp::{MAX_CERTIFICATES, OcspRequest, request_of_path};

fuzz_target!(|data: &[u8]| {
    let by_path = std::str::from_utf8(data).ok().map(request_of_path);
    let by_path = by_path.and_then(Result::ok);
    for der in [Some(data), by_path.as_deref()].into_iter().flatten() {
        let Ok(request) = OcspRequest::parse(der) else {
            continue;
        };
        let certificates = request.certificates();
        assert!((1..=MAX_CERTIFICATES).contains(&certificates.len()));
        assert!(request.nonce().is_none_or(|nonce| (1..=128).contains(&nonce.len())));
        for id in certificates {
            // What is asked goes into the answer as it came.
            assert!(der.windows(id.der().len()).any(|window| window == id.der()));
        }
    }
});
