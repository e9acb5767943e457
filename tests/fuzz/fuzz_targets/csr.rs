//! Requests, as any workload sends them: DER, and the PEM around it. No accepted request asks for an authority and
//! gets it, and no identity but the caller's comes out of policy.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pki::csr::{Csr, MAX_REQUEST_BYTES, VerifiedCsr};
use pki::name::{SpiffeId, TrustDomain};
use pki::policy::{AskedTtl, ClusterPolicy, Identity, decide};
use pki::profile::Profile;
use pki::time::Ttl;

const ME: &str = "spiffe://td/ns/a/sa/b";

static POLICY: LazyLock<ClusterPolicy> = LazyLock::new(|| ClusterPolicy {
    trust_domain: TrustDomain::parse("td").expect("a trust domain"),
    default_ttl: Ttl::hours(24),
    max_ttl: Ttl::days(7),
    strict: false,
    rules: vec![],
});

fuzz_target!(|data: &[u8]| {
    let _ = pki::pem::read_request(data);
    if Csr::parse(data).is_ok() {
        assert!(data.len() <= MAX_REQUEST_BYTES);
    }
    let Ok(csr) = VerifiedCsr::parse(data) else {
        return;
    };
    let me = Identity::Exactly(SpiffeId::parse(ME).expect("a SPIFFE id"));
    if let Ok(grant) = decide(&POLICY, &me, Profile::WORKLOAD, &csr, AskedTtl::Default) {
        assert!(!csr.asks_for_authority());
        assert_eq!(grant.names.to_strings(), [format!("URI:{ME}")]);
    }
});
