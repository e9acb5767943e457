//! The crypto floor: what a certificate costs in cryptography alone, by the library calls that the server makes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ca_server::authn::token::{TokenIssuer, TokenIssuerConfig, authenticate};
use hsm::{Signer, SoftwareSigner};
use pki::csr::{Csr, prepare_request};
use pki::key::KeyAlgorithm;
use pki::name::DistinguishedName;

use super::Calls;
use crate::tokens::TokenAuthority;

/// Times of one certificate's cryptography, measured on one thread.
pub struct Floor {
    issuers: Vec<TokenIssuer>,
    signer: SoftwareSigner,
    times: Vec<Duration>,
}

impl Floor {
    /// Nothing measured yet.
    pub fn new(tokens: &TokenAuthority) -> Self {
        let config = serde_json::json!({ "issuer": tokens.issuer(), "jwks": tokens.jwks() });
        let config: TokenIssuerConfig = serde_json::from_value(config).unwrap();
        Self {
            issuers: vec![config.try_into().unwrap()],
            signer: SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap().0,
            times: Vec::new(),
        }
    }

    /// Verifies a request and a token, signs and checks the signature, `times` times.
    pub fn measure(&mut self, calls: &Calls, times: usize) {
        let subject = DistinguishedName::new(None, "a name as long as others").unwrap();
        let now = crate::now();
        for n in 0..times {
            let (csr, token) = calls.parts(n);
            let prepared = prepare_request(&subject, self.signer.public_key());
            let began = Instant::now();
            black_box(Csr::parse(csr).unwrap().verify().unwrap());
            black_box(authenticate(token, &self.issuers, now).unwrap());
            let signature = self.signer.sign(prepared.to_be_signed()).unwrap();
            // Sealing checks the signature.
            black_box(prepared.seal(&signature).unwrap());
            self.times.push(began.elapsed());
        }
    }

    /// The median in microseconds.
    pub fn median_us(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    }
}
