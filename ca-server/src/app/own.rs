//! The server's own certificates, by its own authorities: for its listeners, and for answering OCSP.

use std::sync::Arc;

use hsm::{Signer, SoftwareSigner};
use pki::certificate::Certificate;
use pki::csr::{VerifiedCsr, prepare_request};
use pki::extension::SubjectNames;
use pki::key::KeyAlgorithm;
use pki::name::{ClusterName, DistinguishedName};
use pki::policy::{AskedTtl, Grant};
use pki::profile::Profile;
use zeroize::Zeroizing;

use super::issue::{Asked, IssuedCertificate, no_authority, not_recorded, record, sign_by};
use super::signing::Key;
use super::state::{Authority, Cluster};
use super::{App, Error};

/// A key of the server's own, and its possession proven.
struct OwnKey {
    key: Key,
    pkcs8: Zeroizing<Vec<u8>>,
    csr: VerifiedCsr,
}

async fn own_key(name: &str) -> Result<OwnKey, Error> {
    let (signer, pkcs8) =
        SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).map_err(Error::internal)?;
    let subject = DistinguishedName::new(None, name).map_err(Error::internal)?;
    let prepared = prepare_request(&subject, signer.public_key());
    let key = Key::in_memory(signer);
    let request = key.seal(prepared).await?;
    let csr = VerifiedCsr::parse(request.der()).map_err(Error::internal)?;
    Ok(OwnKey { key, pkcs8, csr })
}

fn asked<'a>(cluster: &'a ClusterName, request_id: &'static str) -> Asked<'a> {
    Asked {
        cluster,
        kind: "server",
        caller: "ca-server".to_owned(),
        detail: None,
        ttl: AskedTtl::Default,
        request_id,
    }
}

impl App {
    fn cluster(&self, name: &ClusterName) -> Result<Arc<Cluster>, Error> {
        let snapshot = self.snapshot();
        snapshot
            .clusters
            .get(name)
            .cloned()
            .ok_or_else(|| no_authority(name))
    }

    /// Issues the server's own certificate for `names` from `home`'s authority, with the PKCS#8 of its new key.
    ///
    /// # Errors
    /// When no authority can sign, or the store does not record it.
    pub async fn issue_serving(
        &self,
        home: &ClusterName,
        names: &SubjectNames,
    ) -> Result<(IssuedCertificate, Zeroizing<Vec<u8>>), Error> {
        let cluster = self.cluster(home)?;
        let active = cluster.active.clone().ok_or_else(|| no_authority(home))?;
        let key = own_key("ca-server").await?;
        let grant = Grant {
            profile: Profile::SERVING,
            names: names.clone(),
            subject: None,
            ttl: Profile::SERVING.default_ttl(),
            rule: "serving".to_owned(),
        };
        let now = self.context.clock.trusted_now()?;
        let snapshot = self.snapshot.load_full();
        let (context, csr) = (&self.context, &key.csr);
        let issued = sign_by(context, &snapshot, &active, &grant, csr, &cluster, now).await?;
        let record = record(asked(home, "serving"), &key.csr, &grant, &issued, now)?;
        self.recorder.record(record).await.map_err(not_recorded)?;
        Ok((issued, key.pkcs8))
    }

    /// Issues a certificate for answering OCSP for `authority`, to a new key that lives in this process alone. A revoked
    /// authority gets one too: someone has to say that everything of its is revoked.
    ///
    /// # Errors
    /// When the authority cannot sign, or the store does not record it.
    pub(super) async fn issue_responder(
        &self,
        authority: &Arc<Authority>,
    ) -> Result<(Certificate, Key), Error> {
        let cluster = self.cluster(&authority.cluster)?;
        let name = format!("OCSP {}", authority.id);
        let name = super::authority::short(&name);
        let subject = DistinguishedName::new(None, name).map_err(Error::internal)?;
        let key = own_key(name).await?;
        let grant = Grant {
            profile: Profile::OCSP_RESPONDER,
            names: SubjectNames::default(),
            subject: Some(subject),
            ttl: Profile::OCSP_RESPONDER.default_ttl(),
            rule: "ocsp-responder".to_owned(),
        };
        let now = self.context.clock.trusted_now()?;
        let snapshot = self.snapshot.load_full();
        let (context, csr) = (&self.context, &key.csr);
        let issued = sign_by(context, &snapshot, authority, &grant, csr, &cluster, now).await?;
        let record = record(
            asked(&authority.cluster, "ocsp-responder"),
            &key.csr,
            &grant,
            &issued,
            now,
        )?;
        let recorded = self.context.store.record_responder(&record).await;
        recorded.map_err(not_recorded)?;
        Ok((issued.certificate, key.key))
    }
}
