//! Authorities in memory: what `pki` prepares, signed by `hsm`, sealed, as the programs do it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, anyhow};
use hsm::{Signer, SoftwareSigner};
use pki::artefact::{Artefact, Prepared};
use pki::certificate::{
    AuthorityRequest, Certificate, Issuer, LeafRequest, Urls, prepare_authority, prepare_leaf,
    prepare_root,
};
use pki::crl::{Crl, CrlRequest, RevokedCertificate, Scope, prepare_crl};
use pki::extension::SubjectNames;
use pki::key::{KeyAlgorithm, PublicKey};
use pki::name::DistinguishedName;
use pki::ocsp::{Responder, ResponseRequest, SingleStatus, prepare_response};
use pki::policy::Grant;
use pki::profile::Profile;
use pki::serial::SERIAL_ENTROPY;
use pki::time::{Timestamp, Ttl};
use ring::rand::{SecureRandom, SystemRandom};

/// The time.
///
/// # Errors
/// When the clock stands before 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "foreign verifiers read the system's clock, so these tests must too"
)]
pub fn now() -> Result<Timestamp> {
    let seconds = std::time::SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Timestamp::from_unix(i64::try_from(seconds.as_secs())?))
}

/// Random octets for a serial number.
///
/// # Errors
/// When the system gives none.
pub fn entropy() -> Result<[u8; SERIAL_ENTROPY]> {
    let mut octets = [0; SERIAL_ENTROPY];
    SystemRandom::new()
        .fill(&mut octets)
        .map_err(|_| anyhow!("no randomness"))?;
    Ok(octets)
}

/// The URLs of a made-up issuer.
#[must_use]
pub fn urls() -> Urls {
    Urls {
        crl: Some("http://ca.example/crl/1".to_owned()),
        ca_issuers: Some("http://ca.example/aia/1".to_owned()),
        ocsp: Some("http://ca.example/ocsp/1".to_owned()),
        freshest_crl: Some("http://ca.example/crl/1/delta".to_owned()),
    }
}

/// An authority with its key and its chain.
#[derive(Clone, Debug)]
pub struct Authority {
    chain: Vec<Certificate>,
    issuer: Issuer,
    signer: Arc<SoftwareSigner>,
    algorithm: KeyAlgorithm,
    urls: Urls,
    now: Timestamp,
}

impl Authority {
    /// A root, made at `now`; everything below it is made then too, with `urls` where not the root's own.
    ///
    /// # Errors
    /// When a key or the certificate cannot be made.
    pub fn root(algorithm: KeyAlgorithm, ttl: Ttl, urls: Urls, now: Timestamp) -> Result<Self> {
        let (signer, _) = SoftwareSigner::generate(algorithm)?;
        let subject = DistinguishedName::new(Some("Signet"), "Root 1")?;
        let request = AuthorityRequest {
            profile: Profile::ROOT,
            subject: &subject,
            key: signer.public_key(),
            path_len: None,
            ttl,
            urls: &Urls::default(),
            entropy: entropy()?,
            now,
        };
        let certificate = sealed(&signer, prepare_root(&request)?)?;
        Self::new(vec![certificate], signer, algorithm, urls, now)
    }

    fn new(
        chain: Vec<Certificate>,
        signer: SoftwareSigner,
        algorithm: KeyAlgorithm,
        urls: Urls,
        now: Timestamp,
    ) -> Result<Self> {
        Ok(Self {
            issuer: Issuer::from_chain(&chain)?,
            chain,
            signer: Arc::new(signer),
            algorithm,
            urls,
            now,
        })
    }

    /// An authority below this one, with a key of the same kind and its profile's lifetime.
    ///
    /// # Errors
    /// When a key or the certificate cannot be made.
    pub fn child(&self, profile: Profile, name: &str, path_len: u8) -> Result<Self> {
        let (signer, _) = SoftwareSigner::generate(self.algorithm)?;
        let subject = DistinguishedName::new(Some("Signet"), name)?;
        let request = AuthorityRequest {
            profile,
            subject: &subject,
            key: signer.public_key(),
            path_len: Some(path_len),
            ttl: profile.default_ttl(),
            urls: &self.urls,
            entropy: entropy()?,
            now: self.now,
        };
        let certificate = sealed(&self.signer, prepare_authority(&request, &self.issuer)?)?;
        let chain = [vec![certificate], self.chain.clone()].concat();
        Self::new(chain, signer, self.algorithm, self.urls.clone(), self.now)
    }

    /// A leaf.
    ///
    /// # Errors
    /// When `pki` does not prepare it.
    pub fn leaf(&self, grant: &Grant, key: &PublicKey) -> Result<Certificate> {
        let urls = match grant.profile.has_revocation() {
            true => self.urls.clone(),
            // RFC 9608 §4.
            false => Urls {
                ca_issuers: self.urls.ca_issuers.clone(),
                ..Urls::default()
            },
        };
        let request = LeafRequest {
            grant,
            key,
            urls: &urls,
            entropy: entropy()?,
            now: self.now,
        };
        sealed(&self.signer, prepare_leaf(&request, &self.issuer)?)
    }

    /// A CRL of seven days.
    ///
    /// # Errors
    /// When `pki` does not prepare it.
    pub fn crl(&self, number: u64, revoked: &[RevokedCertificate]) -> Result<Crl> {
        self.crl_of(Scope::COMPLETE, number, revoked)
    }

    /// The same, of another scope.
    ///
    /// # Errors
    /// When `pki` does not prepare it.
    pub fn crl_of(
        &self,
        scope: Scope<'_>,
        number: u64,
        revoked: &[RevokedCertificate],
    ) -> Result<Crl> {
        let request = CrlRequest {
            scope,
            number,
            this_update: self.now,
            next_update: self.now.plus(Ttl::days(7)),
            revoked,
        };
        sealed(&self.signer, prepare_crl(&request, &self.issuer)?)
    }

    /// An OCSP response of four hours, by a responder that this authority delegates to.
    ///
    /// # Errors
    /// When `pki` does not prepare it.
    pub fn ocsp(&self, statuses: &[SingleStatus<'_>], nonce: Option<&[u8]>) -> Result<Vec<u8>> {
        let (signer, _) = SoftwareSigner::generate(self.algorithm)?;
        let grant = Grant {
            profile: Profile::OCSP_RESPONDER,
            names: SubjectNames::default(),
            subject: Some(DistinguishedName::new(Some("Signet"), "OCSP")?),
            ttl: Profile::OCSP_RESPONDER.default_ttl(),
            rule: "test".to_owned(),
        };
        let bare = Self {
            urls: Urls::default(),
            ..self.clone()
        };
        let certificate = bare.leaf(&grant, signer.public_key())?;
        let responder = Responder::delegated(&certificate, self.issuer.key())?;
        let request = ResponseRequest {
            produced_at: self.now,
            this_update: self.now,
            next_update: self.now.plus(Ttl::hours(4)),
            statuses,
            nonce,
        };
        let response = sealed(&signer, prepare_response(&request, &responder)?)?;
        Ok(response.to_response_der())
    }

    /// Its own certificate first, its root last.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// It as an issuer.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The time at which it and what is below it were made.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

fn sealed<T: Artefact>(signer: &SoftwareSigner, prepared: Prepared<T>) -> Result<T> {
    let signature = signer.sign(prepared.to_be_signed())?;
    prepared.seal(&signature).context("sealing")
}
