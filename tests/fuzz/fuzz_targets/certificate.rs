//! Certificates: those of a client's handshake, an import, a ceremony. What is read keeps its bytes, and its
//! fields can be asked without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pki::certificate::{Certificate, Issuer};

fuzz_target!(|data: &[u8]| {
    let _ = Certificate::parse_pem(data);
    let Ok(certificate) = Certificate::parse(data) else {
        return;
    };
    assert_eq!(certificate.der(), data);
    let _ = certificate.spiffe_id();
    let _ = certificate.is_valid_at(certificate.not_before());
    if let Ok(key) = certificate.public_key() {
        let _ = certificate.verify_by(&key);
    }
    let _ = Issuer::from_chain(&[certificate]);
});
