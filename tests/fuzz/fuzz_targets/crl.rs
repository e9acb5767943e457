//! CRLs: those that an edge or a root brings. What is read keeps its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pki::crl::Crl;

fuzz_target!(|data: &[u8]| {
    if let Ok(crl) = Crl::parse(data) {
        assert_eq!(crl.der(), data);
        let _ = (crl.number(), crl.next_update(), crl.revoked().len());
    }
});
