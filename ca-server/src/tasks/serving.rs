//! The server's own certificate: issued by its own authority, renewed at half its life, when it is revoked and whenever the
//! authority changes, put in force without a restart.

use std::sync::Arc;
use std::time::Duration;

use pki::extension::SubjectNames;
use pki::name::{AuthorityId, ClusterName};
use pki::serial::Serial;
use pki::time::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::state::Snapshot;
use crate::app::{App, Error};
use crate::config::Config;
use crate::serve::{ServingIdentity, TlsSettings};

/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How often the certificate's age is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The serving certificate in force, and the listeners that show it.
pub struct Serving {
    app: Arc<App>,
    home: ClusterName,
    config: watch::Receiver<Config>,
    names: SubjectNames,
    issue: Arc<TlsSettings>,
    admin: Arc<TlsSettings>,
    identity: ServingIdentity,
    authority: AuthorityId,
    serial: Serial,
    renew_at: Timestamp,
}

impl Serving {
    /// Waits until the home cluster has an active authority, and has it issue the first certificate.
    ///
    /// # Errors
    /// When TLS cannot be set up with it.
    pub async fn first(app: Arc<App>, mut config: watch::Receiver<Config>) -> Result<Self, Error> {
        let (home, mut names) = {
            let config = config.borrow_and_update();
            (config.home_cluster.clone(), config.names.clone())
        };
        let mut changes = app.changes();
        let mut told = false;
        let issued = loop {
            match issue(&app, &home, &names).await {
                Ok(issued) => break issued,
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(cluster.id = %home, error = %error.detail(), "no serving certificate yet: issue and admin do not listen");
                }
                Err(_) => {}
            }
            // Woken by a change, or a little later when the store was away.
            let _ = tokio::time::timeout(RETRY, changes.changed()).await;
            names = config.borrow_and_update().names.clone();
        };
        let snapshot = app.snapshot();
        let Issued {
            identity,
            authority,
            serial,
            renew_at,
        } = issued;
        let issue = TlsSettings::new(&identity, &snapshot).map_err(Error::internal)?;
        let admin = TlsSettings::new(&identity, &snapshot).map_err(Error::internal)?;
        drop(snapshot);
        Ok(Self {
            issue: Arc::new(issue),
            admin: Arc::new(admin),
            app,
            home,
            config,
            names,
            identity,
            authority,
            serial,
            renew_at,
        })
    }

    /// TLS of the `issue` listener.
    #[must_use]
    pub fn issue_tls(&self) -> Arc<TlsSettings> {
        self.issue.clone()
    }

    /// TLS of the `admin` listener.
    #[must_use]
    pub fn admin_tls(&self) -> Arc<TlsSettings> {
        self.admin.clone()
    }

    /// Renews until `stop`. A renewal that fails leaves the certificate that is in force, and is tried again.
    pub async fn keep(mut self, stop: CancellationToken) {
        let mut changes = self.app.changes();
        let mut revised = self.app.status().revised();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = revised.changed() => {
                    if !self.is_revoked() {
                        continue;
                    }
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Ok(()) = self.config.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(error = %error.detail(), "the serving certificate stays as it is");
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), Error> {
        let snapshot = self.app.snapshot().clone();
        let names = self.config.borrow_and_update().names.clone();
        if names != self.names || self.is_due(&snapshot)? {
            let issued = issue(&self.app, &self.home, &names).await?;
            (self.identity, self.authority) = (issued.identity, issued.authority);
            (self.serial, self.renew_at) = (issued.serial, issued.renew_at);
            self.names = names;
        }
        // Client trust may have changed even when the certificate has not.
        self.issue
            .replace(&self.identity, &snapshot)
            .map_err(Error::internal)?;
        self.admin
            .replace(&self.identity, &snapshot)
            .map_err(Error::internal)
    }

    fn is_due(&self, snapshot: &Snapshot) -> Result<bool, Error> {
        let active = snapshot
            .clusters
            .get(&self.home)
            .and_then(|cluster| cluster.active.as_ref());
        let now = self.app.context().clock.trusted_now()?;
        Ok(now >= self.renew_at
            || active.is_some_and(|active| active.id != self.authority)
            || self.is_revoked())
    }

    fn is_revoked(&self) -> bool {
        self.app
            .status()
            .is_revoked_itself(&self.authority, &self.serial)
    }
}

/// A certificate in force, and what its renewal hangs on.
struct Issued {
    identity: ServingIdentity,
    authority: AuthorityId,
    serial: Serial,
    renew_at: Timestamp,
}

async fn issue(app: &App, home: &ClusterName, names: &SubjectNames) -> Result<Issued, Error> {
    let (issued, key) = app.issue_serving(home, names).await?;
    let certificate = &issued.certificate;
    let half = certificate
        .not_after()
        .seconds_since(certificate.not_before())
        / 2;
    let renew_at = Timestamp::from_unix(certificate.not_before().unix() + half);
    app.metrics().set_serving(certificate.not_after());
    let mut chain = vec![certificate.der().to_vec()];
    let above = &issued.authority.chain;
    chain.extend(
        above[..above.len().saturating_sub(1)]
            .iter()
            .map(|ca| ca.der().to_vec()),
    );
    tracing::info!(cert.serial = %certificate.serial(), not_after = %certificate.not_after(), "serving certificate in force");
    Ok(Issued {
        identity: ServingIdentity { chain, key },
        authority: issued.authority.id.clone(),
        serial: certificate.serial(),
        renew_at,
    })
}
